"""Fractal noise for landscapes, shadows and marble."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, cells: float = 3.0
) -> Float32[np.ndarray, "height width"]:
    """Return smooth noise with detail at every scale, in 0..1; `cells` coarse blobs per height."""
    import cv2

    noise = np.zeros((height, width), np.float32)
    for octave in range(4):
        rows = max(round(cells * 2**octave), 2)
        columns = max(round(rows * width / height), 2)
        grid = rng.random((rows, columns), dtype=np.float32)
        noise += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return (noise - noise.min()) / (np.ptp(noise) + 1e-6)
