"""The bundled model: present, small, and loaded like any other checkpoint.

No test depends on its accuracy.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsevod_core.checkpoint import (
    embedded_checkpoint,
    initialize_from,
    load_checkpoint,
    load_detector,
)
from sparsevod_core.embedded import checkpoint_name, embedded_card
from sparsevod_core.inference import Predictor
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

REPOSITORY = Path(__file__).parents[2]
REAL, RENDERED = "airplane bird drone helicopter", "disc square triangle star cross ring"
CLASSES = [*REAL.split(), *RENDERED.split()]


def test_it_is_small_and_names_no_path_of_the_machine_that_made_it() -> None:
    checkpoint = load_checkpoint(embedded_checkpoint())
    assert [category.name for category in checkpoint.categories] == CLASSES
    assert embedded_checkpoint().stat().st_size <= 16_000_000
    assert sum(value.numel() for value in checkpoint.model.values()) <= 8_000_000
    assert checkpoint.training is None and checkpoint.source == "sparsevod"
    data, train = checkpoint.config.data, checkpoint.config.train
    assert (data.train_root, data.val_annotations, data.val_root) == (None, None, None)
    assert train.init_from is None and "/" not in train.backbone_weights
    assert not Path(data.train_annotations).is_absolute()


def test_half_precision_in_the_file_is_float32_in_the_detector() -> None:
    detector, checkpoint = load_detector(embedded_checkpoint())
    state = detector.state_dict()
    floats = {name: v for name, v in checkpoint.model.items() if v.is_floating_point()}
    assert {value.dtype for value in floats.values()} == {torch.float16}
    assert {state[name].dtype for name in floats} == {torch.float32}
    assert all(torch.equal(state[name], value.float()) for name, value in floats.items())


def test_it_is_what_a_predictor_is_made_of_without_a_file() -> None:
    predictor = Predictor.from_checkpoint(device="cpu", overrides=["inference.supports=1"])
    assert [category.name for category in predictor.categories] == CLASSES
    frame = np.zeros((48, 64, 3), np.uint8)
    (found,) = predictor.detect([frame], predictor.remember([frame]))
    assert found.scores.dtype == np.float32


def test_a_training_may_start_from_it() -> None:
    config = load_checkpoint(embedded_checkpoint()).config.replace({"model.num_classes": 2})
    detector = build_detector(config.model)
    classes = [Category(1, "kite"), Category(2, "bird")]
    report = initialize_from(detector, embedded_checkpoint(), classes)
    assert report.new == [] and report.new_classes == ["kite"]
    assert {value.dtype for value in detector.parameters()} == {torch.float32}


def test_results_call_it_by_a_name_that_is_the_same_everywhere() -> None:
    assert checkpoint_name(embedded_checkpoint()) == "embedded"
    assert checkpoint_name("runs/a/best.pth") == checkpoint_name(Path("runs/a/best.pth"))
    assert checkpoint_name("runs/a/best.pth") == "runs/a/best.pth"


def test_its_card_says_what_it_knows_and_what_it_was_trained_on() -> None:
    text = embedded_card().read_text(encoding="utf-8")
    assert [name for name in CLASSES if name not in text] == []
    assert "CC0" in text and "10.1016/j.dib.2021.107521" in text


def test_a_wheel_holds_weights_and_card(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="setuptools 77 builds the wheel")
    source = tmp_path / "source"
    for package in ("sparsevod_core", "sparsevod_cli"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    for file in (embedded_checkpoint(), embedded_card()):
        packed = zipfile.ZipFile(wheel).read(f"sparsevod_core/weights/{file.name}")
        assert packed == file.read_bytes()
