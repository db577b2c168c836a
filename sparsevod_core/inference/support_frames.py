"""Support frames of one video: which ones each target frame gets, and their memories."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from sparsevod_core.config import Config
from sparsevod_core.data.sampling import (
    CausalSampler,
    mega_supports,
    strided_supports,
    uniform_supports,
    window_supports,
)
from sparsevod_core.errors import VideoError
from sparsevod_core.structures import Frame
from sparsevod_core.video.opening import Footage

Images = dict[int, np.ndarray]
"""RGB pixels of frames by frame number."""

Memory = TypeVar("Memory")


KEPT_BYTES = 2 << 30
"""Size of the memories that are kept for `strided` and `mega`, where frames come again: with MEGA's
ResNets, those of 1,400 frames."""
_READ_AHEAD = 32  # global frames are read in groups, in ascending order, since seeking is slow


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportPlan:
    """Which frames of a video support its target frames.

    Attributes:
        mode: `inference.support`, see `InferenceConfig`.
        supports: Number of support frames of each target frame, S.
        global_supports: Number of global support frames of MEGA, with `mega` and `causal`.
        window_stride: Distance in frames between the support frames of `window`.
        is_near: Whether `causal` takes the frames immediately before the target frame, instead of
            frames spread over the past: for detectors that look at neighbors.
        seed: Seed of the order of the global frames.
    """

    mode: str
    supports: int
    global_supports: int = 0
    window_stride: int = 1
    is_near: bool = False
    seed: int = 0

    @classmethod
    def of(cls, config: Config) -> SupportPlan:
        """Return the plan of the settings."""
        inference, is_used = config.inference, config.model.uses_supports
        has_global = config.model.system == "mega" and inference.support in ("mega", "causal")
        return cls(
            mode=inference.support,
            supports=inference.supports if is_used else 0,
            global_supports=inference.global_supports if is_used and has_global else 0,
            window_stride=inference.window_stride,
            is_near=config.model.system in ("mega", "fgfa"),
            seed=config.seed,
        )

    @classmethod
    def none(cls) -> SupportPlan:
        """Return the plan without support frames."""
        return cls(mode="uniform", supports=0)

    @property
    def is_shared(self) -> bool:
        """Whether consecutive target frames can have the same support frames."""
        is_moving = self.mode == "window" and self.window_stride == 1
        return not self.supports or not (is_moving or self.mode in ("causal", "strided", "mega"))

    @property
    def kept_bytes(self) -> int:
        """Size of the memories that are kept although the last target did not need them."""
        return KEPT_BYTES if self.mode in ("strided", "mega") else 0

    @property
    def header(self) -> dict[str, Any]:
        """How support frames are chosen, as JSON results record it."""
        header = {
            "mode": self.mode,
            "supports": self.supports,
            "window_stride": self.window_stride,
        }
        return header | ({"global_supports": self.global_supports} if self.global_supports else {})


@dataclass(frozen=True, slots=True)
class SupportedFrame:
    """A target frame and the numbers of its support frames and global support frames.

    Attributes:
        soon: Numbers of frames that are better read together with these, because the next targets
            need them.
    """

    frame: Frame
    supports: list[int]
    global_supports: list[int] = field(default_factory=list)
    soon: list[int] = field(default_factory=list)


def supported_frames(video: Footage, plan: SupportPlan, images: Images) -> Iterator[SupportedFrame]:
    """Yield every frame of a video with its support frames, as the plan chooses them.

    Args:
        video: The video; it is read once from start to end.
        plan: Choice of support frames.
        images: Receives the pixels of possible support frames that were read for another reason,
            or are read best now, before a frame that needs them is yielded. The caller removes
            those that are no longer needed.
    """
    if plan.mode == "uniform" or plan.supports + plan.global_supports == 0:
        return _uniform(video, plan.supports, images)
    if plan.mode == "window":
        return _window(video, plan.supports, plan.window_stride, images)
    if plan.mode == "strided":
        return _strided(video, plan.supports)
    if plan.mode == "mega":
        return _mega(video, plan, images)
    return _causal(video, plan, images)


def support_numbers(
    targets: Sequence[int], num_frames: int, plan: SupportPlan
) -> list[SupportedFrame]:
    """Return some target frames of a video, without pixels, with the numbers of their supports.

    Args:
        targets: Numbers of the target frames.
        num_frames: Number of frames of the video.
        plan: Choice of support frames.
    """
    frames = list(supported_frames(_BlankFootage(num_frames), plan, {}))
    return [frames[target] for target in targets]


def batches(frames: Iterable[SupportedFrame], size: int) -> Iterator[list[SupportedFrame]]:
    """Yield batches of consecutive frames with the same support frames, at most `size` in each.

    A full batch is yielded before the next frame is requested. If the video breaks off, all frames
    before the break are yielded first.
    """
    batch: list[SupportedFrame] = []
    error: VideoError | None = None
    try:
        for one in frames:
            if batch and _numbers(one) != _numbers(batch[0]):
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
    """Memories of a video's support frames, and the state of a detector that goes through it.

    Each support frame goes through the model once. Its memory is kept while target frames need it.

    Args:
        images: Pixels of possible support frames, see `supported_frames`; those that no later
            target frame needs are removed.
        read: Returns frames by their numbers, for those without pixels in `images`.
        encode: Returns the model's encoding of one frame.
        remember: Returns the model's memory of an encoded frame.
        join: Joins the memories of several frames, and of several global ones; returns None for
            none.
        keeps_encodings: If True, keep the encodings of support frames that may still be targets.
        kept_bytes: Size of the memories, with their encodings, that are kept although the current
            target does not need them. If it is 0, those of later frames are kept all the same.

    Attributes:
        state: What an ordered detector passes from one target frame to the next.
    """

    def __init__(
        self,
        images: Images,
        *,
        read: Callable[[Sequence[int]], Sequence[Frame]],
        encode: Callable[[np.ndarray], Any],
        remember: Callable[[Any], Memory],
        join: Callable[[Sequence[Memory], Sequence[Memory]], Memory | None],
        keeps_encodings: bool = False,
        kept_bytes: int = 0,
    ) -> None:
        self.state: Any = None
        self._images = images
        self._read = read
        self._encode = encode
        self._remember = remember
        self._join = join
        self._keeps_encodings = keeps_encodings
        self._kept_bytes = kept_bytes
        self._memories: dict[int, Memory] = {}  # the frames that were used last are at the end
        self._encodings: dict[int, Any] = {}
        self._numbers: tuple[list[int], list[int]] = ([], [])
        self._memory: Memory | None = None

    def encoding_of(self, target: SupportedFrame) -> Any | None:
        """Return the encoding of a target frame, if it is also a support frame and is kept."""
        return self._encodings.get(target.frame.index)

    def memory_of(self, batch: Sequence[SupportedFrame]) -> Memory | None:
        """Return the memory of the support frames that this batch shares.

        Batches come in the order of the video.
        """
        numbers = _numbers(batch[0])
        first = batch[0].frame.index
        if numbers != self._numbers:
            self._numbers = numbers
            needed = dict.fromkeys([*numbers[0], *numbers[1]])
            self._read_missing(needed, batch[0].soon)
            for number in needed:
                self._memories[number] = self._memory_of_frame(number, first)
            self._memory = self._join(
                [self._memories[number] for number in numbers[0]],
                [self._memories[number] for number in numbers[1]],
            )
            self._forget(needed, first)
        kept = self._encodings.items()
        self._encodings = {n: one for n, one in kept if n >= first and n in self._memories}
        return self._memory

    def _read_missing(self, needed: Iterable[int], soon: Sequence[int]) -> None:
        """Read the pixels of needed frames that are neither there nor remembered."""
        if any(self._is_missing(number) for number in needed):
            missing = sorted({n for n in (*needed, *soon) if self._is_missing(n)})
            self._images.update({frame.index: frame.image for frame in self._read(missing)})

    def _is_missing(self, number: int) -> bool:
        return number not in self._images and number not in self._memories

    def _forget(self, needed: Container[int], first: int) -> None:
        """Drop the memories that were not used for the longest time, if there are too many."""
        others = [number for number in self._memories if number not in needed]
        if self._kept_bytes:
            # All frames of a video have the same size.
            latest = next(reversed(self._memories))
            encodings = list(self._encodings.values())[-1:]
            num_bytes = sum(part.nbytes for part in (self._memories[latest], *encodings))
            others = others[: max(len(others) - self._kept_bytes // num_bytes, 0)]
        else:  # a frame after the target, or the target itself, may support later targets again
            others = [number for number in others if number < first]
        for number in others:
            del self._memories[number]

    def _memory_of_frame(self, number: int, first: int) -> Memory:
        if number in self._memories:
            return self._memories.pop(number)
        # One by one, so that results do not depend on when a frame is remembered.
        encoding = self._encode(self._images.pop(number))
        if self._keeps_encodings and number >= first:
            self._encodings[number] = encoding
        return self._remember(encoding)

    def drop_images(self, batch: Sequence[SupportedFrame]) -> None:
        """Remove the images that no target frame after this batch needs."""
        # If the batch did not go through the model, its support frames are not remembered yet.
        last, target = batch[-1].frame.index, batch[-1]
        needed = {*target.supports, *target.global_supports, *target.soon}
        for number in [n for n in self._images if n < last and n not in needed]:
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


def _causal(frames: Iterable[Frame], plan: SupportPlan, images: Images) -> Iterator[SupportedFrame]:
    """Give each frame earlier ones; the first frame has none.

    Frames of a window end with the target frame for `mega`, whose window contains it.
    """
    near: deque[int] = deque(maxlen=max(plan.supports, 1 if plan.global_supports else 0))
    spread = CausalSampler(plan.global_supports if plan.is_near else plan.supports)
    for frame in frames:
        images[frame.index] = frame.image
        if not plan.is_near:
            yield SupportedFrame(frame, spread.supports())
        elif plan.global_supports:
            near.append(frame.index)
            yield SupportedFrame(frame, list(near), spread.supports())
        else:
            yield SupportedFrame(frame, list(near))
            near.append(frame.index)
        spread.add(frame.index)


def _strided(video: Footage, num_supports: int) -> Iterator[SupportedFrame]:
    """Give each frame the frames that TransVOD's code takes."""
    num_frames = video.num_frames()
    for frame in video:
        yield SupportedFrame(frame, strided_supports(frame.index, num_frames, num_supports))


def _mega(video: Footage, plan: SupportPlan, images: Images) -> Iterator[SupportedFrame]:
    """Give each frame a window around it and global frames in a random order."""
    num_frames = video.num_frames()
    order = torch.randperm(num_frames, generator=torch.Generator().manual_seed(plan.seed)).tolist()
    half = plan.supports // 2
    for supported in _window(video, 2 * half, 1, images):
        target = supported.frame.index
        window, chosen = mega_supports(target, num_frames, half, order, plan.global_supports)
        newest = target + plan.global_supports - 1
        soon = [order[(newest + later) % num_frames] for later in range(_READ_AHEAD)]
        yield SupportedFrame(supported.frame, window, chosen, soon)


def _numbers(target: SupportedFrame) -> tuple[list[int], list[int]]:
    return target.supports, target.global_supports
