"""Benchmark of training: parts add up to the step, and measuring does not change training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from sparsevod_core.benchmark import training_step
from sparsevod_core.benchmark.train import benchmark_training
from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.losses import criterion

if TYPE_CHECKING:
    from conftest import TinySet

CPU = torch.device("cpu")


def config(source: TinySet, *overrides: str) -> Config:
    small = ["model.num_stages=1", "model.num_proposals=4", "train.clips_per_gpu=2"]
    sizes = ["data.short_side=32", "data.long_side=64", "data.workers=0"]
    where = f"data.train_annotations={source.annotations}"
    return load_config("tiny", overrides=[*small, *sizes, where, *overrides])


def test_the_result_is_complete_and_plain(image_set: TinySet) -> None:
    settings = config(image_set, "train.precision=bf16")
    result = json.loads(json.dumps(benchmark_training(settings, device=CPU, steps=3, warmup=1)))
    parts = result["parts"]
    assert list(parts) == ["data_wait", *training_step.PARTS]
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    for times in (*parts.values(), result["seconds_per_step"]):
        assert 0 < times["min"] <= times["median"] <= times["p95"]
    assert 0 < result["data_wait_share"] < 1
    assert result["clips_per_second"] < 2 / result["seconds_per_step"]["min"]
    assert result["settings"]["precision"] == "bf16" and result["settings"]["steps"] == 3


def test_each_part_is_timed_where_it_happens(
    image_set: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances only inside the parts, by 2, 3, 5 and 7 seconds."""
    clock = [0.0]
    dataset, settings = training_step.training_clips(config(image_set))
    step = training_step.TrainingStep(settings, CPU)
    monkeypatch.setattr(training_step, "now", lambda _: clock[0])
    match = criterion.match

    def slow_match(*arguments: object) -> object:
        clock[0] += 3
        return match(*arguments)

    monkeypatch.setattr(criterion, "match", slow_match)
    step.detector.register_forward_hook(lambda *_: clock.__setitem__(0, clock[0] + 2))
    first = next(p for p in step.detector.parameters() if p.requires_grad)
    first.register_hook(lambda _: clock.__setitem__(0, clock[0] + 5))
    step._optimizer.register_step_post_hook(lambda *_: clock.__setitem__(0, clock[0] + 7))
    batches = training_step.endless_batches(dataset, settings)
    seconds = step.parts(next(batches))
    batches.close()
    assert seconds == {"forward": 2, "matching": 3, "loss": 0, "backward": 5, "optimiser": 7}


def test_a_step_in_parts_is_the_same_step(image_set: TinySet) -> None:
    dataset, settings = training_step.training_clips(config(image_set))
    batches = training_step.endless_batches(dataset, settings)
    batch = next(batches)
    batches.close()
    plain, timed = (training_step.TrainingStep(settings, CPU) for _ in range(2))
    plain(batch)
    timed.parts(batch)
    for one, other in zip(plain.detector.parameters(), timed.detector.parameters(), strict=True):
        assert torch.equal(one, other)


def test_nothing_to_measure(image_set: TinySet) -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        benchmark_training(config(image_set), device=CPU, steps=0)
