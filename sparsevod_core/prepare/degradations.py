"""Degradations of a few frames at a time: when they happen, and how they look.

Severity is in 0..1. Lengths are fractions of a `Scale`, e.g. of the frame's width, so that sets of
any size are equally hard. Occlusion depends on the objects and is drawn by `synthetic/scene.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

Image = Float32[np.ndarray, "height width 3"]

KINDS = ("motion_blur", "defocus", "low_light", "noise", "occlusion")

BURST_FRAMES = (2, 5)
"""Number of frames of the shortest and the longest burst in the rendered set."""
GAP_FRAMES = 2
"""Smallest number of clean frames between two bursts in the rendered set."""
CLEAR_FRAMES = 0.25
"""Each object is undegraded and not occluded in at least this fraction of the frames."""
PEAKS = (0.8, 1.0)
"""Smallest and largest severity in the middle of a burst in the rendered set."""


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


@dataclass(frozen=True, slots=True)
class Scale:
    """What the lengths and the noise of a degradation are relative to.

    Attributes:
        width_px: Length of which blur takes a fraction; in the rendered set, the frame's width.
        grain_px: Side of the coarse grains of noise.
        noise: Factor of the noise's standard deviation.
    """

    width_px: float
    grain_px: int = 2
    noise: float = 1.0


def schedule_bursts(
    rng: np.random.Generator,
    num_frames: int,
    share: float,
    *,
    kinds: Sequence[str] = KINDS,
    burst_frames: tuple[int, int] = BURST_FRAMES,
    gap_frames: int = GAP_FRAMES,
    peaks: tuple[float, float] = PEAKS,
) -> list[Burst]:
    """Return bursts that cover at most `share` of the frames, with clean frames between them.

    Args:
        kinds: Kinds of degradation, which take turns in random order.
        burst_frames: Number of frames of the shortest and the longest burst; the last one drawn may
            be shorter.
        gap_frames: Smallest number of clean frames between two bursts.
        peaks: Smallest and largest severity in the middle of a burst.
    """
    lengths: list[int] = []
    budget = int(share * num_frames)
    while budget > 0:
        lengths.append(min(int(rng.integers(burst_frames[0], burst_frames[1] + 1)), budget))
        budget -= lengths[-1]
    spare = num_frames - sum(lengths) - gap_frames * (len(lengths) - 1)
    if not lengths or spare < 0:
        return []
    gaps = rng.multinomial(spare, rng.dirichlet(np.ones(len(lengths) + 1)))
    order_of_kinds = rng.permutation(kinds)
    bursts: list[Burst] = []
    start = 0
    for order, (gap, length) in enumerate(zip(gaps[:-1], lengths, strict=True)):
        start += int(gap)
        envelope = 0.8 + 0.2 * np.sin(np.pi * (np.arange(length) + 0.5) / length)
        severities = rng.uniform(*peaks) * envelope
        kind, angle = str(order_of_kinds[order % len(kinds)]), rng.uniform(0, 2 * np.pi)
        bursts.append(Burst(kind, start, tuple(severities.round(3).tolist()), angle))
        start += length + gap_frames
    return bursts


def degrade(
    rng: np.random.Generator, image: Image, burst: Burst, severity: float, scale: Scale
) -> Image:
    """Return the degraded frame, RGB in 0..1; unchanged for occlusion, which the scene draws."""
    if burst.kind == "motion_blur":
        return _motion_blur(image, (0.03 + 0.17 * severity) * scale.width_px, burst.angle)
    if burst.kind == "defocus":
        return _defocus(image, (0.015 + 0.06 * severity) * scale.width_px)
    if burst.kind == "low_light":
        light = (1 - 0.85 * severity) ** 1.5  # so little that the sensor's noise becomes visible
        return light * image + _grain(rng, image.shape, 0.01 + 0.07 * severity, scale)
    if burst.kind == "noise":
        return image + _grain(rng, image.shape, 0.1 + 0.6 * severity, scale)
    return image


def _motion_blur(image: Image, length: float, angle: float) -> Image:
    """Average along a straight line, as if the camera moved while the shutter was open."""
    import cv2

    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    offset = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    ends = ((reach + np.array([-offset, offset])) * 16).round().astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / kernel.sum()
    return cv2.filter2D(image, -1, weights, borderType=cv2.BORDER_REFLECT_101)


def _defocus(image: Image, radius: float) -> Image:
    """Average over a disc, as an open aperture does."""
    import cv2

    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (radius + 0.5 - np.hypot(x, y)).clip(0, 1).astype(np.float32)
    return cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101)


def _grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: float, scale: Scale) -> Image:
    """Return color noise, half of it in coarse grains, which downscaling does not remove."""
    import cv2

    height, width = shape[:2]
    fine = rng.standard_normal((height, width, 3), dtype=np.float32)
    num_grains = (-(-height // scale.grain_px), -(-width // scale.grain_px), 3)
    grains = rng.standard_normal(num_grains, dtype=np.float32)
    coarse = cv2.resize(grains, (width, height), interpolation=cv2.INTER_NEAREST)
    return sigma * scale.noise * np.float32(0.5**0.5) * (fine + coarse)
