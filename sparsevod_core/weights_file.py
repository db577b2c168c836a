"""Reading of weights files without running code in them, with errors that name the problem.

A file may come from anyone. It makes no objects but numbers, text, containers and dense tensors,
and takes memory for little more than its own size. numpy's scalars become Python's, and its dtypes
text.
"""

from __future__ import annotations

import math
import re
import shlex
import threading
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from sparsevod_core.errors import CheckpointError
from sparsevod_core.input_file import require_regular_file
from sparsevod_core.numpy_scalars import NUMPY_SCALARS, NumpyDtype, ScalarError

ZIP_START = b"PK\x03\x04"  # files of torch.save
PICKLE_START = b"\x80"  # files of torch.save before PyTorch 1.6

MAX_RECORDS = 100_000  # tensors; the largest supported model has about 2,000
# Names and numbers. The same model's take 300 KB; as objects, they may take 64 times as much.
MAX_PICKLE_BYTES = 2**24
MAX_DEPTH = 20  # nested containers
# Tensors may share memory, which is then copied: up to 4 times the size of the file, and 1 GiB.
MAX_SHARING, FREE_BYTES = 4, 2**30
MAX_WEIGHT = 1e10  # products of larger ones leave the range of float32

_loading = threading.Lock()  # torch keeps the allowed names of all threads in one place


