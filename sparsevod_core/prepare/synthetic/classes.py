"""Classes of the rendered set: each has an outline, a pattern and a range of colors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sparsevod_core.prepare.synthetic import patterns, shapes


class ObjectClass(NamedTuple):
    """Appearance of the objects of a class."""

    outline: Callable[[np.random.Generator], list[shapes.Contour]]
    pattern: patterns.Pattern
    hue: float
    """Center of the range of hues, 0 to 1 from red over green and blue back to red."""


OBJECT_CLASSES = {
    "disc": ObjectClass(shapes.disc, patterns.checks, 0 / 6),
    "square": ObjectClass(shapes.square, patterns.stripes, 2 / 6),
    "triangle": ObjectClass(shapes.triangle, patterns.dots, 4 / 6),
    "star": ObjectClass(shapes.star, patterns.gradient, 1 / 6),
    "cross": ObjectClass(shapes.cross, patterns.zigzag, 3 / 6),
    "ring": ObjectClass(shapes.ring, patterns.marble, 5 / 6),
}
"""Classes by name, in the order of their ids."""
