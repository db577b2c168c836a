"""Table of differences from a reference implementation, and the tolerances."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

FEATURES = 1e-4  # logits, features, losses, scores
BOXES_PX = 5e-3
EXACT = 0.0  # levels, labels, assignments


@dataclass
class Report:
    """Printed table, and the teacher-forced rows that failed."""

    failed: list[str] = field(default_factory=list)

    def forced(self, name: str, ours: Tensor, reference: Tensor, tolerance: float) -> None:
        """Compare a quantity computed from the reference's inputs; it must agree."""
        difference = largest_difference(ours, reference)
        holds = difference <= tolerance  # false for NaN
        print(f"{name:44} {difference:10.2e}  <= {tolerance:.0e}  {'ok' if holds else 'FAILED'}")
        if not holds:
            self.failed.append(name)

    def free(self, name: str, ours: Tensor, reference: Tensor) -> None:
        """Print a quantity computed from our own earlier results."""
        print(f"{name:44} {largest_difference(ours, reference):10.2e}  (free-running)")

    def finite(self, name: str, ours: Tensor) -> None:
        """Check that a quantity is finite where the reference has NaN."""
        holds = bool(ours.isfinite().all())
        print(f"{name:44} {'finite' if holds else 'NOT FINITE':>10}  {'ok' if holds else 'FAILED'}")
        if not holds:
            self.failed.append(name)


def largest_difference(ours: Tensor, reference: Tensor) -> float:
    """Return the largest |a - b|, or infinity if the shapes differ."""
    if ours.numel() != reference.numel():
        return math.inf
    difference = ours.detach().double().flatten() - reference.double().flatten()
    return difference.abs().max().item() if difference.numel() else 0.0
