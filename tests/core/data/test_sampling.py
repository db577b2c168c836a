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
    training_supports,
    uniform_supports,
    window_supports,
)

# Results of MMTracking's test-time samplers: frame ids by target frame, by video length.
REFERENCE = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "support_sampling.json").read_text()
)


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
