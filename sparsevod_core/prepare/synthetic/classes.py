"""The classes of the synthetic set: each has its outline, its pattern and its range of colours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sparsevod_core.prepare.synthetic import patterns, shapes


class ObjectClass(NamedTuple):
    """How objects of a class look."""

    outline: Callable[[np.random.Generator], list[shapes.Contour]]
    pattern: patterns.Pattern
    hue: float
    """Middle of its colours on the circle from red over green and blue to red, 0 to 1."""


OBJECT_CLASSES = {
    "disc": ObjectClass(shapes.disc, patterns.checks, 0 / 6),
    "square": ObjectClass(shapes.square, patterns.stripes, 2 / 6),
    "triangle": ObjectClass(shapes.triangle, patterns.dots, 4 / 6),
    "star": ObjectClass(shapes.star, patterns.gradient, 1 / 6),
    "cross": ObjectClass(shapes.cross, patterns.zigzag, 3 / 6),
    "ring": ObjectClass(shapes.ring, patterns.marble, 5 / 6),
}
"""By name, in the order of their numbers."""
