"""A single-frame detector that all rows start from, where `run.py --pretrain` asks for it.

It is for small networks that train from noise, in the place of the paper's ImageNet weights: TFE
mixes features that mean nothing yet, and then harms before it helps (docs/results.md).

RESULTS/pretrained.pth    its weights, half precision; with this file alone the grid goes on
        pretraining/      the run that made it
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from grid import BASELINE
from runs import Experiment

from sparsevod_core.checkpoint import compact_checkpoint, load_checkpoint, save_checkpoint

FILE = "pretrained.pth"


def starting_from(file: Path, experiment: Experiment) -> Experiment:
    """The same experiment, each run of which starts from `file`."""
    return replace(experiment, settings=(*experiment.settings, f"train.init_from={file}"))


def pretrain(experiment: Experiment, epochs: int) -> None:
    """Train RESULTS/pretrained.pth, or go on, unless it is there.

    Raises:
        CommandError: the training failed.
    """
    file, folder = experiment.output / FILE, experiment.output / "pretraining"
    if file.exists():
        return
    print(f"\n== the detector that all runs start from, {epochs} epochs", file=sys.stderr)
    longer = replace(experiment, settings=(*experiment.settings, f"train.epochs={epochs}"))
    longer.train(BASELINE, 0, folder)
    save_checkpoint(file, compact_checkpoint(load_checkpoint(folder / "checkpoints" / "last.pth")))
