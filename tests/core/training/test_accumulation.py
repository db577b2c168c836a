"""Gradient accumulation over several batches equals one large batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from run_results import Messages, last_weights, metrics

from sparsevod_core.config import Config
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

# Comparisons need small steps, because Adam's first ones are close to the sign of the gradient.
SHORT = ("train.max_steps=3", "train.log_every=1", "train.learning_rate=1e-5", "data.flip=0.5")
LOSSES = ("loss", "loss_class", "loss_l1", "loss_giou", "grad_norm")

RANK = """
import sys
from pathlib import Path
from sparsevod_core.config import load_config
from sparsevod_core.training.run import train
train(load_config(file=sys.argv[1]), Path(sys.argv[2]), device="cpu")
"""


@pytest.fixture(scope="module")
def one_batch(settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run of three steps with one batch of four clips each."""
    path = tmp_path_factory.mktemp("runs") / "one_batch"
    Trainer(settings(*SHORT, "train.clips_per_gpu=4"), path, device="cpu").fit()
    return path


def assert_same_steps(run: Path, other: Path) -> None:
    for one, two in zip(metrics(run), metrics(other), strict=True):
        assert one["step"] == two["step"]
        for name in LOSSES:
            assert two[name] == pytest.approx(one[name], rel=2e-5), (one["step"], name)


@pytest.mark.parametrize("clips", [1, 2])
def test_several_batches_equal_one_large_batch(
    clips: int, settings: Callable[..., Config], one_batch: Path, tmp_path: Path
) -> None:
    overrides = (f"train.clips_per_gpu={clips}", f"train.accumulate={4 // clips}")
    trainer = Trainer(settings(*SHORT, *overrides), tmp_path / "run", device="cpu")
    assert trainer.clips_per_step == 4
    trainer.fit()
    assert_same_steps(one_batch, tmp_path / "run")
    accumulated = last_weights(tmp_path / "run")
    for name, value in last_weights(one_batch).items():
        torch.testing.assert_close(accumulated[name], value, rtol=1e-4, atol=2e-6, msg=name)


def test_two_processes_that_accumulate_equal_one_large_batch(
    settings: Callable[..., Config], one_batch: Path, tmp_path: Path, free_port: int
) -> None:
    config = settings(
        *SHORT,
        "train.clips_per_gpu=1",
        "train.accumulate=2",
        "train.recompute_stages=true",  # must work with DDP
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path / "config.yaml"), str(tmp_path / "run")],
            env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    errors = [process.communicate(timeout=600)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], errors
    assert_same_steps(one_batch, tmp_path / "run")


def test_a_stopped_run_resumes_at_a_complete_step(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    config = settings("train.max_steps=5", "train.accumulate=2", "train.clips_per_gpu=1")
    Trainer(config, tmp_path / "uninterrupted", device="cpu").fit()

    class StopAfterFirstStep(SilentReporter):
        @contextmanager
        def progress(self, label: str, total: int | None, unit: str = "frames"):  # type: ignore[no-untyped-def]
            yield self

        def advance(self, steps: int = 1, note: str = "") -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        Trainer(config, tmp_path / "stopped", device="cpu", reporter=StopAfterFirstStep()).fit()
    Trainer(config, tmp_path / "stopped", resume=True, device="cpu").fit()
    expected, resumed = last_weights(tmp_path / "uninterrupted"), last_weights(tmp_path / "stopped")
    assert all(torch.equal(expected[name], value) for name, value in resumed.items())


def test_the_learning_rate_hint_uses_the_effective_batch(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    def summary(*overrides: str) -> str:
        reporter = Messages()
        config = settings("train.max_steps=1", *overrides)
        Trainer(config, tmp_path / overrides[-1], device="cpu", reporter=reporter).fit()
        return reporter.text

    assert "learning rate" not in summary("train.clips_per_gpu=2", "train.accumulate=4")
    summary_of_six = summary("train.clips_per_gpu=2", "train.accumulate=3")
    assert "1 step of 6 clips (3 batches x 2)" in summary_of_six
    assert "a step has 6 clips, the recipe has 8" in summary_of_six
    assert "train.learning_rate=0.000375" in summary_of_six
