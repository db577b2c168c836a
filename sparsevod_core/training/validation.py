"""The detector as it is now, scored on the validation set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from sparsevod_core import distributed
from sparsevod_core.checkpoint import save_checkpoint
from sparsevod_core.config import Config
from sparsevod_core.data.records import VideoSet
from sparsevod_core.evaluation.evaluate import evaluate
from sparsevod_core.inference import Predictor
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category
from sparsevod_core.training.interruption import Interruption

if TYPE_CHECKING:
    from sparsevod_core.training.trainer import Trainer


def evaluate_run(trainer: Trainer, interruption: Interruption) -> None:
    """AP on the validation set, shared among the ranks; best.pth if it is the best so far.

    last.pth is from this step already, so that a signal may end it at once: resuming evaluates.
    """
    assert trainer.validation is not None
    position, reporter = trainer.position, trainer.reporter
    try:
        with interruption.at_once():
            scores = validate(
                trainer.result_detector,
                trainer.config,
                trainer.categories,
                trainer.validation,
                trainer.device,
                reporter,
            )
    except (KeyboardInterrupt, SystemExit):
        trainer.tell_how_to_go_on()
        raise
    is_best = position.take_in(scores)
    epochs = trainer.schedule.epochs_begun(position.step)
    if distributed.is_main():
        trainer.metrics.log({"kind": "eval", "step": position.step, "epoch": epochs, **scores})
        if is_best:
            save_checkpoint(trainer.run.best, trainer.checkpoint())
    reporter.message(
        f"epoch {epochs}: AP {scores['AP']:.4f}, AP50 {scores['AP50']:.4f}, "
        f"AP75 {scores['AP75']:.4f}" + (", the best so far" if is_best else "")
    )
    trainer.model.train()
    trainer.save()
    if trainer.is_stopped_early:
        reporter.message(f"stopped early: {position.num_worse} evaluation(s) without a better AP")


def validate(
    detector: SparseVOD,
    config: Config,
    categories: Sequence[Category],
    videos: VideoSet,
    device: torch.device,
    reporter: Reporter,
) -> dict[str, Any]:
    """AP, AP50 and AP75 in 0..1, `per_class` AP by name, and the seconds it took.

    All ranks call this, take a share of the videos, and get the same numbers. Leaves the detector
    in eval mode. An AP that does not exist, where nothing is annotated, is 0.
    """
    start = time.monotonic()
    predictor = Predictor(detector, config, categories, device=str(device))
    scores = evaluate(predictor, videos, reporter=reporter).to_dict()
    return {
        **{name: scores[name] or 0.0 for name in ("AP", "AP50", "AP75")},
        "per_class": {name: numbers["AP"] for name, numbers in scores["per_class"].items()},
        "seconds": round(time.monotonic() - start, 3),
    }
