"""The frames of one video as targets, each with its supports, as the frames come in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sparsevod_core.data.sampling import CausalSampler, uniform_supports, window_supports
from sparsevod_core.errors import VideoError
from sparsevod_core.structures import Frame
from sparsevod_core.video.footage import Footage

Pictures = dict[int, np.ndarray]
"""RGB pixels of frames by their number."""


@dataclass(frozen=True, slots=True)
class Target:
    """A frame to detect in, and the numbers of the frames that support it."""

    frame: Frame
    supports: list[int]


def uniform_targets(video: Footage, num_supports: int, pictures: Pictures) -> Iterator[Target]:
    """Every frame with the same supports from the whole video; their pictures come first."""
    supports = uniform_supports(video.num_frames(), num_supports) if num_supports else []
    pictures.update({frame.index: frame.image for frame in video.frames_at(supports)})
    for frame in video:
        yield Target(frame, supports)


def window_targets(
    frames: Iterable[Frame], num_supports: int, stride: int, pictures: Pictures
) -> Iterator[Target]:
    """Every frame with those around it. Reads as far ahead as the window reaches.

    `pictures` gets each frame as it is read; whoever uses them drops what is behind the target.
    """
    ahead = num_supports // 2 * stride
    waiting: deque[Frame] = deque()
    num_read, broken = 0, None
    try:
        for frame in _kept(frames, pictures):
            waiting.append(frame)
            num_read += 1
            if len(waiting) > ahead:
                target = waiting.popleft()
                supports = window_supports(target.index, num_read, num_supports, stride)
                yield Target(target, supports)
    except VideoError as error:
        broken = error
    for target in waiting:
        yield Target(target, window_supports(target.index, num_read, num_supports, stride))
    if broken is not None:
        raise broken


def causal_targets(
    frames: Iterable[Frame], num_supports: int, pictures: Pictures
) -> Iterator[Target]:
    """Every frame with some of those before it, spread evenly; the first frame has none.

    `pictures` gets each frame as it is read; a new support is always the frame before the target.
    """
    sampler = CausalSampler(num_supports)
    for frame in _kept(frames, pictures):
        yield Target(frame, sampler.supports())
        sampler.add(frame.index)


def batches(targets: Iterable[Target], size: int) -> Iterator[list[Target]]:
    """Consecutive targets with the same supports, at most `size` of them together.

    A full batch is given before the next target is asked for. A video that breaks off gives every
    target before the break first.
    """
    batch: list[Target] = []
    broken: VideoError | None = None
    try:
        for target in targets:
            if batch and target.supports != batch[0].supports:
                yield batch
                batch = []
            batch.append(target)
            if len(batch) == size:
                yield batch
                batch = []
    except VideoError as error:
        broken = error
    if batch:
        yield batch
    if broken is not None:
        raise broken


def _kept(frames: Iterable[Frame], pictures: Pictures) -> Iterator[Frame]:
    for frame in frames:
        pictures[frame.index] = frame.image
        yield frame
