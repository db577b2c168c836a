"""Benchmark of inference: its bookkeeping, not the times themselves."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from sparsevod_core.benchmark import inference as bench
from sparsevod_core.config import load_config
from sparsevod_core.errors import ConfigError
from sparsevod_core.model.build import build_detector

SETTINGS = bench.BenchmarkSettings(size=(64, 96), supports=2, batch=2, repeats=2, warmup=0)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def detector():
    model = dataclasses.replace(load_config("tiny").model, num_proposals=4, num_stages=2)
    return build_detector(model)


def test_result_is_complete_and_plain(detector):
    result = json.loads(json.dumps(bench.benchmark(detector, SETTINGS, device=CPU)))
    times = result["seconds_per_frame"]
    assert 0 < times["min"] <= times["median"] <= times["p95"]
    assert set(result["parts"]) == {
        *("decode", "preprocess", "backbone", "pyramid", "head", "tfe", "spfa", "output")
    }
    assert all(part["median"] > 0 for part in result["parts"].values())
    assert result["frames_per_second"] == pytest.approx(1 / times["median"])
    assert result["against"] == {}
    assert result["gflop_per_frame"]["kept"] > 0 and result["gflop_per_frame"]["published"] is None
    assert result["machine"]["versions"]["torch"].startswith(torch.__version__.split("+")[0])


def test_parts_that_are_off_take_no_time():
    model = dataclasses.replace(
        load_config("tiny").model, num_proposals=4, num_stages=1, tfe="off", spfa="off"
    )
    settings = dataclasses.replace(SETTINGS, supports=0, repeats=1)
    parts = bench.benchmark(build_detector(model), settings, device=CPU)["parts"]
    assert parts["tfe"]["median"] == parts["spfa"]["median"] == 0
    assert parts["head"]["median"] > 0


SYSTEMS = {
    "selsa": set(),
    "troi": {"tfe"},
    "mamba": set(),
    "mega": set(),
    "transvod": set(),
    "fgfa": {"aggregation"},
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_other_systems(system):
    config = load_config("tiny", system=system)
    detector = build_detector(dataclasses.replace(config.model, num_classes=2))
    settings = dataclasses.replace(
        SETTINGS, batch=1, repeats=1, pad_multiple=16, global_supports=int(system == "mega")
    )
    result = json.loads(json.dumps(bench.benchmark(detector, settings, device=CPU)))
    names = {"decode", "preprocess", "backbone", "proposals", "head", "output"}
    assert set(result["parts"]) == names | SYSTEMS[system]
    model_parts = names - {"decode", "preprocess"} | SYSTEMS[system]
    assert all(result["parts"][name]["median"] > 0 for name in model_parts)
    kept = result["kept_mib"]
    assert kept["memory"] == result["memory_mib"] > 0
    assert (kept["state"] > 0) == detector.is_ordered
    assert (kept["encodings"] > 0) == detector.keeps_encodings
    assert kept["total"] == pytest.approx(kept["memory"] + kept["state"] + kept["encodings"])
    gflop = result["gflop_per_frame"]
    assert gflop["published"] >= gflop["kept"] > 0


def test_contestants_take_turns():
    order = []
    contestants = {name: lambda name=name: order.append(name) for name in ("ours", "a", "b")}
    settings = dataclasses.replace(SETTINGS, warmup=1, repeats=2)
    times = bench._alternate(contestants, settings, CPU, bench.SilentReporter())
    assert order == ["ours", "a", "b"] * 3
    assert [len(values) for values in times.values()] == [2, 2, 2]


def test_yardsticks_run_on_the_same_input(monkeypatch, detector):
    seen = []

    def get_model(name, **_):
        class Yardstick(torch.nn.Module):
            def forward(self, frames):
                seen.append((name, len(frames), tuple(frames[0].shape), float(frames[0].max())))

        return Yardstick()

    monkeypatch.setattr(bench, "get_model", get_model)  # too slow at full size
    settings = dataclasses.replace(SETTINGS, repeats=1)
    result = bench.benchmark(
        detector, settings, device=CPU, against=["fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2"]
    )
    assert {(name, count, shape) for name, count, shape, _ in seen} == {
        ("fcos_resnet50_fpn", 2, (3, 64, 96)),
        ("retinanet_resnet50_fpn_v2", 2, (3, 64, 96)),
    }
    assert all(0.5 < brightest <= 1 for *_, brightest in seen)
    assert set(result["against"]) == {"fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2"}


def test_unknown_yardstick(detector):
    with pytest.raises(ConfigError, match="expected plain, torchvision or one of"):
        bench.benchmark(detector, SETTINGS, device=CPU, against=["yolo"])


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="repeats=0"):
        bench.BenchmarkSettings(repeats=0)
