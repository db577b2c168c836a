"""Choice of support frames: functions on the frame indices 0..L-1 of one video."""

from __future__ import annotations

from collections.abc import Sequence

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
    """Return S frames at equal distances from the target, earlier ones first (TransVOD's code)."""
    step = max(num_frames // 16, 1)
    offsets = [i for i in range(-target // step, (num_frames - 1 - target) // step) if i] or [0]
    frames = [min(max(target + i * step, 0), num_frames - 1) for i in offsets]
    return (frames * -(-num_supports // len(frames)))[:num_supports]


def global_supports(order: Sequence[int], target: int, num_supports: int) -> list[int]:
    """Return MEGA's S global frames of a target, the newest last.

    A queue of S frames receives `order[S-1]`, ..., `order[0]` before the first target, and one more
    of `order` at each later target.
    """
    added = range(target, target + num_supports)
    return [order[(num_supports - 1 - i if i < num_supports else i) % len(order)] for i in added]


def training_supports(
    target: int,
    num_frames: int,
    num_supports: int,
    support_range: int,
    generator: torch.Generator,
) -> list[int]:
    """Return S random frames within `support_range` of the target, half on each side, ascending.

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
