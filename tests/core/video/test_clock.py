"""Clock: which time stamps are kept, and what becomes of the others."""

from __future__ import annotations

from fractions import Fraction

import pytest

from sparsevod_core.video.clock import Clock

HOURS = 36_000_000
LATE_RISE = [0, 33, 67, 500, 510, 2000, 2033, 2100]


def times(
    stamps: list[int | None], *, rate: int = 10, is_free: bool = True
) -> tuple[list[int], str | None]:
    clock = Clock(Fraction(1, 1000), Fraction(rate), is_free=is_free)
    return [clock.time_of(stamp) for stamp in stamps], clock.note


@pytest.mark.parametrize(
    ("stamps", "is_free"),
    [
        ([0, 100, 200], True),
        ([-300, -200, -100, 0], False),
        (LATE_RISE, False),
        ([0, 100, 300_100, 300_200], False),  # a pause of five minutes
        ([7_200_000 * i for i in range(4)], False),  # one frame in two hours
    ],
)
def test_ascending_times_are_kept_exactly(stamps: list[int | None], is_free: bool) -> None:
    rate = 1 if stamps[1] != 7_200_000 else Fraction(1, 7200)
    clock = Clock(Fraction(1, 1000), Fraction(rate), is_free=is_free)
    assert [clock.time_of(stamp) for stamp in stamps] == stamps
    assert clock.note is None


REPAIRED: dict[str, tuple[list[int | None], list[int], str]] = {
    "starts again": ([5000, 5100, 5200, 0, 100], [5000, 5100, 5200, 5300, 5400], "falls by 5.20"),
    "jumps": ([0, 100, HOURS, HOURS + 100], [0, 100, 200, 300], "jumps by 35,999.90 s"),
    "one is too large": ([0, 100, HOURS, 300, 400], [0, 100, 200, 300, 400], "jumps by 35,999"),
    "one is too small": ([900, 1000, 0, 1200], [900, 1000, 1100, 1200], "falls by 1.00 s"),
    "all are equal": ([0, 0, 0, 0], [0, 100, 200, 300], "frame 1 (0.10 s) repeats"),
    "some repeat": ([0, 100, 100, 200, 300, 400], [0, 100, 200, 250, 300, 400], "repeats"),
    "some are missing": ([0, 100, None, 300, None], [0, 100, 200, 300, 400], "in 1 more place"),
    "absurd": ([0, 100, 2**62, -(2**62)], [0, 100, 200, 300], "frame 2 (0.20 s)"),
    "short parts": ([*range(0, 400, 100)] * 3, [*range(0, 1200, 100)], "falls by 0.30 s"),
}


@pytest.mark.parametrize("case", REPAIRED)
def test_other_times_follow_by_the_duration_of_a_frame(case: str) -> None:
    stamps, expected, says = REPAIRED[case]
    found, note = times(stamps)
    assert found == expected
    assert note is not None
    assert says in note


def test_a_stream_without_times_follows_its_rate() -> None:
    assert times([None] * 4) == ([0, 100, 200, 300], None)
    assert times([None] * 3, rate=25) == ([0, 40, 80], None)


def test_jumps_tell_where_and_by_how_much() -> None:
    clock = Clock(Fraction(1, 1000), Fraction(10), is_free=True)
    for stamp in (5000, 5100, 20, 120):
        clock.time_of(stamp)
    (jump,) = clock.jumps
    assert (jump.stamp_s, jump.shift_s) == (Fraction(2, 100), Fraction(518, 100))
