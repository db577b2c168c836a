"""Benchmark of data loading: waiting times, real clips and steps, and the result."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sparsevod_core.benchmark import data as bench
from sparsevod_core.benchmark import timing, training_step
from sparsevod_core.benchmark.training_step import TrainingStep
from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import SilentReporter

if TYPE_CHECKING:
    from conftest import TinySet

CPU = torch.device("cpu")


def config(source: TinySet, *overrides: str) -> Config:
    small = ["model.num_stages=1", "model.num_proposals=4", "train.clips_per_gpu=2"]
    sizes = ["data.short_side=32", "data.long_side=64", "data.workers=0"]
    where = f"data.train_annotations={source.annotations}"
    return load_config("tiny", overrides=[*small, *sizes, where, *overrides])


def test_a_wait_ends_when_the_batch_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, closed = [0.0], []

    def batches() -> Generator[Any, None, None]:
        try:
            while True:
                clock[0] += 3
                yield None
        finally:
            closed.append(True)

    def step(_: object) -> None:
        clock[0] += 7

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    with SilentReporter().progress("", None) as progress:
        times = training_step.time_steps(batches(), step, CPU, 2, 4, progress)
    assert times == [training_step.StepTime(wait=3, total=10)] * 4
    assert closed  # loader processes have ended


def test_the_result_is_complete_and_plain(video_set: TinySet) -> None:
    result = json.loads(
        json.dumps(bench.benchmark_data(config(video_set), device=CPU, steps=3, warmup=1))
    )
    assert result["clips"] == 17
    assert 0 < result["training"]["data_wait_share"] < 1  # the training process loads
    for times in (
        result["loader"]["seconds_per_batch"],
        result["training"]["seconds_per_step"],
        result["training"]["wait_seconds_per_step"],
    ):
        assert 0 < times["min"] <= times["median"] <= times["p95"]
    assert (
        result["training"]["clips_per_second"] < 2 / result["training"]["seconds_per_step"]["min"]
    )
    settings = result["settings"]
    assert (settings["clips_per_step"], settings["frames_per_clip"]) == (2, 3)
    assert (settings["workers"], settings["short_side"]) == (0, 32)


def test_epochs_follow_one_another_and_each_process_loads(video_set: TinySet) -> None:
    """An epoch has 9 batches, the same ones as in training."""
    settings = config(video_set, "data.workers=1")
    dataset = training_step.ClipDataset(
        training_step.VideoSet.load(video_set.annotations), settings.data, 0
    )
    batches = training_step.endless_batches(dataset, settings)
    seen = [next(batches).files for _ in range(12)]
    batches.close()
    assert len({clip[0] for files in seen[:9] for clip in files}) == 17
    assert seen[9:] != seen[:3]


def test_a_baseline_loads_no_supports(video_set: TinySet) -> None:
    alone = config(video_set, "model.tfe=off", "model.spfa=off")
    result = bench.benchmark_data(alone, device=CPU, steps=1, warmup=0)
    assert result["settings"]["frames_per_clip"] == 1


def test_a_step_trains(video_set: TinySet) -> None:
    settings = config(video_set).replace({"model.num_classes": 2})
    dataset = training_step.ClipDataset(
        training_step.VideoSet.load(video_set.annotations), settings.data, 0
    )
    step = TrainingStep(settings, CPU)
    before = {name: value.clone() for name, value in step.detector.state_dict().items()}
    batches = training_step.endless_batches(dataset, settings)
    step(next(batches))
    batches.close()
    after = step.detector.state_dict()
    changed = {
        name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])
    }
    assert {"backbone", "stages"} <= changed


def test_nothing_to_measure(video_set: TinySet) -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        bench.benchmark_data(config(video_set), device=CPU, steps=0)
