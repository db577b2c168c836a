"""The classes of the synthetic set: each has its outline and its pattern; colours are free."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sparsevod_core.data.rendering import patterns, shapes


class ObjectClass(NamedTuple):
    """How objects of a class look."""

    outline: Callable[[np.random.Generator], list[shapes.Contour]]
    pattern: patterns.Pattern


OBJECT_CLASSES = {
    "disc": ObjectClass(shapes.disc, patterns.checks),
    "square": ObjectClass(shapes.square, patterns.stripes),
    "triangle": ObjectClass(shapes.triangle, patterns.dots),
    "star": ObjectClass(shapes.star, patterns.gradient),
    "cross": ObjectClass(shapes.cross, patterns.zigzag),
    "ring": ObjectClass(shapes.ring, patterns.marble),
}
"""By name, in the order of their numbers."""
