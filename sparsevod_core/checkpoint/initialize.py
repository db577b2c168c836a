"""Initialization of a detector from the checkpoint of another, e.g. one with other classes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.checkpoint.file import load_checkpoint
from sparsevod_core.checkpoint.init_report import InitReport
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category
from sparsevod_core.weights.by_name import checkpoint_file

Layer = Mapping[str, Tensor]


def initialize_from(
    detector: VideoDetector,
    path: Path | str,
    categories: Sequence[Category] | None = None,
    reporter: Reporter | None = None,
) -> InitReport:
    """Load into `detector` the layers that fit by name and shape; the others do not change.

    A layer is loaded completely or not at all. Class layers are the exception: if `categories` are
    given, each class is initialized from the rows of the class of the same name, and the background
    from the background.

    Args:
        detector: the detector to initialize.
        path: path of the checkpoint, or the name of published weights.
        categories: categories of the detector in label order; None: labels are the same.
        reporter: receives the progress of a download.

    Raises:
        CheckpointError: see `load_checkpoint`; or no layer of the head fits.
    """
    checkpoint = load_checkpoint(checkpoint_file(path, reporter, is_start=True))
    ours, theirs = _layers(detector.state_dict()), _layers(checkpoint.model)
    rows = _shared_rows(checkpoint.categories, categories)
    initial: dict[str, Tensor] = {}
    skipped: list[str] = []
    for layer, weights in theirs.items():
        own = ours.get(layer, {})
        size = _rows_per_class(layer)
        if size and rows is not None and _same_width(own, weights):
            if rows:
                counts = (len(categories or ()), len(checkpoint.categories))
                initial.update(_with_rows(own, weights, [*rows, counts], size))
            else:
                skipped += [f"{name}: no class of the same name" for name in weights]
        elif own.keys() == weights.keys() and _shapes(own) == _shapes(weights):
            initial.update(weights)
        else:
            skipped += [f"{name}: {_misfit(name, own, weights)}" for name in weights]
    origin = f"{path} ({checkpoint.summary})"
    if not any(_is_of_head(name) and value.dim() > 1 for name, value in initial.items()):
        raise _nothing_fits(origin, checkpoint, skipped)
    detector.load_state_dict(initial, strict=False)
    loaded_labels = {new for new, _ in rows} if rows else set(range(len(categories or ())))
    return InitReport(
        origin=origin,
        loaded=list(initial),
        skipped=[*skipped, *(f"{name}: unknown" for name in checkpoint.unknown)],
        new=[name for layer in ours.values() for name in layer if name not in initial],
        new_classes=[
            c.name for label, c in enumerate(categories or ()) if label not in loaded_labels
        ],
    )


def _layers(state: Layer) -> dict[str, dict[str, Tensor]]:
    """Group weights by the module that owns them."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in state.items():
        layers[name.rpartition(".")[0]][name] = value
    return layers


def _is_of_head(name: str) -> bool:
    return not name.startswith(("backbone.", "proposals."))


def _rows_per_class(layer: str) -> int:
    """Return the number of rows of each class in a class layer, 0 for another layer.

    Only two-stage detectors predict a box for each class. The background is the last row, if it has
    one.
    """
    if re.search(r"\bclass_logits(\.\d+)?$", layer):
        return 1
    return 4 if re.search(r"\bbox_deltas$", layer) and not re.match(r"stages\.\d", layer) else 0


def _shared_rows(
    theirs: Sequence[Category], ours: Sequence[Category] | None
) -> list[tuple[int, int]] | None:
    """Return (our label, their label) of each shared class, or None if all labels are the same."""
    if ours is None or [c.name for c in ours] == [c.name for c in theirs]:
        return None
    label_of = {category.name: label for label, category in enumerate(theirs)}
    return [(new, label_of[c.name]) for new, c in enumerate(ours) if c.name in label_of]


def _with_rows(
    own: Layer, weights: Layer, rows: Sequence[tuple[int, int]], size: int
) -> dict[str, Tensor]:
    """Return our class layer with `size` rows of their layer for each pair of labels.

    The background's pair is beyond the end of a layer that has none.
    """
    mixed = {name: value.clone() for name, value in own.items()}
    for name, value in mixed.items():
        for new, old in rows:
            theirs = weights[name][old * size : (old + 1) * size]
            if len(theirs) and len(value) > new * size:
                value[new * size : (new + 1) * size] = theirs
    return mixed


def _same_width(own: Layer, weights: Layer) -> bool:
    return own.keys() == weights.keys() and all(
        own[name].shape[1:] == weights[name].shape[1:] for name in own
    )


def _shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in layer.items()}


def _misfit(name: str, own: Layer, weights: Layer) -> str:
    if not own:
        return "not in this detector"
    if own.keys() != weights.keys():
        return "layer of another kind"
    if own[name].shape == weights[name].shape:
        return "the rest of its layer does not fit"
    return f"{list(weights[name].shape)} → {list(own[name].shape)}"


def _nothing_fits(origin: str, checkpoint: Checkpoint, skipped: Sequence[str]) -> CheckpointError:
    first = next((entry for entry in skipped if _is_of_head(entry)), "it has no head")
    model = checkpoint.config.model
    sizes = {"model.channels": model.channels}
    if model.system == "sparsevod":
        sizes |= {"model.dynamic_dim": model.dynamic_dim, "model.ffn_dim": model.ffn_dim}
    elif model.system == "transvod":
        sizes["model.ffn_dim"] = model.ffn_dim
    else:
        sizes["model.faster_rcnn.head_dim"] = model.faster_rcnn.head_dim
    return CheckpointError(
        f"{origin}: no layer of its head fits this detector, e.g. {first}",
        f"use the system and sizes of the checkpoint: --system {model.system} "
        + " ".join(f"--set {key}={size}" for key, size in sizes.items()),
    )
