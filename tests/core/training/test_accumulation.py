"""Gradients that add up over several batches are those of one large batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.training.trainer import Trainer

# SGD-like comparisons need small steps: Adam's first are nearly the sign of the gradient.
SHORT = ("train.max_steps=3", "train.log_every=1", "train.learning_rate=1e-5", "data.flip=0.5")
LOSSES = ("loss", "loss_class", "loss_l1", "loss_giou", "grad_norm")

RANK = """
import sys
from pathlib import Path
from sparsevod_core.config import load_config
from sparsevod_core.training.run import train
train(load_config(file=sys.argv[1]), Path(sys.argv[2]), device="cpu")
"""

pytest_plugins = ["small_runs"]


def lines(run: Path) -> list[dict[str, Any]]:
    return list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines()))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / "last.pth").model


@pytest.fixture(scope="module")
def at_once(settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of one batch of four clips."""
    path = tmp_path_factory.mktemp("runs") / "at_once"
    Trainer(settings(*SHORT, "train.clips_per_gpu=4"), path, device="cpu").fit()
    return path


def assert_same_steps(run: Path, other: Path) -> None:
    for one, two in zip(lines(run), lines(other), strict=True):
        assert one["step"] == two["step"]
        for name in LOSSES:
            assert two[name] == pytest.approx(one[name], rel=2e-5), (one["step"], name)


@pytest.mark.parametrize("clips", [1, 2])
def test_several_batches_are_one_large_batch(
    clips: int, settings: Callable[..., Config], at_once: Path, tmp_path: Path
) -> None:
    overrides = (f"train.clips_per_gpu={clips}", f"train.accumulate={4 // clips}")
    trainer = Trainer(settings(*SHORT, *overrides), tmp_path / "run", device="cpu")
    assert trainer.clips_per_step == 4
    trainer.fit()
    assert_same_steps(at_once, tmp_path / "run")
    ours = weights(tmp_path / "run")
    for name, value in weights(at_once).items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=2e-6, msg=name)


def test_two_processes_that_accumulate_are_one_large_batch(
    settings: Callable[..., Config], at_once: Path, tmp_path: Path, free_port: int
) -> None:
    config = settings(
        *SHORT,
        "train.clips_per_gpu=1",
        "train.accumulate=2",
        "train.recompute_stages=true",  # which DDP must get along with
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path / "config.yaml"), str(tmp_path / "run")],
            env={
                **os.environ,
                **together,
                "RANK": rank,
                "LOCAL_RANK": rank,
                "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=600)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], said
    assert_same_steps(at_once, tmp_path / "run")


def test_a_stopped_run_goes_on_at_a_whole_step(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    config = settings("train.max_steps=5", "train.accumulate=2", "train.clips_per_gpu=1")
    Trainer(config, tmp_path / "whole", device="cpu").fit()

    class StopAfterTwo(SilentReporter):
        @contextmanager
        def progress(self, label: str, total: int | None, unit: str = "frames"):  # type: ignore[no-untyped-def]
            yield self

        def advance(self, steps: int = 1, note: str = "") -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        Trainer(config, tmp_path / "cut", device="cpu", reporter=StopAfterTwo()).fit()
    Trainer(config, tmp_path / "cut", resume=True, device="cpu").fit()
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], value) for name, value in cut.items())


def test_the_effective_batch_is_what_the_learning_rate_is_compared_to(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    said: list[str] = []

    class Listener(SilentReporter):
        def message(self, text: str) -> None:
            said.append(text)

    def introduction(*overrides: str) -> str:
        said.clear()
        config = settings("train.max_steps=1", *overrides)
        Trainer(config, tmp_path / overrides[-1], device="cpu", reporter=Listener()).fit()
        return "\n".join(said)

    assert "learning rate" not in introduction("train.clips_per_gpu=2", "train.accumulate=4")
    said_of_six = introduction("train.clips_per_gpu=2", "train.accumulate=3")
    assert "steps of 6 clips (3 batches x 2)" in said_of_six
    assert "a step has 6 clips, the recipe has 8" in said_of_six
    assert "train.learning_rate=0.000375" in said_of_six
