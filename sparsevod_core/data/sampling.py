"""Choice of support frames: functions on the frame indices 0..L-1 of one video."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import torch


def uniform_supports(num_frames: int, num_supports: int) -> list[int]:
    """Return S frames spread over the video, the same for every target.

    The i-th is i·(L−1)/(S−1), rounded half to even (MMTracking's `test_with_adaptive_stride`,
    without the target that it appends). A video shorter than S repeats frames. A single support is
    the middle frame.
    """
    if num_frames == 0 or num_supports == 0:
        return []
    if num_supports == 1:
        return [round((num_frames - 1) / 2)]
    stride = (num_frames - 1) / (num_supports - 1)
    return [round(i * stride) for i in range(num_supports)]


def window_supports(target: int, num_frames: int, num_supports: int, stride: int = 1) -> list[int]:
    """Return S frames around the target, `stride` apart (MMTracking's `test_with_fix_stride`).

    The window moves at every `stride`-th frame m. Frames after the target are m + stride,
    m + 2·stride, ...; frames before it are m − 1, m − 1 − stride, ..., one more if S is odd.
    Indices are clamped to the video: its first or last frame may be repeated, and be the target.
    """
    moved = target - target % stride
    num_after = num_supports // 2
    num_before = num_supports - num_after
    before = [max(moved - 1 - i * stride, 0) for i in reversed(range(num_before))]
    after = [min(moved + i * stride, num_frames - 1) for i in range(1, num_after + 1)]
    return before + after


def strided_supports(target: int, num_frames: int, num_supports: int) -> list[int]:
    """Return TransVOD's S support frames of a target: every n-th frame, n a 16th of the video.

    They begin before the start of the video and end one step early, and the first S are taken. So
    past frames are preferred, and a long video's end is not seen from its beginning. With fewer
    than 8 supports, the nearest ones on one side are taken: past ones if there are enough.

    A video with too few frames repeats them. Where the reference (SJTU-LuHe/TransVOD) finds no
    frame and does not end, at the first frame of a video of one or two, the last frame is taken.
    """
    step = max(num_frames // 16, 1)
    last = num_frames - 1
    if num_supports < 8:
        direction = -step if target // step >= num_supports else step
        return [min(max(target + i * direction, 0), last) for i in range(1, num_supports + 1)]
    offsets = range(-target // step, (last - target) // step)
    frames = [max(target + i * step, 0) for i in offsets if i != 0] or [last]
    return list(islice(cycle(frames), num_supports))


def mega_supports(
    target: int, num_frames: int, reach: int, order: Sequence[int], num_global: int
) -> tuple[list[int], list[int]]:
    """Return MEGA's window around a target, and its global frames.

    Args:
        target: the target frame.
        num_frames: L.
        reach: frames of the window on each side of the target. At the ends of the video, the first
            or last frame is repeated.
        order: random order of the video's frames, the same for all its targets. The first target
            has the first `num_global` frames, last one first. Each further target drops the first
            of its list and appends the next frame; the order starts again after its end.
        num_global: number of global frames.
    """
    neighbors = range(target - reach, target + reach + 1)
    window = [min(max(frame, 0), num_frames - 1) for frame in neighbors]
    places = range(target, target + num_global)
    ranks = [num_global - 1 - place if place < num_global else place for place in places]
    return window, [order[rank % num_frames] for rank in ranks]


def training_supports(
    target: int,
    num_frames: int,
    num_supports: int,
    support_range: int,
    generator: torch.Generator,
) -> list[int]:
    """Return S random frames within `support_range` of the target, half on each side, ascending.

    MMTracking trains SELSA, Temporal RoI Align and FGFA with a range of 9 frames; the released code
    of MAMBA with that of the entire video.

    The target is excluded. If the range has fewer than S frames, each is taken equally often, up to
    one. If S is odd, a coin decides which side has one more. Near an end of the video, the other
    side provides the rest. A still image supports itself, so that it trains every parameter.
    """
    if num_frames == 1:
        return [target] * num_supports
    before = range(max(target - support_range, 0), target)
    after = range(target + 1, min(target + support_range + 1, num_frames))
    times_all, num_left = divmod(num_supports, len(before) + len(after))
    coin = int(torch.randint(2, (), generator=generator)) if num_left % 2 else 0
    num_before = max(num_left // 2 + coin, num_left - len(after))
    num_before = min(num_before, len(before))
    chosen = [
        *_draw(before, num_before, generator),
        *_draw(after, num_left - num_before, generator),
        *(times_all * [*before, *after]),
    ]
    return sorted(chosen)


def anywhere_supports(
    target: int, num_frames: int, num_supports: int, generator: torch.Generator
) -> list[int]:
    """Return S random other frames of the video, ascending, as TransVOD trains with.

    If there are fewer than S, each is taken equally often, up to one. A still image supports
    itself.
    """
    if num_frames == 1:
        return [target] * num_supports
    others = [frame for frame in range(num_frames) if frame != target]
    times_all, num_left = divmod(num_supports, len(others))
    return sorted([*_draw(others, num_left, generator), *(times_all * others)])


def mega_training_supports(
    target: int,
    num_frames: int,
    *,
    reach: int,
    num_local: int,
    num_memory: int,
    num_global: int,
    generator: torch.Generator,
) -> tuple[list[int], list[int], list[int]]:
    """Return the local, memory and global frames with which MEGA trains.

    Local frames are the target itself and `num_local` frames near it; memory frames are near the
    frame that is one window before the target, or near the first frame. Near means within `reach`;
    frames beyond an end of the video become the first or the last one, and may be drawn twice then.
    Global frames are different frames of the video, as long as there are enough.
    """

    def near(center: int, count: int) -> list[int]:
        frames = _draw(range(center - reach, center + reach + 1), count, generator)
        return [min(max(frame, 0), num_frames - 1) for frame in frames]

    window = 2 * reach + 1
    local = [target, *near(target, num_local)]
    memory = near(max(target - window, 0), num_memory)
    frames = _draw(range(num_frames), num_global, generator)
    return local, memory, list(islice(cycle(frames), num_global))


def _draw(frames: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    return [frames[i] for i in torch.randperm(len(frames), generator=generator)[:count].tolist()]


class CausalSampler:
    """Chooses at most S past frames, spread evenly over a stream of unknown length.

    It keeps every 2^k-th frame; when it has S, k grows by one and every second frame is dropped.

    Args:
        num_supports: S.
    """

    def __init__(self, num_supports: int) -> None:
        self._capacity = num_supports
        self._stride = 1
        self._kept: list[int] = []

    def add(self, index: int) -> None:
        """Add frame `index`; call this for every frame from 0, in order."""
        if self._capacity == 0:
            return
        while index % self._stride == 0 and len(self._kept) == self._capacity:
            self._stride *= 2
            self._kept = [kept for kept in self._kept if kept % self._stride == 0]
        if index % self._stride == 0:
            self._kept.append(index)

    def supports(self) -> list[int]:
        """Return the frames kept, oldest first."""
        return list(self._kept)
