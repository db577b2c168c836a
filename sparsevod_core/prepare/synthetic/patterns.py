"""Patterned surfaces of the objects. Colors are RGB in 0..1."""

from __future__ import annotations

from collections.abc import Callable
from colorsys import hsv_to_rgb

import numpy as np
from jaxtyping import Float, Float32

from sparsevod_core.prepare.synthetic.noise import fractal_noise

Field = Float[np.ndarray, "height width"]

HUE_SPREAD = 0.17
"""Half the range of hues of a class. The centers of the six classes are a sixth apart, so a class
shares colors with its two neighbors. Only outline and pattern, which a blur removes, tell them
apart."""

Pattern = Callable[[np.random.Generator, Field, Field], Field]
"""Returns the share of the vivid color at x, y (-1..1), with random angle and size."""


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
