"""Losses and validation scores of a run, written to metrics.jsonl and TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core import distributed
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError
from sparsevod_core.evaluation.evaluate import evaluate
from sparsevod_core.inference import Predictor
from sparsevod_core.losses.losses import Losses
from sparsevod_core.reporting import Reporter
from sparsevod_core.training.bad_batch import Files, non_finite_error
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.schedule import Schedule


class MetricsWriter:
    """Writer of metrics.jsonl and, if requested, of TensorBoard event files; used by rank 0.

    Args:
        after_step: Number of steps done. TensorBoard hides what an earlier process wrote about
            later steps.
        tensorboard: If True, write every number to TensorBoard too, as `KIND/NAME`.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, run: RunFolder, after_step: int, *, tensorboard: bool) -> None:
        self._run = run
        self._tensorboard: Any = None
        if not (tensorboard and distributed.is_main()):
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "train.tensorboard=true: TensorBoard is not installed",
                hint="run pip install 'sparsevod[tensorboard]', or remove the setting: "
                "metrics.jsonl has the same numbers",
            ) from error
        self._tensorboard = SummaryWriter(str(run.tensorboard), purge_step=after_step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Write one record: its `kind`, its `step` and its numbers, which may be nested."""
        self._run.append_metrics(record)
        if self._tensorboard is not None:
            for name, value in _numbers(record):
                if name != "step":
                    self._tensorboard.add_scalar(f"{record['kind']}/{name}", value, record["step"])
            self._tensorboard.flush()


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


class StepLog:
    """Losses and duration of the steps since the last record.

    The losses stay on the device until `write`, the only method that waits for it.

    Args:
        clips_per_step: Number of clips in a step, over all ranks.
        seconds: Training time before this process started.
    """

    def __init__(
        self, metrics: MetricsWriter, schedule: Schedule, clips_per_step: int, seconds: float
    ) -> None:
        self.seconds = seconds  # training time until the last record
        self.note = ""  # for the progress bar
        self._metrics = metrics
        self._schedule = schedule
        self._clips_per_step = clips_per_step
        self._rate = 0.0
        self._names: list[str] = []
        self._rows: list[Float[Tensor, " n"]] = []
        self._steps: list[tuple[int, Files]] = []
        self.start_lap()

    def start_lap(self) -> None:
        """Restart the clock, so that the time since the last record does not count as training."""
        self._lap_start, self._waited_s = time.monotonic(), 0.0

    def add_wait(self, seconds: float) -> None:
        """Add time in which a step could not start because it had no data."""
        self._waited_s += seconds

    def add(
        self, step: int, rate: float, losses: Losses, grad_norm: Float[Tensor, ""], files: Files
    ) -> None:
        """Add step `step`, counted from 1, with its learning rate and the frames of each clip."""
        parts = {f"loss_{name}": value for name, value in losses.parts.items()}
        values = {"loss": losses.total.detach(), **parts, "grad_norm": grad_norm}
        self._names = list(values)
        self._rows.append(torch.stack(list(values.values())).float())
        self._steps.append((step, files))
        self._rate = rate

    def write(self) -> None:
        """Write the mean over the ranks and the steps since the last record, if there are any.

        Raises:
            NonFiniteLossError: A loss is not finite. Every rank raises it, because the gradient
                that they share is not finite either.
        """
        if not self._rows:
            return
        rows = torch.stack(self._rows).cpu()  # [steps, names]; waits for the device
        steps, self._rows, self._steps = self._steps, [], []
        for row, (step, files) in zip(rows, steps, strict=True):
            if not row.isfinite().all():
                raise non_finite_error(step, self._by_name(row), files)
        means = self._by_name(distributed.reduce_mean(rows.mean(0)))
        lap_s = time.monotonic() - self._lap_start
        self.seconds += lap_s
        if distributed.is_main():
            step, _ = steps[-1]
            self._metrics.write(
                {
                    "kind": "train",
                    "step": step,
                    "epoch": self._schedule.epoch_of(step),
                    "learning_rate": self._rate,
                    **{name: float(f"{mean:.6g}") for name, mean in means.items()},
                    "clips_per_s": round(len(steps) * self._clips_per_step / lap_s, 3),
                    "data_wait_share": round(self._waited_s / lap_s, 4),
                    "seconds": round(self.seconds, 3),
                }
            )
        self.note = f"loss {means['loss']:.3g}"
        self.start_lap()

    def _by_name(self, row: Float[Tensor, " n"]) -> dict[str, float]:
        return dict(zip(self._names, row.tolist(), strict=True))


def validate(predictor: Predictor, videos: VideoSet, reporter: Reporter) -> dict[str, Any]:
    """Return AP, AP50 and AP75 in 0..1, `per_class` AP by name, and the duration in `seconds`.

    All ranks call this, share the videos and get the same scores. AP is None without boxes.
    """
    start = time.monotonic()
    scores = evaluate(predictor, videos, reporter=reporter).to_dict()
    return {
        **{name: scores[name] for name in ("AP", "AP50", "AP75")},
        "per_class": {name: values["AP"] for name, values in scores["per_class"].items()},
        "seconds": round(time.monotonic() - start, 3),
    }
