"""Reading of weights files without running code in them, with errors that name the problem."""

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

ZIP_START = b"PK\x03\x04"  # files of torch.save
PICKLE_START = b"\x80"  # files of torch.save before PyTorch 1.6


def read_weights(path: Path) -> Any:
    """Return the containers, numbers and tensors of a PyTorch file, with tensors on the CPU.

    Files with other pickled objects are refused; no such object is created.

    Raises:
        CheckpointError: missing, empty, truncated, corrupt, not a PyTorch file, or unsafe.
    """
    start = _first_bytes(path)
    is_archive = start.startswith(ZIP_START)
    if is_archive:
        _require_intact_archive(path)
    elif not start.startswith(PICKLE_START):
        raise CheckpointError(f"{path}: not a PyTorch file: it starts with {start!r}")
    try:
        with warnings.catch_warnings():  # about pickle protocols, for developers of torch
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle may raise anything on arbitrary bytes
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        if blocked:
            raise _unsafe(path, blocked[1]) from error
        if not is_archive:
            raise _corrupt(path) from error
        reason = str(error).partition("\n")[0][:160]
        raise CheckpointError(f"{path}: cannot read weights: {reason}") from error


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(
            f"{path}: expected a checkpoint file, got a folder",
            _suggestion(path, path / "checkpoints"),
        )
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
    # torch does not verify the checksums that it writes, and loads tensors with flipped bits.
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            corrupt = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise _corrupt(path) from error
    if corrupt is not None:
        raise _corrupt(path)
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"{path}: expected a checkpoint, got a TorchScript archive")
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(
            f"{path}: not a PyTorch file: an archive of {', '.join(names[:3]) or 'nothing'}"
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
