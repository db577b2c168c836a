"""Saving of checkpoints, each complete or absent, and loading, from any supported project."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.checkpoint.foreign import from_foreign, state_dict_in
from sparsevod_core.config import config_from_dict
from sparsevod_core.errors import CheckpointError, SparseVodError
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.unfinished import writing_bytes
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category
from sparsevod_core.weights.by_name import checkpoint_file
from sparsevod_core.weights_file import read_weights, require_finite

VERSION = 1
FORMAT_PREFIX = "sparsevod/"
KEYS = ("config", "categories", "model", "training")
PLAIN_VALUES = (type(None), bool, int, float, str)


def save_checkpoint(path: Path | str, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to disk and then give it its name, so that the file is always complete.

    Raises:
        CheckpointError: `training` has objects that weights-only loading refuses.
        DataError: The file cannot be written.
    """
    path = Path(path)
    contents = {
        "format": f"{FORMAT_PREFIX}{VERSION}",
        "config": checkpoint.config.to_dict(),
        "categories": [{"id": c.id, "name": c.name} for c in checkpoint.categories],
        "model": {name: value.detach().cpu() for name, value in checkpoint.model.items()},
        "training": checkpoint.training,
        "run": checkpoint.run,
    }
    _require_plain(contents, "checkpoint")
    try:
        with writing_bytes(path) as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch raises a RuntimeError
        raise cannot_write(path, error) from error


def load_checkpoint(path: Path | str, reporter: Reporter | None = None) -> Checkpoint:
    """Load a checkpoint of ours, or of another project (`checkpoint.foreign`).

    Args:
        path: path of the file, or the name of published weights, see `checkpoint_file`.
        reporter: receives the progress of a download.

    Raises:
        CheckpointError: missing, corrupt, unsafe, of a newer version, of another model, or with
            weights that are not finite; or see `checkpoint_file`.
        DataError: see `checkpoint_file`.
    """
    path = checkpoint_file(path, reporter)
    contents = read_weights(path)
    try:
        checkpoint = _from_ours(contents) or from_foreign(contents)
    except SparseVodError as error:
        raise CheckpointError(f"{path}: {error.message}", error.hint) from error
    if checkpoint is None:
        raise CheckpointError(
            f"{path}: expected a checkpoint of SparseVOD, of MMTracking (SELSA, Temporal RoI "
            "Align, FGFA), or of a Sparse R-CNN of MMDetection or its authors, "
            f"got {_description(contents)}",
            _other_use(contents),
        )
    require_finite(path, checkpoint.model)
    return checkpoint


def _from_ours(contents: Any) -> Checkpoint | None:
    if not isinstance(contents, Mapping):
        return None
    written_as = contents.get("format")
    if not isinstance(written_as, str) or not written_as.startswith(FORMAT_PREFIX):
        return None
    if written_as != f"{FORMAT_PREFIX}{VERSION}":
        raise CheckpointError(
            f"expected format {FORMAT_PREFIX}{VERSION}, got {written_as}",
            hint="a newer version of SparseVOD wrote it: update this one",
        )
    missing = [key for key in KEYS if key not in contents]
    if missing:
        raise CheckpointError(f"SparseVOD checkpoint without {', '.join(missing)}")
    model = contents["model"]
    if not isinstance(model, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in model.items()
    ):
        raise CheckpointError("SparseVOD checkpoint whose model is not a dict of tensors")
    parts = {"training": contents["training"], "run": contents.get("run")}  # older ones lack a run
    for name, part in parts.items():
        if not isinstance(part, dict | None):
            raise CheckpointError(f"SparseVOD checkpoint whose {name} is not a dict")
    categories, config = _categories(contents["categories"]), config_from_dict(contents["config"])
    return Checkpoint(config, categories, model, **parts)


def _categories(records: Any) -> tuple[Category, ...]:
    if not isinstance(records, list | tuple):
        raise CheckpointError("SparseVOD checkpoint whose categories are not a list")
    categories = []
    for record in records:
        number, name = map(record.get, ("id", "name")) if isinstance(record, dict) else (None, None)
        if type(number) is not int or abs(number) >= 2**63 or not isinstance(name, str):
            raise CheckpointError(
                "SparseVOD checkpoint with a category without a number `id` and a text `name`"
            )
        categories.append(Category(number, name))
    return tuple(categories)


def _description(contents: Any) -> str:
    if isinstance(contents, Tensor):
        return f"one tensor of shape {list(contents.shape)}"
    if not isinstance(contents, Mapping):
        return f"a {type(contents).__name__}"
    names = [str(name) for name in state_dict_in(contents)]
    return f"{len(names)} entries ({', '.join(names[:4])}{', ...' if names[4:] else ''})"


def _other_use(contents: Any) -> str | None:
    if isinstance(contents, Mapping) and "layer4.0.conv1.weight" in state_dict_in(contents):
        return "to train with these ResNet weights, use --set train.backbone_weights=FILE"
    return None


def _require_plain(value: Any, where: str) -> None:
    """Refuse now what `weights_only` loading would refuse when the checkpoint is needed."""
    # Exact types, because numpy's float64 is a subclass of float and a namedtuple of tuple.
    if type(value) in (dict, OrderedDict):
        for key, entry in value.items():
            _require_plain(key, f"a key of {where}")
            _require_plain(entry, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for position, entry in enumerate(value):
            _require_plain(entry, f"{where}[{position}]")
    elif type(value) not in PLAIN_VALUES and not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise CheckpointError(
            f"cannot save {where} of type {kind}: expected tensors, numbers, text, and plain "
            "dicts, lists and tuples of them"
        )


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
