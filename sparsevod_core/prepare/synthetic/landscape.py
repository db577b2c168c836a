"""Background of a scene: fields seen from above. Colors are RGB in 0..1."""

from __future__ import annotations

from colorsys import hsv_to_rgb

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int32, UInt8

from sparsevod_core.prepare.synthetic.noise import fractal_noise

Image = Float32[np.ndarray, "height width 3"]
Pixels = UInt8[np.ndarray, "height width 3"]
Color = Float[np.ndarray, "3"]

NUM_FIELDS = 28
NUM_HUTS = 45


def landscape(rng: np.random.Generator, height: int, width: int) -> Image:
    """Return an image of fields with furrows, paths between them, a river and scattered huts."""
    import cv2

    pixels = _to_bytes(_ploughed_fields(rng, height, width))
    _draw_river(rng, pixels, _muted(rng, rng.random()))
    for _ in range(NUM_HUTS):
        _draw_hut(rng, pixels, _muted(rng, rng.random()))
    shade = 0.8 + 0.4 * fractal_noise(rng, height, width)
    grain = 3.0 * rng.standard_normal((height, width), dtype=np.float32)
    image = (pixels * shade[..., None] + grain[..., None]).clip(0, 255) / np.float32(255)
    return cv2.GaussianBlur(image, (0, 0), 0.6)


def _ploughed_fields(rng: np.random.Generator, height: int, width: int) -> Image:
    hue, spread = rng.uniform(0.05, 0.5), rng.uniform(0.03, 0.1)  # from earth to grass
    fields = _fields(rng, height, width)
    image = np.zeros((height, width, 3), np.float32)
    for index in range(NUM_FIELDS):
        y, x = np.nonzero(fields == index)
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.014, 0.04) * height
        wave = np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)))
        furrows = 1 + rng.uniform(0.0, 0.12) * wave
        image[y, x] = _muted(rng, hue + rng.normal(0, spread)) * furrows[:, None]
    image[_borders(fields)] *= rng.choice([0.6, 1.4])
    return image


def _fields(rng: np.random.Generator, height: int, width: int) -> Int[np.ndarray, "height width"]:
    """Return the cells of a Voronoi diagram with wavy borders, numbered from 0."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for axis in (x, y):
        axis += 0.12 * height * fractal_noise(rng, height, width, cells=4.0)
    sites = rng.uniform(0, 1.12, (NUM_FIELDS, 2)) * [width, height]
    nearest = np.full((height, width), np.inf, np.float32)
    fields = np.zeros((height, width), np.int64)
    for index, (site_x, site_y) in enumerate(sites):
        distance = (x - site_x) ** 2 + (y - site_y) ** 2
        fields[distance < nearest] = index
        np.minimum(nearest, distance, out=nearest)
    return fields


def _borders(fields: Int[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    borders = np.zeros(fields.shape, bool)
    borders[1:] |= fields[1:] != fields[:-1]
    borders[:, 1:] |= fields[:, 1:] != fields[:, :-1]
    borders[:-1] |= borders[1:]
    return borders


def _draw_river(rng: np.random.Generator, pixels: Pixels, color: Color) -> None:
    import cv2

    height, width = pixels.shape[:2]
    x = np.linspace(-0.1, 1.1, 60)
    bend = rng.uniform(0.1, 0.9) + 0.14 * np.sin(rng.uniform(3, 8) * x + rng.uniform(0, 6))
    points = np.stack([x, bend + rng.uniform(-0.4, 0.4) * (x - 0.5)], axis=1)
    if rng.random() < 0.5:
        points = points[:, ::-1]
    line = _fixed_point(points * [width, height])
    thickness = int(rng.uniform(0.02, 0.055) * height) + 1
    for bank, tint in ((3, color * 0.7), (0, color)):
        cv2.polylines(
            pixels, [line], False, _to_bytes(tint).tolist(), thickness + bank, cv2.LINE_AA, 4
        )


def _draw_hut(rng: np.random.Generator, pixels: Pixels, color: Color) -> None:
    import cv2

    height, width = pixels.shape[:2]
    center, size = rng.uniform(0, 1, 2) * [width, height], rng.uniform(0.011, 0.042, 2) * height
    corners = cv2.boxPoints((center.tolist(), size.tolist(), rng.uniform(0, 90)))
    for shadow, tint in ((0.006 * height, color * 0.45), (0.0, color)):
        cv2.fillConvexPoly(
            pixels, _fixed_point(corners + shadow), _to_bytes(tint).tolist(), cv2.LINE_AA, 4
        )


def _fixed_point(points: Float[np.ndarray, "n 2"]) -> Int32[np.ndarray, "n 1 2"]:
    """Return points with four fractional bits, as OpenCV draws with `shift=4`."""
    return (points * 16).round().astype(np.int32)[:, None]


def _muted(rng: np.random.Generator, hue: float) -> Color:
    return np.asarray(hsv_to_rgb(hue % 1, rng.uniform(0.1, 0.42), rng.uniform(0.35, 0.85)))


def _to_bytes(colors: Float[np.ndarray, "*any"]) -> UInt8[np.ndarray, "*any"]:
    return (colors.clip(0, 1) * 255).round().astype(np.uint8)
