"""Opens a weights file without running anything in it, and says what is wrong with one."""

from __future__ import annotations

import re
import shlex
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from sparsevod_core.errors import CheckpointError

ZIP_START = b"PK\x03\x04"  # what torch.save writes
PICKLE_START = b"\x80"  # what it wrote before PyTorch 1.6


def read_weights(path: Path) -> Any:
    """The containers, numbers and tensors in a PyTorch file, tensors on the CPU.

    Pickled objects are never made: a file that holds any is refused.

    Raises:
        CheckpointError: missing, empty, truncated, damaged, not a PyTorch file, or unsafe.
    """
    start = _first_bytes(path)
    is_archive = start.startswith(ZIP_START)
    if is_archive:
        _require_intact_archive(path)
    elif not start.startswith(PICKLE_START):
        raise CheckpointError(f"{path}: not a PyTorch file: it starts with {start!r}")
    try:
        with warnings.catch_warnings():  # of pickle protocols, to the developers of torch
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise nearly anything on bytes of others
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        if blocked:
            raise _unsafe(path, blocked[1]) from error
        if not is_archive:
            raise _damaged(path) from error
        reason = str(error).partition("\n")[0][:160]
        raise CheckpointError(f"{path}: cannot be read as weights: {reason}") from error


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(
            f"{path}: a folder, expected a checkpoint file", _offer(path, path / "checkpoints")
        )
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint", _offer(path.parent)) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if not start:
        raise CheckpointError(f"{path}: empty file", _offer(path.parent, without=path))
    return start


def _require_intact_archive(path: Path) -> None:
    # torch takes tensors with flipped bits: it does not look at the checksums that it writes.
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise _damaged(path) from error
    if broken is not None:
        raise _damaged(path)
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path}: a TorchScript archive, expected a checkpoint")
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(
            f"{path}: not a PyTorch file: an archive of {', '.join(names[:3]) or 'nothing'}"
        )


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: truncated or damaged",
        _offer(path.parent, without=path) or "copy or download it again",
    )


def _offer(*folders: Path, without: Path | None = None) -> str | None:
    """The newest checkpoint in the folders, as a hint."""
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
        f"{path}: holds {what} beside its weights; loading that could run any code, so it was not",
        "save its weights alone, where it was made or where you trust it, "
        f'and use the new file: python -c "{code}" {shlex.quote(str(path))}',
    )
