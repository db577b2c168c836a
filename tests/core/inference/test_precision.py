"""Resolution of `auto`, and the model that is used."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.config import load_config
from sparsevod_core.inference import Predictor
from sparsevod_core.inference.device import resolve_precision
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("avx512_bf16", "amx", "precision"),
    [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")],
)
def test_auto_is_what_the_processor_computes_with(
    avx512_bf16: bool, amx: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert resolve_precision("auto", CPU) == precision
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"


def test_unknown_bf16_support_means_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize(
    ("overrides", "dtype"),
    [
        (["inference.precision=fp32"], torch.float32),
        (["inference.precision=bf16"], torch.bfloat16),
        (["inference.fast=false"], None),
    ],
)
def test_the_settings_choose_the_model(overrides: list[str], dtype: torch.dtype | None) -> None:
    config = load_config("tiny", overrides=["model.num_classes=1", *overrides])
    detector = build_detector(config.model)
    predictor = Predictor(detector, config, [Category(1, "square")], device="cpu")
    model = predictor._model
    if dtype is None:
        assert model is detector
    else:
        assert model is not detector and predictor.plan.dtype == dtype
        assert next(model.backbone.parameters()).dtype == dtype
    plain = predictor.plain()
    assert plain._model is detector and plain.config.inference.precision in ("fp32", "bf16")


def test_the_precision_that_is_recorded_is_the_one_that_computes() -> None:
    config = load_config("tiny", overrides=["model.num_classes=1", "inference.precision=auto"])
    detector = build_detector(config.model)
    predictor = Predictor(detector, config, [Category(1, "square")], device="cpu")
    assert predictor.config.inference.precision == resolve_precision("auto", CPU)


def gpu_predictor(monkeypatch: pytest.MonkeyPatch, setting: str) -> Predictor:
    """Return a predictor that believes to be on a GPU; it must not compute anything."""
    overrides = ["model.num_classes=1", f"inference.compile={setting}"]
    config = load_config("tiny", overrides=overrides)
    predictor = Predictor(
        build_detector(config.model), config, [Category(1, "square")], device="cpu"
    )
    monkeypatch.setattr(predictor, "device", torch.device("cuda"))
    return predictor


def test_a_gpu_compiles_where_there_are_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = gpu_predictor(monkeypatch, "auto")
    assert predictor.expect(300) is None and not predictor.plan.compiled
    line = predictor.expect(100_000)  # a second video
    assert line is not None and "--compile off" in line
    assert predictor.plan.compiled and predictor.plan.recorded
    assert predictor.expect(5) is None and predictor.plan.compiled  # reported once
    stream = gpu_predictor(monkeypatch, "auto")
    assert stream.expect(None) is not None and stream.plan.compiled


@pytest.mark.parametrize(("setting", "compiled"), [("on", True), ("off", False)])
def test_the_setting_decides_for_any_length(
    setting: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for num_frames in (1, 10**6, None):
        predictor = gpu_predictor(monkeypatch, setting)
        assert predictor.expect(num_frames) is None
        assert predictor.plan.compiled is compiled


def test_compiling_on_a_cpu_is_ignored_and_reported_once() -> None:
    config = load_config("tiny", overrides=["model.num_classes=1", "inference.compile=on"])
    predictor = Predictor(
        build_detector(config.model), config, [Category(1, "square")], device="cpu"
    )
    line = predictor.expect(10)
    assert line is not None and "on GPUs only" in line
    assert predictor.expect(10) is None and not predictor.plan.compiled
