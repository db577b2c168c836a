"""The losses of the steps since the last log, kept on the device until they are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core import distributed
from sparsevod_core.errors import SparseVodError
from sparsevod_core.losses.criterion import Losses

NAMED_FILES = 8  # in the error's one line; the run folder gets all

Files = Sequence[tuple[str, ...]]


class NonFiniteLossError(SparseVodError):
    """A loss or its gradient is infinite or not a number.

    Attributes:
        step: the first such step, counted from 1.
        files: the target and support frames of each clip of the batch, of all ranks to blame.
        ranks: those to blame.
    """

    def __init__(
        self,
        step: int,
        values: dict[str, float],
        files: list[tuple[str, ...]],
        ranks: Sequence[int] = (0,),
    ) -> None:
        targets = [clip[0] for clip in files]
        named = ", ".join(targets[:NAMED_FILES])
        if len(targets) > NAMED_FILES:
            named += f" and {len(targets) - NAMED_FILES} more"
        numbers = ", ".join(f"{name} {value:g}" for name, value in values.items())
        super().__init__(
            f"step {step}: the loss is not finite ({numbers}); target frames of the batch: {named}",
            hint="look at these frames and their boxes; if they are in order, lower "
            "train.learning_rate or train.clip_grad_norm, or start from weights with --init-from",
        )
        self.step = step
        self.files = files
        self.ranks = tuple(ranks)


class LossWindow:
    """Adds up without waiting for the device; `read` is the one place that waits."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: list[Float[Tensor, " n"]] = []
        self._steps: list[tuple[int, Files]] = []

    def add(self, step: int, losses: Losses, grad_norm: Float[Tensor, ""], files: Files) -> None:
        """Keep what step `step` gave."""
        parts = {f"loss_{name}": value for name, value in losses.parts.items()}
        values = {"loss": losses.total.detach(), **parts, "grad_norm": grad_norm}
        self._names = list(values)
        self._rows.append(torch.stack(list(values.values())).float())
        self._steps.append((step, files))

    def read(self) -> dict[str, float]:
        """Means over the steps since the last read and over the ranks; empty where there was none.

        Raises:
            NonFiniteLossError: on every rank, since the gradient they share is not finite either.
        """
        if not self._rows:
            return {}
        rows = torch.stack(self._rows).cpu()  # [steps, names]
        steps, self._rows, self._steps = self._steps, [], []
        for row, (step, files) in zip(rows, steps, strict=True):
            if not row.isfinite().all():
                raise self._error(row, step, files)
        means = distributed.reduce_mean(rows.mean(0))
        return dict(zip(self._names, means.tolist(), strict=True))

    def _error(self, row: Float[Tensor, " n"], step: int, files: Files) -> NonFiniteLossError:
        """All ranks come here together; the ones whose own loss is finite are not to blame."""
        is_guilty = not row[:-1].isfinite().all()
        found = distributed.gather((is_guilty, list(files)))
        any_guilty = any(guilty for guilty, _ in found)
        ranks = [rank for rank, (guilty, _) in enumerate(found) if guilty or not any_guilty]
        blamed = [clip for rank in ranks for clip in found[rank][1]]
        values = dict(zip(self._names, row.tolist(), strict=True))
        return NonFiniteLossError(step, values, blamed, ranks)
