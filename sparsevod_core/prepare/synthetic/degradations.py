"""Degradations of a few frames at a time: when they happen, and how they look.

Severity is in 0..1. Lengths are fractions of the frame's width, so that sets of any size are
equally hard. Occlusion depends on the objects and is drawn by `scene.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

Image = Float32[np.ndarray, "height width 3"]

KINDS = ("motion_blur", "defocus", "low_light", "noise", "occlusion")

BURST_FRAMES = (2, 5)
"""Number of frames of the shortest and the longest burst."""
GAP_FRAMES = 2
"""Smallest number of clean frames between two bursts."""
WEAKEST_PEAK = 0.8


@dataclass(frozen=True, slots=True)
class Burst:
    """One kind of degradation over a few frames.

    Attributes:
        kind: One of `KINDS`.
        start: First frame.
        severities: Severity of each frame, rising and falling.
        angle: Direction of the blur or of the occluder, in radians.
    """

    kind: str
    start: int
    severities: tuple[float, ...]
    angle: float

    def severity(self, frame: int) -> float:
        """Return the severity in a frame, 0 outside the burst."""
        place = frame - self.start
        return self.severities[place] if 0 <= place < len(self.severities) else 0.0


def schedule_bursts(rng: np.random.Generator, num_frames: int, share: float) -> list[Burst]:
    """Return bursts that cover at most `share` of the frames, with clean frames between them."""
    lengths: list[int] = []
    budget = int(share * num_frames)
    while budget > 0:
        lengths.append(min(int(rng.integers(BURST_FRAMES[0], BURST_FRAMES[1] + 1)), budget))
        budget -= lengths[-1]
    spare = num_frames - sum(lengths) - GAP_FRAMES * (len(lengths) - 1)
    if not lengths or spare < 0:
        return []
    gaps = rng.multinomial(spare, rng.dirichlet(np.ones(len(lengths) + 1)))
    kinds = rng.permutation(KINDS)
    bursts: list[Burst] = []
    start = 0
    for order, (gap, length) in enumerate(zip(gaps[:-1], lengths, strict=True)):
        start += int(gap)
        envelope = 0.8 + 0.2 * np.sin(np.pi * (np.arange(length) + 0.5) / length)
        severities = rng.uniform(WEAKEST_PEAK, 1.0) * envelope
        kind, angle = str(kinds[order % len(KINDS)]), rng.uniform(0, 2 * np.pi)
        bursts.append(Burst(kind, start, tuple(severities.round(3).tolist()), angle))
        start += length + GAP_FRAMES
    return bursts


def degrade(rng: np.random.Generator, image: Image, burst: Burst, severity: float) -> Image:
    """Return the degraded frame, RGB in 0..1; unchanged for occlusion, which the scene draws."""
    if burst.kind == "motion_blur":
        return _motion_blur(image, severity, burst.angle)
    if burst.kind == "defocus":
        return _defocus(image, severity)
    if burst.kind == "low_light":
        light = (1 - 0.85 * severity) ** 1.5  # so little that the sensor's noise becomes visible
        return light * image + _grain(rng, image.shape, 0.01 + 0.07 * severity)
    if burst.kind == "noise":
        return image + _grain(rng, image.shape, 0.1 + 0.6 * severity)
    return image


def _motion_blur(image: Image, severity: float, angle: float) -> Image:
    """Average along a straight line, as if the camera moved while the shutter was open."""
    import cv2

    length = (0.03 + 0.17 * severity) * image.shape[1]
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    offset = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    ends = ((reach + np.array([-offset, offset])) * 16).round().astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / kernel.sum()
    return cv2.filter2D(image, -1, weights, borderType=cv2.BORDER_REFLECT_101)


def _defocus(image: Image, severity: float) -> Image:
    """Average over a disc, as an open aperture does."""
    import cv2

    radius = (0.015 + 0.06 * severity) * image.shape[1]
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (radius + 0.5 - np.hypot(x, y)).clip(0, 1).astype(np.float32)
    return cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101)


def _grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> Image:
    """Return color noise, half of it in grains of two pixels, which downscaling does not remove."""
    import cv2

    height, width = shape[:2]
    fine = rng.standard_normal((height, width, 3), dtype=np.float32)
    half = rng.standard_normal((-(-height // 2), -(-width // 2), 3), dtype=np.float32)
    coarse = cv2.resize(half, (width, height), interpolation=cv2.INTER_NEAREST)
    return sigma * np.float32(0.5**0.5) * (fine + coarse)
