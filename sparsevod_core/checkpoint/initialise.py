"""Starts a detector from the checkpoint of another: other classes, TFE and SPFA added."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sparsevod_core.checkpoint.contents import SOURCE_NAMES, Checkpoint
from sparsevod_core.checkpoint.file import load_checkpoint
from sparsevod_core.checkpoint.init_report import InitReport
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.structures import Category

Layer = Mapping[str, Tensor]


def initialise_from(
    detector: SparseVOD, path: Path | str, categories: Sequence[Category] | None = None
) -> InitReport:
    """Load into `detector` what fits it by name and shape; the rest of it stays as it is.

    A layer is loaded whole or not at all, except for the class layers: with `categories` (those of
    the detector, in label order) a class starts from the row of the class of the same name.

    Raises:
        CheckpointError: as `load_checkpoint`; or no layer of the head fits.
    """
    checkpoint = load_checkpoint(path)
    ours, theirs = _layers(detector.state_dict()), _layers(checkpoint.model)
    rows = _shared_rows(checkpoint.categories, categories)
    start: dict[str, Tensor] = {}
    skipped: list[str] = []
    for layer, weights in theirs.items():
        own = ours.get(layer, {})
        if _is_class_layer(layer) and rows is not None and _same_width(own, weights):
            if rows:
                start.update(_with_rows(own, weights, rows))
            else:
                skipped += [f"{name}: no class of the same name" for name in weights]
        elif own.keys() == weights.keys() and _shapes(own) == _shapes(weights):
            start.update(weights)
        else:
            skipped += [f"{name}: {_misfit(name, own, weights)}" for name in weights]
    origin = (
        f"{path} ({SOURCE_NAMES[checkpoint.source]}, {checkpoint.config.model.num_classes} classes)"
    )
    if not any(name.startswith("stages.") and value.dim() > 1 for name, value in start.items()):
        raise _nothing_fits(origin, checkpoint, skipped)
    detector.load_state_dict(start, strict=False)
    known = {new for new, _ in rows} if rows else set(range(len(categories or ())))
    return InitReport(
        origin=origin,
        loaded=list(start),
        skipped=[*skipped, *(f"{name}: unknown" for name in checkpoint.unknown)],
        new=[name for layer in ours.values() for name in layer if name not in start],
        new_classes=[c.name for label, c in enumerate(categories or ()) if label not in known],
    )


def _layers(state: Layer) -> dict[str, dict[str, Tensor]]:
    """Weights by the module that owns them."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, value in state.items():
        layers[name.rpartition(".")[0]][name] = value
    return layers


def _is_class_layer(layer: str) -> bool:
    return layer.endswith(".class_logits")


def _shared_rows(
    theirs: Sequence[Category], ours: Sequence[Category] | None
) -> list[tuple[int, int]] | None:
    """(our label, their label) of the classes in both; None: the labels are the same."""
    if ours is None or [c.name for c in ours] == [c.name for c in theirs]:
        return None
    label_of = {category.name: label for label, category in enumerate(theirs)}
    return [(new, label_of[c.name]) for new, c in enumerate(ours) if c.name in label_of]


def _with_rows(own: Layer, weights: Layer, rows: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
    mixed = {name: value.clone() for name, value in own.items()}
    for name, value in mixed.items():
        for new, old in rows:
            value[new] = weights[name][old]
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
        return "another kind of layer"
    if own[name].shape == weights[name].shape:
        return "fits, but not the rest of its layer"
    return f"{list(weights[name].shape)} → {list(own[name].shape)}"


def _nothing_fits(origin: str, checkpoint: Checkpoint, skipped: Sequence[str]) -> CheckpointError:
    model = checkpoint.config.model
    first = next((entry for entry in skipped if entry.startswith("stages.")), "it has none")
    return CheckpointError(
        f"{origin}: nothing of its head fits this detector, e.g. {first}",
        f"give the detector its sizes: --set model.channels={model.channels} "
        f"--set model.dynamic_dim={model.dynamic_dim} --set model.ffn_dim={model.ffn_dim}",
    )
