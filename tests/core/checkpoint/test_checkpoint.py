"""Our checkpoints: saved completely or not at all, loaded exactly, malicious files refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from sparsevod_core.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_detector,
    save_checkpoint,
)
from sparsevod_core.config import Config, load_config, preset_names
from sparsevod_core.errors import CheckpointError, DataError
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

TWO_CLASSES = (Category(7, "fox"), Category(900, "whale, blue"))


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    """Return a checkpoint of the tiny detector with two classes."""
    config = load_config("tiny", overrides=["model.num_classes=2", "seed=11"])
    return Checkpoint(config, TWO_CLASSES, build_detector(config.model).state_dict())


@pytest.fixture
def saved(tiny: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "last.pth"
    save_checkpoint(path, tiny)
    return path


def refusal(path: Path) -> CheckpointError:
    """Return the error of loading a file; it must be one line that names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in caught.value.message and "\n" not in caught.value.message
    return caught.value


# --- saved and loaded ---------------------------------------------------------------------------


def small(preset: str) -> Config:
    """Return the preset with its backbone and a small head."""
    sizes = ["model.ffn_dim=8", "model.dynamic_dim=4", "model.num_stages=2", "model.num_classes=2"]
    return load_config(preset, overrides=sizes)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_comes_back_exactly(preset: str, tmp_path: Path) -> None:
    config = small(preset)
    with torch.device("meta"):
        names = build_detector(config.model).state_dict()
    # Each tensor has one repeated value, every other one is bf16, so that 100 MB become kilobytes.
    model = {
        name: torch.tensor(i % 200, dtype=torch.bfloat16 if i % 2 else value.dtype).expand(
            value.shape
        )
        for i, (name, value) in enumerate(names.items())
    }
    save_checkpoint(tmp_path / "a.pth", Checkpoint(config, TWO_CLASSES, model))
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert loaded.config == config
    assert loaded.categories == TWO_CLASSES
    assert loaded.training is None and loaded.source == "sparsevod"
    assert loaded.model.keys() == model.keys()
    for name, value in model.items():
        assert loaded.model[name].dtype == value.dtype, name
        assert torch.equal(loaded.model[name], value), name


def test_training_state_comes_back(tiny: Checkpoint, tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    training = {
        "optimizer": optimizer.state_dict(),
        "position": {"step": 12, "best": {"AP": 0.5}, "seconds": 1.5, "note": None},
        "rng": torch.get_rng_state(),
        "order": (3, [1, 2], True),
    }
    path = tmp_path / "last.pth"
    save_checkpoint(path, Checkpoint(tiny.config, tiny.categories, tiny.model, training))
    loaded = load_checkpoint(path).training
    assert loaded is not None
    assert loaded["position"] == training["position"] and loaded["order"] == training["order"]
    assert torch.equal(loaded["rng"], training["rng"])
    optimizer.load_state_dict(loaded["optimizer"])
    moment = loaded["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moment, training["optimizer"]["state"][0]["exp_avg"])
    assert load_detector(path)[1].training is None  # not kept where nothing is trained


def test_the_detector_comes_back_ready_to_detect(tiny: Checkpoint, saved: Path) -> None:
    detector, checkpoint = load_detector(saved)
    assert not detector.training and checkpoint.categories == TWO_CLASSES
    state = detector.state_dict()
    assert state.keys() == tiny.model.keys()
    assert all(torch.equal(state[name], value) for name, value in tiny.model.items())


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (np.float64(0.5), "numpy.float64"),
        (np.zeros(2), "numpy.ndarray"),
        (PurePosixPath("a"), "PurePosixPath"),
        (Counter([1]), "collections.Counter"),
        (os.stat_result(range(10)), "os.stat_result"),
        (object(), "object"),
    ],
)
def test_what_cannot_be_loaded_is_refused_when_saved(
    value: Any, kind: str, tiny: Checkpoint, tmp_path: Path
) -> None:
    training = {"optimizer": {"groups": [{"lr": value}]}}
    checkpoint = Checkpoint(tiny.config, tiny.categories, tiny.model, training)
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(tmp_path / "a.pth", checkpoint)
    assert kind in caught.value.message
    assert "['training']['optimizer']['groups'][0]['lr']" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_categories_must_be_as_many_as_classes(tiny: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"expected 2 categories.* got 1"):
        Checkpoint(tiny.config, TWO_CLASSES[:1], tiny.model)