def read_weights(path: Path) -> Any:
    """Return the containers, numbers and tensors of a PyTorch file, with tensors on the CPU.

    Files with other pickled objects are refused; no such object is created.

    Raises:
        CheckpointError: missing, empty, truncated, corrupt, not a PyTorch file, unsafe, or with
            compressed records, sparse or quantized tensors.
    """
    start = _first_bytes(path)
    is_archive = start.startswith(ZIP_START)
    if is_archive:
        _require_intact_archive(path)
    elif not start.startswith(PICKLE_START):
        raise CheckpointError(f"{path}: not a PyTorch file: it starts with {start!r}")
    try:
        with (
            _loading,
            torch.serialization.safe_globals(NUMPY_SCALARS),
            warnings.catch_warnings(),  # about pickle protocols, for developers of torch
        ):
            warnings.simplefilter("ignore", UserWarning)
            loaded = _load_archive(path) if is_archive else _load_old_format(path)
        return _Copier(MAX_SHARING * path.stat().st_size + FREE_BYTES).copy(loaded, "")
    except (_NotPlainError, ScalarError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # torch and pickle may raise anything on arbitrary bytes
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        if blocked:
            raise _unsafe(path, blocked[1]) from error
        if not is_archive:
            raise _corrupt(path) from error
        reason = str(error).partition("\n")[0][:160]
        raise CheckpointError(f"{path}: cannot read weights: {reason}") from error


def require_finite(path: Path | str, weights: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if a weight is not a finite number of a useful size."""
    for name, value in weights.items():
        if value.is_floating_point() and value.numel():
            # NaN propagates; aminmax does not support all small types.
            low, high = (value.float() if value.itemsize < 4 else value).aminmax()
            largest = float(torch.maximum(-low, high))
            if not largest <= MAX_WEIGHT:
                too_large = f", more than {MAX_WEIGHT:g}" if math.isfinite(largest) else ""
                raise CheckpointError(
                    f"{path}: the weights are not finite: {name} contains {largest:g}{too_large}",
                    hint="its training has diverged: use an earlier checkpoint",
                )


# torch trusts the sizes in a file: it grows or exceeds the memory of a tensor that is smaller than
# stated. Here, this memory has a fixed size.


def _load_archive(path: Path) -> Any:
    return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)


def _load_old_format(path: Path) -> Any:
    """Load a file of torch.save before PyTorch 1.6: pickles, then the bytes of all tensors."""
    left = path.stat().st_size
    num_storages = 0

    def fixed_storage(stated: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
        nonlocal left, num_storages
        left -= stated.nbytes()  # memory that was asked for, but not touched
        num_storages += 1
        if left < 0 or num_storages > MAX_RECORDS:
            raise ValueError("the tensors are larger than the file, or too many")
        return torch.from_numpy(np.zeros(stated.nbytes(), np.uint8)).untyped_storage()

    with path.open("rb") as file:
        opened: Any = _OldFormat(file)
        to_fixed: Any = fixed_storage  # of another type than torch states, which it calls it with
        return torch.load(opened, map_location=to_fixed, weights_only=True)


class _OldFormat:
    """A file in the old format, which has no size for names and numbers: these are counted.

    torch reads them with `read` and `readline`, and the bytes of tensors with `readinto`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = MAX_PICKLE_BYTES
        self.seek, self.tell, self.readinto = file.seek, file.tell, file.readinto  # type: ignore[attr-defined]

    def read(self, size: int = -1) -> bytes:
        return self._counted(self._file.read(min(size, self._left) if size >= 0 else self._left))

    def readline(self) -> bytes:
        return self._counted(self._file.readline(self._left))

    def _counted(self, content: bytes) -> bytes:
        self._left -= len(content)
        if self._left <= 0:
            raise ValueError(f"more than {MAX_PICKLE_BYTES:,} bytes of names and numbers")
        return content


class _NotPlainError(Exception):
    """Contents of a file that no checkpoint has."""


class _Copier:
    """Copies the contents of a file into memory that belongs to nothing else."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def copy(self, value: Any, name: str, depth: int = 0) -> Any:
        """Return a copy of `value`, called `name` in errors.

        Raises:
            _NotPlainError: tensors that are not dense, or more contents than the file can hold.
        """
        if depth > MAX_DEPTH:
            raise _NotPlainError(f"expected at most {MAX_DEPTH} nested containers, got more")
        if isinstance(value, Tensor):
            return self._tensor(value, name)
        if isinstance(value, Mapping):
            return {key: self.copy(item, str(key), depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            copies = [self.copy(item, name, depth + 1) for item in value]
            return copies if isinstance(value, list) else tuple(copies)
        if isinstance(value, NumpyDtype):
            return self.copy(value.code, name, depth + 1)
        return value

    def _tensor(self, value: Tensor, name: str) -> Tensor:
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise _NotPlainError(f"expected dense tensors of numbers, got another kind: {name}")
        if value.device.type != "cpu":
            raise _NotPlainError(f"expected tensors with data, got one without: {name}")
        self._left -= value.nbytes
        if self._left < 0:
            raise _NotPlainError(f"the tensors are much larger than the file: {name}")
        return value.detach().clone()


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(
            f"{path}: expected a checkpoint file, got a folder",
            _suggestion(path, path / "checkpoints"),
        )
    require_regular_file(path, CheckpointError)
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint", _suggestion(path.parent)) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path}: empty file", _suggestion(path.parent, without=path))
    return start


def _require_intact_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            _require_records_of_torch(path, archive.infolist())
            # torch does not verify the checksums that it writes, and loads flipped bits.
            corrupt = archive.testzip()
    except CheckpointError:
        raise
    except Exception as error:  # zipfile raises errors of many kinds on arbitrary bytes
        raise _corrupt(path) from error
    if corrupt is not None:
        raise _corrupt(path)


def _require_records_of_torch(path: Path, records: Sequence[zipfile.ZipInfo]) -> None:
    names = [record.filename for record in records]
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path}: expected a checkpoint, got a TorchScript archive")
    pickles = [record for record in records if record.filename.endswith("/data.pkl")]
    if not pickles:
        raise CheckpointError(
            f"{path}: not a PyTorch file: an archive of {', '.join(names[:3]) or 'nothing'}"
        )
    # torch.save does not compress. The records of a bomb are compressed, or overlap.
    is_packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    num_bytes = sum(record.file_size for record in records)
    if is_packed or num_bytes > path.stat().st_size:
        raise CheckpointError(f"{path}: not a PyTorch file: its records are compressed or overlap")
    if len(records) > MAX_RECORDS or any(one.file_size > MAX_PICKLE_BYTES for one in pickles):
        raise CheckpointError(
            f"{path}: expected at most {MAX_RECORDS:,} tensors and {MAX_PICKLE_BYTES:,} bytes of "
            "names and numbers, got more"
        )


def _corrupt(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: truncated or corrupt",
        _suggestion(path.parent, without=path) or "copy or download it again",
    )


def _suggestion(*folders: Path, without: Path | None = None) -> str | None:
    """Return a hint that names the newest checkpoint in the folders."""
    files = [file for folder in folders for file in folder.glob("*.pth") if file != without]
    if not files:
        return None
    return f"the newest checkpoint there is {max(files, key=lambda file: file.stat().st_mtime)}"


def _unsafe(path: Path, what: str) -> CheckpointError:
    code = (
        "import sys, torch; f = sys.argv[1]; "
        "d = torch.load(f, map_location='cpu', weights_only=False); "
        "torch.save({'state_dict': d.get('state_dict', d.get('model', d))}, f + '.clean.pth')"
    )
    return CheckpointError(
        f"{path}: contains {what} besides weights, refused because loading it could run any code",
        "if you trust the file, save only its weights and use the new file: "
        f'python -c "{code}" {shlex.quote(str(path))}',
    )
