"""Classes of the rendered set: each has an outline, a pattern and a range of colors.

An outline is a list of closed contours in the square -1..1, y down. The first contour is the body,
the others are holes. Colors are RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from colorsys import hsv_to_rgb
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from sparsevod_core.prepare.synthetic.noise import fractal_noise

Contour = Float[np.ndarray, "points 2"]
Field = Float[np.ndarray, "height width"]
Pattern = Callable[[np.random.Generator, Field, Field], Field]
"""Returns the share of the vivid color at x, y (-1..1), with random angle and size."""

HUE_SPREAD = 0.17
"""Half the range of hues of a class. The centers of the six classes are a sixth apart, so a class
shares colors with its two neighbors. Only outline and pattern, which a blur removes, tell them
apart."""


class ObjectClass(NamedTuple):
    """Appearance of the objects of a class."""

    outline: Callable[[np.random.Generator], list[Contour]]
    pattern: Pattern
    hue: float
    """Center of the range of hues, 0 to 1 from red over green and blue back to red."""


def disc(rng: np.random.Generator) -> list[Contour]:
    """Return a slightly squeezed circle."""
    return [_circle(1.0) * [1.0, rng.uniform(0.82, 1.0)]]


def square(rng: np.random.Generator) -> list[Contour]:
    """Return a slightly squeezed square with rounded corners (a superellipse)."""
    points = _circle(1.0)
    exponent = rng.uniform(5.0, 12.0)
    norm = (np.abs(points) ** exponent).sum(1, keepdims=True) ** (1 / exponent)
    return [0.8 * points / norm * [1.0, rng.uniform(0.85, 1.0)]]


def triangle(rng: np.random.Generator) -> list[Contour]:
    """Return an isosceles triangle."""
    half = rng.uniform(0.78, 0.98)
    return [np.array([[0.0, -0.95], [half, 0.72], [-half, 0.72]])]


def star(rng: np.random.Generator) -> list[Contour]:
    """Return a star with five points."""
    points = _circle(1.0, num_points=10)
    points[1::2] *= rng.uniform(0.42, 0.52)
    return [points]


def cross(rng: np.random.Generator) -> list[Contour]:
    """Return two crossed bars of equal length."""
    a, b = rng.uniform(0.24, 0.34), 0.95  # half the width and half the length of a bar
    x = [a, a, b, b, a, a, -a, -a, -b, -b, -a, -a]
    y = [-b, -a, -a, a, a, b, b, a, a, -a, -a, -b]
    return [np.stack([x, y], axis=1)]


def ring(rng: np.random.Generator) -> list[Contour]:
    """Return a circle with a hole."""
    return [_circle(1.0), _circle(rng.uniform(0.48, 0.6))]


def _circle(radius: float, num_points: int = 96) -> Contour:
    angle = np.arange(num_points) * 2 * np.pi / num_points - np.pi / 2
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def object_surface(
    rng: np.random.Generator, side: int, pattern: Pattern, hue: float
) -> Float32[np.ndarray, "side side 3"]:
    """Return a square in a vivid color near `hue` and a dark or pale one, lit from one side."""
    hue = (hue + rng.uniform(-HUE_SPREAD, HUE_SPREAD)) % 1
    vivid = hsv_to_rgb(hue, rng.uniform(0.6, 0.95), rng.uniform(0.7, 1.0))
    other_hue = (hue + rng.choice([0.0, 0.08, 0.5])) % 1
    if rng.random() < 0.5:
        other = hsv_to_rgb(other_hue, rng.uniform(0.4, 0.9), rng.uniform(0.15, 0.4))
    else:
        other = hsv_to_rgb(other_hue, rng.uniform(0.0, 0.3), rng.uniform(0.9, 1.0))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    share = pattern(rng, x, y)[..., None]
    light = (1.06 - 0.11 * (x + y))[..., None]
    surface = (np.asarray(vivid) * share + np.asarray(other) * (1 - share)) * light
    return surface.clip(0, 1).astype(np.float32)


def gradient(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return a gradient from one color almost to the other."""
    along, _ = _waves(rng, x, y)
    return 0.7 + 0.3 * np.sin(along / 3)


def stripes(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return straight bands."""
    along, _ = _waves(rng, x, y)
    return _step(np.sin(along))


def checks(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return a chessboard."""
    along, across = _waves(rng, x, y)
    return _step(np.sin(along) * np.sin(across))


def dots(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return round spots in rows."""
    along, across = _waves(rng, x, y)
    return _step(0.35 - np.cos(along) * np.cos(across))


def zigzag(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return wavy bands."""
    along, across = _waves(rng, x, y)
    return _step(np.sin(along + 1.6 * np.sin(across)))


def marble(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """Return irregular patches."""
    height, width = x.shape
    return _step(2.5 * (fractal_noise(rng, height, width, cells=4.0) - 0.5))


def _waves(rng: np.random.Generator, x: Field, y: Field) -> tuple[Field, Field]:
    """Return phases along a random direction and across it, two to four waves per square."""
    angle, waves = rng.uniform(0, np.pi), rng.uniform(2.0, 4.0)
    along = np.pi * waves * (x * np.cos(angle) + y * np.sin(angle))
    across = np.pi * waves * (y * np.cos(angle) - x * np.sin(angle))
    return along, across


def _step(wave: Field) -> Field:
    """Turn a wave around 0 into two flat levels with soft edges."""
    return 0.5 + 0.5 * np.tanh(5 * wave)


OBJECT_CLASSES = {
    "disc": ObjectClass(disc, checks, 0 / 6),
    "square": ObjectClass(square, stripes, 2 / 6),
    "triangle": ObjectClass(triangle, dots, 4 / 6),
    "star": ObjectClass(star, gradient, 1 / 6),
    "cross": ObjectClass(cross, zigzag, 3 / 6),
    "ring": ObjectClass(ring, marble, 5 / 6),
}
"""Classes by name, in the order of their ids."""
