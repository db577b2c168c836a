"""Loading of the detector of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.checkpoint.file import load_checkpoint
from sparsevod_core.checkpoint.foreign import names_in_file
from sparsevod_core.embedded import embedded_card, embedded_checkpoint
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter, SilentReporter, some_of

FEW = 5


def load_detector(
    path: Path | str | None,
    *,
    device: torch.device | str = "cpu",
    reporter: Reporter | None = None,
) -> tuple[VideoDetector, Checkpoint]:
    """Load the detector of a checkpoint, ours or foreign, in evaluation mode.

    Every weight of the detector comes from the file.

    Args:
        path: path of the checkpoint, or the name of published weights; None: the bundled model.
        device: device for the detector.
        reporter: receives a description of a bundled model, or of a foreign one and the entries
            that were skipped, and the progress of a download.

    Returns:
        The detector on `device`, and its checkpoint without the training state.

    Raises:
        CheckpointError: see `load_checkpoint`; or a weight is missing, unexpected or of another
            shape.
    """
    is_bundled = path is None
    path = embedded_checkpoint() if path is None else path
    checkpoint = replace(load_checkpoint(path, reporter), training=None)
    with torch.device("meta"):  # allocates nothing, whatever sizes the config of the file states
        expected = build_detector(checkpoint.config.model).state_dict()
    wrong = _mismatches(expected, checkpoint)
    if wrong:
        raise CheckpointError(
            f"{path}: not the weights of the detector "
            f"{'of its config' if checkpoint.source == 'sparsevod' else 'inferred from its shapes'}"
            f": {some_of(wrong, FEW)}"
        )
    detector = build_detector(checkpoint.config.model)
    detector.load_state_dict(checkpoint.model)
    reporter = reporter or SilentReporter()
    if is_bundled:
        names = [category.name for category in checkpoint.categories]
        reporter.message(
            f"no checkpoint given: using the bundled model ({len(names)} classes: "
            f"{', '.join(names)}; model card: {embedded_card()})"
        )
    if checkpoint.source != "sparsevod":
        _report_foreign(path, checkpoint, reporter)
    return detector.to(device).eval(), checkpoint


def _mismatches(ours: Mapping[str, Tensor], checkpoint: Checkpoint) -> list[str]:
    """Return what is missing, left over or of another shape, by the names in the file."""
    theirs = checkpoint.model
    missing = [name for name in ours if name not in theirs]
    unexpected = [name for name in theirs if name not in ours]
    reshaped = [n for n in theirs if n in ours and theirs[n].shape != ours[n].shape]
    called = dict(zip(ours, names_in_file(ours, checkpoint.source), strict=True))
    return [
        *(f"{called[name]} is missing" for name in missing),
        *(f"{name} is unexpected" for name in names_in_file(unexpected, checkpoint.source)),
        *(
            f"{called[name]} has shape {list(theirs[name].shape)}, "
            f"expected {list(ours[name].shape)}"
            for name in reshaped
        ),
    ]


def _report_foreign(path: Path | str, checkpoint: Checkpoint, reporter: Reporter) -> None:
    model = checkpoint.config.model
    sizes: list[str] = [model.backbone]
    if model.system == "sparsevod":
        sizes += [f"{model.num_stages} stages", f"{model.num_proposals} proposals"]
    sizes.append(f"{model.num_classes} classes")
    off = ", no TFE and no SPFA" if model.system == "sparsevod" else ""
    reporter.message(
        f"{path}: {checkpoint.title} ({', '.join(sizes)}); "
        f"all {len(checkpoint.model)} weights loaded{off}"
    )
    if checkpoint.assumed:
        reporter.message(
            "not stated in the file and set as in the published models: "
            + ", ".join(f"{key}={value}" for key, value in checkpoint.assumed.items())
        )
    if checkpoint.unknown:
        reporter.message(
            f"skipped {len(checkpoint.unknown)} entries that do not belong to the detector: "
            f"{', '.join(checkpoint.unknown[:4])}{', ...' if checkpoint.unknown[4:] else ''}"
        )
