"""Losses of a batch by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Losses:
    """Weighted losses; each is a vector with a value for each stage, or of one value.

    Attributes:
        by_name: the losses, in the order in which they are logged.
    """

    by_name: Mapping[str, Float[Tensor, " T"]]

    def __getitem__(self, name: str) -> Float[Tensor, " T"]:
        """Return a loss by its name."""
        return self.by_name[name]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Sum over losses and stages: the value to minimize."""
        return torch.stack([loss.sum() for loss in self.by_name.values()]).sum()

    def __add__(self, other: Losses) -> Losses:
        """Add the losses of two batches of a step, without gradients."""
        return Losses(
            {name: loss.detach() + other[name].detach() for name, loss in self.by_name.items()}
        )

    @property
    def parts(self) -> dict[str, Float[Tensor, ""]]:
        """Each loss summed over the stages, without gradients, for the log."""
        return {name: loss.detach().sum() for name, loss in self.by_name.items()}
