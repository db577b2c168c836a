"""Support frames of one video: which ones each target frame gets, and their memories."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from sparsevod_core.config import InferenceConfig
from sparsevod_core.data.sampling import CausalSampler, uniform_supports, window_supports
from sparsevod_core.errors import VideoError
from sparsevod_core.structures import Frame
from sparsevod_core.video.opening import Footage

Images = dict[int, np.ndarray]
"""RGB pixels of frames by frame number."""

Memory = TypeVar("Memory")


@dataclass(frozen=True, slots=True)
class SupportedFrame:
    """A target frame and the numbers of its support frames."""

    frame: Frame
    supports: list[int]


def supported_frames(
    video: Footage, settings: InferenceConfig, num_supports: int, images: Images
) -> Iterator[SupportedFrame]:
    """Yield every frame of a video with its support frames, as `settings.support` chooses them.

    Args:
        video: The video; it is read once from start to end.
        settings: `support` and `window_stride` are used.
        num_supports: Number of support frames of each target frame, S.
        images: Receives the pixels of possible support frames before a frame that needs them is
            yielded. The caller removes those that are no longer needed.
    """
    if settings.support == "uniform" or num_supports == 0:
        return _uniform(video, num_supports, images)
    if settings.support == "window":
        return _window(video, num_supports, settings.window_stride, images)
    return _causal(video, num_supports, images)


def support_numbers(
    targets: Sequence[int], num_frames: int, settings: InferenceConfig, num_supports: int
) -> list[list[int]]:
    """Return the numbers of the support frames of some target frames of a video.

    Args:
        targets: Numbers of the target frames.
        num_frames: Number of frames of the video.
        settings: As for `supported_frames`.
        num_supports: Number of support frames of each target frame, S.
    """
    numbers = supported_frames(_BlankFootage(num_frames), settings, num_supports, {})
    supports = [one.supports for one in numbers]
    return [supports[target] for target in targets]


def support_header(settings: InferenceConfig, num_supports: int) -> dict[str, Any]:
    """Return how support frames are chosen, as JSON results record it."""
    return {
        "mode": settings.support,
        "supports": num_supports,
        "window_stride": settings.window_stride,
    }


def batches(frames: Iterable[SupportedFrame], size: int) -> Iterator[list[SupportedFrame]]:
    """Yield batches of consecutive frames with the same support frames, at most `size` in each.

    A full batch is yielded before the next frame is requested. If the video breaks off, all frames
    before the break are yielded first.
    """
    batch: list[SupportedFrame] = []
    error: VideoError | None = None
    try:
        for one in frames:
            if batch and one.supports != batch[0].supports:
                yield batch
                batch = []
            batch.append(one)
            if len(batch) == size:
                yield batch
                batch = []
    except VideoError as break_off:
        error = break_off
    if batch:
        yield batch
    if error is not None:
        raise error


class VideoSupports(Generic[Memory]):
    """Memories of a video's support frames.

    Each support frame goes through the model once. Its memory is kept while target frames need it.

    Args:
        images: Pixels of possible support frames, see `supported_frames`; those that no later
            target frame needs are removed.
        remember: Returns the model's memory of one frame.
        join: Joins the memories of several frames; returns None for none.
    """

    def __init__(
        self,
        images: Images,
        remember: Callable[[np.ndarray], Memory],
        join: Callable[[Sequence[Memory]], Memory | None],
    ) -> None:
        self._images = images
        self._remember = remember
        self._join = join
        self._memories: dict[int, Memory] = {}
        self._supports: list[int] = []
        self._memory: Memory | None = None

    def memory_of(self, batch: Sequence[SupportedFrame]) -> Memory | None:
        """Return the memory of the support frames that this batch shares.

        Batches come in the order of the video.
        """
        supports = batch[0].supports
        if supports != self._supports:
            self._supports = supports
            for number in dict.fromkeys(supports):
                if number not in self._memories:
                    # One by one, so that results do not depend on when a frame is remembered.
                    self._memories[number] = self._remember(self._images.pop(number))
            self._memory = self._join([self._memories[number] for number in supports])
            # A frame after the target, or the target itself, may support later targets again.
            first = batch[0].frame.index
            self._memories = {
                n: memory for n, memory in self._memories.items() if n in supports or n >= first
            }
        return self._memory

    def drop_images(self, batch: Sequence[SupportedFrame]) -> None:
        """Remove the images that no target frame after this batch needs."""
        # If the batch did not go through the model, its support frames are not remembered yet.
        last, supports = batch[-1].frame.index, batch[-1].supports
        for number in [n for n in self._images if n < last and n not in supports]:
            del self._images[number]


class _BlankFootage:
    """Frames without pixels, for choosing support frames without decoding."""

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames
        self._image = np.zeros((1, 1, 3), np.uint8)

    def num_frames(self) -> int:
        return self._num_frames

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        return [Frame(index, None, self._image) for index in indices]

    def __iter__(self) -> Iterator[Frame]:
        yield from self.frames_at(range(self._num_frames))


def _uniform(video: Footage, num_supports: int, images: Images) -> Iterator[SupportedFrame]:
    """Give all frames the same support frames from the entire video; these are read first."""
    supports = uniform_supports(video.num_frames(), num_supports) if num_supports else []
    images.update({frame.index: frame.image for frame in video.frames_at(supports)})
    for frame in video:
        yield SupportedFrame(frame, supports)


def _window(
    frames: Iterable[Frame], num_supports: int, stride: int, images: Images
) -> Iterator[SupportedFrame]:
    """Give each frame those around it. Reads as many frames ahead as the window needs."""
    ahead = num_supports // 2 * stride
    waiting: deque[Frame] = deque()
    num_read = 0
    error: VideoError | None = None
    try:
        for frame in frames:
            images[frame.index] = frame.image
            waiting.append(frame)
            num_read += 1
            if len(waiting) > ahead:
                target = waiting.popleft()
                supports = window_supports(target.index, num_read, num_supports, stride)
                yield SupportedFrame(target, supports)
    except VideoError as break_off:
        error = break_off
    for target in waiting:
        supports = window_supports(target.index, num_read, num_supports, stride)
        yield SupportedFrame(target, supports)
    if error is not None:
        raise error


def _causal(frames: Iterable[Frame], num_supports: int, images: Images) -> Iterator[SupportedFrame]:
    """Give each frame earlier ones, spread evenly; the first frame has none."""
    sampler = CausalSampler(num_supports)
    for frame in frames:
        images[frame.index] = frame.image
        yield SupportedFrame(frame, sampler.supports())
        sampler.add(frame.index)
