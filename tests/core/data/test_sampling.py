"""Support frames: equal to the reference implementation, and valid at the ends of a video."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsevod_core.data.sampling import (
    CausalSampler,
    anywhere_supports,
    mega_supports,
    mega_training_supports,
    strided_supports,
    training_supports,
    uniform_supports,
    window_supports,
)

FIXTURES = Path(__file__).parents[2] / "fixtures"

# Results of MMTracking's test-time samplers: frame ids by target frame, by video length.
REFERENCE = json.loads((FIXTURES / "support_sampling.json").read_text())

# Which frames other systems read, by video length and target: run with the code of MMTracking and
# TransVOD, and written from the description of MEGA.
SYSTEMS = json.loads((FIXTURES / "rivals" / "rival_sampling.json").read_text())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("num_supports", [14, 6, 2])
def test_uniform_supports_equal_the_reference(num_supports: int) -> None:
    for length, rows in REFERENCE[f"adaptive_num{num_supports}"].items():
        supports = uniform_supports(int(length), num_supports)
        assert rows == [[*supports, target] for target in range(int(length))]


@pytest.mark.parametrize("stride", [1, 2])
def test_window_supports_equal_the_reference(stride: int) -> None:
    for length, rows in REFERENCE[f"fix_-3_3_stride{stride}"].items():
        for target, row in enumerate(rows):
            supports = window_supports(target, int(length), 6, stride)
            assert [*supports[:3], target, *supports[3:]] == row


@pytest.mark.parametrize("length", SYSTEMS)
def test_supports_of_other_systems_equal_the_reference(length: str) -> None:
    expected, num_frames = SYSTEMS[length], int(length)
    assert uniform_supports(num_frames, 14) == expected["selsa_troi_mamba_init_supports"]
    for target in expected["targets"]:
        window = window_supports(target, num_frames, 30)
        assert [*window[:15], target, *window[15:]] == expected["fgfa_window"][str(target)]
        for count in (14, 4):
            supports = expected[f"transvod_{count}"][str(target)]
            if isinstance(supports, list):  # the reference ends
                assert strided_supports(target, num_frames, count) == supports


@pytest.mark.parametrize("length", SYSTEMS)
def test_supports_of_mega_equal_the_reference(length: str) -> None:
    expected, num_frames = SYSTEMS[length], int(length)

    def supports(target: int) -> tuple[list[int], list[int]]:
        return mega_supports(target, num_frames, 12, expected["mega_global_order"], 10)

    for target in expected["targets"]:
        window, global_frames = supports(target)
        # The memory holds what the oldest frames of the last 25 windows had.
        memory = [supports(earlier)[0][0] for earlier in range(max(target - 25, 0), target)]
        assert {"window": window, "global_": global_frames, "memory": memory} == expected["mega"][
            str(target)
        ]


@given(num_frames=st.integers(1, 80), target=st.integers(0, 79), num_supports=st.integers(0, 20))
def test_strided_supports_exist_for_every_video(
    num_frames: int, target: int, num_supports: int
) -> None:
    target %= num_frames
    supports = strided_supports(target, num_frames, num_supports)
    assert len(supports) == num_supports
    assert set(supports) <= set(range(num_frames))
    if num_frames > 1 and num_supports >= 8:
        assert target not in supports


def test_few_uniform_supports() -> None:
    assert uniform_supports(9, 0) == []
    assert uniform_supports(9, 1) == [4]
    assert uniform_supports(9, 2) == [0, 8]
    assert uniform_supports(1, 6) == [0] * 6


def test_an_odd_window_looks_further_back() -> None:
    assert window_supports(5, 20, 3) == [3, 4, 6]
    assert window_supports(5, 20, 1) == [4]
    assert window_supports(5, 20, 0) == []


@given(
    num_frames=st.integers(2, 40),
    target=st.integers(0, 39),
    num_supports=st.integers(0, 12),
    support_range=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
def test_training_supports_stay_in_range_and_exclude_the_target(
    num_frames: int, target: int, num_supports: int, support_range: int, seed: int
) -> None:
    target %= num_frames
    supports = training_supports(target, num_frames, num_supports, support_range, generator(seed))
    near = [
        frame
        for frame in range(num_frames)
        if frame != target and abs(frame - target) <= support_range
    ]
    assert len(supports) == num_supports
    assert set(supports) <= set(near)
    assert supports == sorted(supports)
    times = Counter(supports)
    counts = [times[frame] for frame in near]
    assert max(counts) - min(counts) <= 1  # none twice before all are there
    before = sum(frame < target for frame in supports)
    enough_on_both_sides = min(target, num_frames - 1 - target) >= num_supports <= support_range
    if enough_on_both_sides:
        assert abs(before - (num_supports - before)) <= 1


def test_training_supports_reach_every_frame_of_both_sides() -> None:
    draws = [training_supports(20, 50, 2, 9, generator(seed)) for seed in range(400)]
    assert {before for before, _ in draws} == set(range(11, 20))
    assert {after for _, after in draws} == set(range(21, 30))


def test_a_side_that_is_short_is_filled_from_the_other() -> None:
    for seed in range(20):
        first, second = training_supports(0, 30, 2, 9, generator(seed))
        assert 1 <= first < second <= 9
        first, second = training_supports(29, 30, 2, 9, generator(seed))
        assert 20 <= first < second <= 28


def test_the_third_support_falls_on_either_side() -> None:
    before = [
        sum(frame < 20 for frame in training_supports(20, 50, 3, 9, generator(seed)))
        for seed in range(50)
    ]
    assert set(before) == {1, 2}


def test_a_single_frame_supports_itself() -> None:
    assert training_supports(0, 1, 2, 9, generator()) == [0, 0]


def test_the_range_of_mamba_is_the_entire_video() -> None:
    draws = [training_supports(3, 30, 2, 30, generator(seed)) for seed in range(400)]
    assert {before for before, _ in draws} == {0, 1, 2}
    assert {after for _, after in draws} == set(range(4, 30))


@given(
    num_frames=st.integers(2, 30),
    target=st.integers(0, 29),
    num_supports=st.integers(0, 20),
    seed=st.integers(0, 2**32),
)
def test_supports_from_anywhere_are_other_frames_equally_often(
    num_frames: int, target: int, num_supports: int, seed: int
) -> None:
    target %= num_frames
    supports = anywhere_supports(target, num_frames, num_supports, generator(seed))
    assert len(supports) == num_supports
    times = Counter(supports)
    assert target not in times
    counts = [times[frame] for frame in range(num_frames) if frame != target]
    assert max(counts) - min(counts) <= 1


def test_supports_from_anywhere_reach_every_frame() -> None:
    assert anywhere_supports(0, 1, 3, generator()) == [0, 0, 0]
    draws = [anywhere_supports(4, 20, 2, generator(seed)) for seed in range(200)]
    assert {frame for draw in draws for frame in draw} == set(range(20)) - {4}


def mega_draws(target: int, num_frames: int) -> list[tuple[list[int], list[int], list[int]]]:
    sizes = {"reach": 12, "num_local": 2, "num_memory": 3, "num_global": 2}
    return [
        mega_training_supports(target, num_frames, **sizes, generator=generator(seed))
        for seed in range(400)
    ]


def test_mega_trains_with_near_earlier_and_any_frames() -> None:
    for local, memory, global_frames in mega_draws(60, 100):
        assert local[0] == 60
        assert [len(local), len(memory), len(global_frames)] == [3, 3, 2]
        assert all(len(set(frames)) == len(frames) for frames in (local[1:], memory, global_frames))
    local, memory, global_frames = (
        {frame for frames in group for frame in frames}
        for group in zip(*mega_draws(60, 100), strict=True)
    )
    assert local == set(range(48, 73))
    assert memory == set(range(23, 48))  # 25 frames earlier: one window
    assert global_frames == set(range(100))


def test_frames_of_mega_stay_in_the_video() -> None:
    for local, memory, global_frames in mega_draws(5, 8):
        assert set(local) | set(memory) | set(global_frames) <= set(range(8))
    for groups in mega_draws(0, 1):
        assert groups == ([0, 0, 0], [0, 0, 0], [0, 0])


@pytest.mark.parametrize("num_supports", [1, 2, 3, 6, 7])
def test_causal_supports_are_evenly_spread_over_the_past(num_supports: int) -> None:
    sampler = CausalSampler(num_supports)
    assert sampler.supports() == []  # the first frame has none
    for index in range(1000):
        sampler.add(index)
        kept = sampler.supports()
        assert kept[0] == 0
        assert len(kept) <= num_supports
        strides = {b - a for a, b in pairwise(kept)}
        assert len(strides) <= 1 and all(stride & (stride - 1) == 0 for stride in strides)
        if index + 1 >= num_supports > 1:
            assert len(kept) > num_supports // 2 - (num_supports % 2 == 0)
            assert index - kept[-1] < (strides or {1}).pop() * 2


def test_a_causal_sampler_of_size_zero_stays_empty() -> None:
    sampler = CausalSampler(0)
    sampler.add(0)
    assert sampler.supports() == []