@pytest.mark.parametrize(
    ("happens", "seen"),
    [
        (
            RuntimeError("[enforce fail at inline_container.cc] file write failed\nframe #0"),
            DataError,
        ),
        (OSError(28, "No space left on device"), DataError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_save_leaves_the_last_one_alone(
    happens: BaseException,
    seen: type[BaseException],
    tiny: Checkpoint,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = saved.read_bytes()

    def write_half(contents: Any, file: Any) -> None:
        file.write(b"PK\x03\x04 half")
        raise happens

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", write_half)
        with pytest.raises(seen) as caught:
            save_checkpoint(saved, tiny)
    assert seen is KeyboardInterrupt or re.search(
        r"cannot write: .*(file write failed|No space left on device)$",
        str(caught.value),
    )
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.pth"]


def test_what_a_killed_save_left_is_in_no_ones_way(tiny: Checkpoint, saved: Path) -> None:
    saved.with_name("last.pth.0123abcd.partial").write_bytes(b"half" * 10**6)
    assert load_checkpoint(saved).config == tiny.config
    save_checkpoint(saved, tiny)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pth"]


def test_a_place_that_cannot_be_written(tiny: Checkpoint, saved: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        save_checkpoint(saved / "below_a_file.pth", tiny)


# --- invalid files ------------------------------------------------------------------------------


def test_missing_file_offers_the_newest_beside_it(saved: Path) -> None:
    error = refusal(saved.with_name("lost.pth"))
    assert "no such checkpoint" in error.message
    assert error.hint is not None and str(saved) in error.hint
    assert refusal(saved.parent / "nowhere" / "a.pth").hint is None


def test_folder_offers_the_checkpoint_in_it(saved: Path) -> None:
    run = saved.parent
    (run / "checkpoints").mkdir()
    newer = run / "checkpoints" / "best.pth"
    newer.write_bytes(saved.read_bytes())
    os.utime(saved, (1, 1))
    error = refusal(run)
    assert "a folder" in error.message and error.hint is not None and str(newer) in error.hint


@pytest.mark.parametrize("kept", [0.001, 0.3, 0.99, 0.9999])
@pytest.mark.parametrize("is_old_format", [False, True])
def test_truncated_file_offers_another(
    kept: float, is_old_format: bool, saved: Path, tiny: Checkpoint
) -> None:
    broken = saved.with_name("broken.pth")
    torch.save(tiny.model, broken, _use_new_zipfile_serialization=not is_old_format)
    whole = broken.read_bytes()
    broken.write_bytes(whole[: int(len(whole) * kept)])
    error = refusal(broken)
    assert "truncated or corrupt" in error.message
    assert error.hint is not None and str(saved) in error.hint
    saved.unlink()
    assert refusal(broken).hint == "copy or download it again"


def test_one_flipped_bit_in_the_weights_is_noticed(saved: Path) -> None:
    contents = bytearray(saved.read_bytes())
    contents[len(contents) // 2] ^= 4
    saved.write_bytes(contents)
    assert "truncated or corrupt" in refusal(saved).message


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "empty file"),
        (b"PK", "not a PyTorch file"),
        (b"hello world, this is text", "not a PyTorch file: it starts with b'hello world, thi'"),
        (b"<!DOCTYPE html><html>404", "not a PyTorch file: it starts with b'<!DOCTYPE"),
        (b"version https://git-lfs.github.com/spec/v1", "not a PyTorch file"),
        (b"\x80\x02garbage", "truncated or corrupt"),
    ],
)
def test_other_bytes(contents: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(contents)
    assert said in refusal(path).message


def test_other_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    assert "an archive of word/document.xml" in refusal(path).message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", "not a pickle")
    assert "cannot read weights" in refusal(path).message
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", "")
        archive.writestr("model/constants.pkl", "")
    assert "a TorchScript archive" in refusal(path).message


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (torch.zeros(3, 2), "got one tensor of shape [3, 2]"),
        ([torch.zeros(1)], "got a list"),
        ({}, "got 0 entries"),
        ({1: 2}, "got 1 entries (1)"),
        ({"model": {"a.b": torch.zeros(1)}, "epoch": 3}, "got 1 entries (a.b)"),
    ],
)
def test_other_contents(contents: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(contents, path)
    message = refusal(path).message
    assert "expected a checkpoint of SparseVOD, of MMTracking" in message and said in message


def test_other_networks(tmp_path: Path) -> None:
    from torchvision.models import resnet50
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    path = tmp_path / "a.pth"
    with torch.device("meta"):
        faster = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
        resnet = resnet50().state_dict()
    torch.save(
        {name: torch.tensor(0.0).expand(value.shape) for name, value in faster.items()}, path
    )
    assert "entries (backbone.body.conv1.weight" in refusal(path).message
    torch.save(
        {name: torch.tensor(0.0).expand(value.shape) for name, value in resnet.items()}, path
    )
    hint = refusal(path).hint
    assert hint is not None and "train.backbone_weights" in hint


# --- pickled objects ----------------------------------------------------------------------------


class Bomb:
    """Object that creates a file when unpickled, without needing its class."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("is_old_format", [False, True])
def test_pickled_objects_are_never_made(is_old_format: bool, tmp_path: Path) -> None:
    path, marker = tmp_path / "a.pth", tmp_path / "marker"
    torch.save(
        {"state_dict": {"a": torch.arange(3)}, "hook": Bomb(marker)},
        path,
        _use_new_zipfile_serialization=not is_old_format,
    )
    error = refusal(path)
    assert not marker.exists()
    assert "contains posix.mkdir besides weights" in error.message


def test_the_hint_saves_the_weights_alone(tmp_path: Path) -> None:
    """The command of the hint, run on a trusted file, creates a file that loads."""
    path, marker = tmp_path / "it's $HOME.pth", tmp_path / "marker"
    torch.save({"model": {"a": torch.arange(3)}, "hook": Bomb(marker)}, path)
    hint = refusal(path).hint
    assert hint is not None and "\n" not in hint
    line = hint[hint.index("python -c") :].replace("python", sys.executable, 1)
    subprocess.run(line, shell=True, check=True, timeout=600)
    assert marker.exists()
    clean = Path(f"{path}.clean.pth")
    assert torch.equal(torch.load(clean, weights_only=True)["state_dict"]["a"], torch.arange(3))
    assert "entries (a" in refusal(clean).message


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    assert "contains torch.nn.modules.linear.Linear besides weights" in refusal(path).message


# --- our format with invalid contents -----------------------------------------------------------


def rewritten(saved: Path, **changes: Any) -> Path:
    contents = torch.load(saved, weights_only=True) | changes
    torch.save({key: value for key, value in contents.items() if value != "gone"}, saved)
    return saved


def test_a_newer_format_says_so(saved: Path) -> None:
    error = refusal(rewritten(saved, format="sparsevod/2"))
    assert "expected format sparsevod/1, got sparsevod/2" in error.message
    assert error.hint is not None and "update" in error.hint


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": "gone"}, "without config"),
        ({"model": "gone", "training": "gone"}, "without model, training"),
        ({"model": {"a": 1}}, "model is not a dict of tensors"),
        ({"model": [1]}, "model is not a dict of tensors"),
        ({"training": 3}, "training is not a dict"),
        (
            {"categories": [{"id": 1, "name": "a"}]},
            "expected 2 categories",
        ),
        ({"categories": [{"id": 1}, {"id": 2}]}, "a category without"),
        ({"categories": 5}, "categories are not a list"),
        ({"categories": torch.zeros(2)}, "categories are not a list"),
        ({"categories": [torch.zeros(2)] * 2}, "a category without"),
        ({"categories": [{"id": 1.5, "name": "a"}, {"id": 2, "name": "b"}]}, "a category without"),
        ({"categories": [{"id": 1, "name": 7}, {"id": 2, "name": "b"}]}, "a category without"),
        ({"config": {"model": torch.zeros(2)}}, "model: expected settings by name"),
        ({"config": {"model": {"backbone": torch.zeros(2)}}}, "model.backbone=a Tensor"),
        ({"config": {"model": {"channels": 10**7}}}, "model.channels=10000000: expected 1 to"),
        ({"config": {"model": {"chanels": 3}}}, "unknown setting 'model.chanels'"),
        ({"config": {"model": {"channels": "wide"}}}, "model.channels"),
        ({"config": 3}, "expected settings by name"),
    ],
)
def test_broken_contents(changes: dict[str, Any], said: str, saved: Path) -> None:
    assert said in refusal(rewritten(saved, **changes)).message


def test_weights_that_are_not_those_of_the_config(saved: Path, tiny: Checkpoint) -> None:
    renamed = {
        re.sub("^proposals.features$", "proposals.extra", n): v for n, v in tiny.model.items()
    }
    with pytest.raises(CheckpointError, match=r"features is missing, proposals.extra is unex"):
        load_detector(rewritten(saved, model=renamed))
    wider = tiny.model | {"proposals.features": torch.zeros(16, 65)}
    with pytest.raises(CheckpointError, match=r"has shape \[16, 65\], expected \[16, 64\]$"):
        load_detector(rewritten(saved, model=wider))


def test_settings_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """`inference.compile` was a bool, false by default."""
    from sparsevod_core.checkpoint import load_checkpoint
    from sparsevod_core.embedded import embedded_checkpoint

    contents = torch.load(embedded_checkpoint(), weights_only=True)
    for earlier, today in ((False, "auto"), (True, "on")):
        contents["config"]["inference"]["compile"] = earlier
        contents["config"]["train"].pop("record", None)
        torch.save(contents, tmp_path / "earlier.pth")
        config = load_checkpoint(tmp_path / "earlier.pth").config
        assert config.inference.compile == today
        assert config.train.record
