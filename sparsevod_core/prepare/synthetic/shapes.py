"""Outlines of the objects, with random variations.

An outline is a list of closed contours in the square -1..1, y down. The first contour is the body,
the others are holes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Contour = Float[np.ndarray, "points 2"]


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
