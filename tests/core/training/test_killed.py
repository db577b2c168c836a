"""A run killed at any moment and resumed ends with the weights of an uninterrupted run."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from run_results import assert_same_state, metrics

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config, config_from_dict
from sparsevod_core.errors import CheckpointError
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

STEPS = 10
RUN = ("train.epochs=2", f"train.max_steps={STEPS}", "train.checkpoint_every=1", "train.ema=0.9")
TOUCHES = ("open", "os.link", "os.remove", "os.rename")  # audit events of Python on files


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as the killed processes do, because weights are compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(settings: dict[str, object], path: Path, resume: bool) -> None:
    Trainer(config_from_dict(settings), path, resume=resume, device="cpu").fit()


def train_until_killed(
    settings: dict[str, object], path: Path, resume: bool, last_touch: int
) -> None:
    """Train, and kill this process before it touches files of the run a `last_touch`th time."""
    touches = itertools.count(1)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        is_of_run = event in TOUCHES and str(arguments[0]).startswith(str(path))
        if is_of_run and next(touches) == last_touch:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    torch.set_num_threads(1)
    train(settings, path, resume)


@pytest.fixture(scope="module")
def uninterrupted(
    settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(settings(*RUN).to_dict(), path, resume=False)
    return path


def step_in(checkpoint: Path) -> int:
    training = load_checkpoint(checkpoint).training
    assert training is not None
    return training["position"]["step"]


# Starting and resuming take 6 touches each, and a step 8 or 9. These cover a complete second step,
# and the rewriting of settings and metrics in a resumed run.
@pytest.mark.parametrize("last_touches", [(12, 13, 14, 15), (16, 17, 18, 19), (20, 3, 5, 6)])
def test_killed_at_any_moment(
    last_touches: tuple[int, ...],
    settings: Callable[..., Config],
    uninterrupted: Path,
    tmp_path: Path,
) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["sparsevod_core.training.trainer"])
    run = RunFolder(tmp_path / "run")
    for last_touch in last_touches:
        process = processes.Process(
            target=train_until_killed,
            args=(settings(*RUN).to_dict(), run.path, run.last.exists(), last_touch),
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        load_checkpoint(run.last)  # intact, whenever the process was killed
    train(settings(*RUN).to_dict(), run.path, resume=True)
    assert_same_state(uninterrupted, run.path)
    assert step_in(run.last) == STEPS
    steps = [record["step"] for record in metrics(run.path)]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS


def test_with_a_corrupt_checkpoint_the_previous_one_can_be_resumed(
    settings: Callable[..., Config], uninterrupted: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    part = settings(*RUN).replace({"train.max_steps": 6})
    train(part.to_dict(), run.path, resume=False)
    previous_step = step_in(run.previous)
    assert previous_step < 6 + 1
    run.last.write_bytes(run.last.read_bytes()[:-1000])

    longer = settings(*RUN)
    with pytest.raises(CheckpointError, match=r"last\.pth") as error:
        Trainer(longer, run.path, resume=True, device="cpu")
    hint = str(error.value.hint)
    assert f"of step {previous_step}, is intact" in hint
    assert f"mv {run.previous} {run.last} && sparsevod train --resume {run.path}" in hint
    run.previous.replace(run.last)
    train(longer.to_dict(), run.path, resume=True)
    assert_same_state(uninterrupted, run.path)
    assert step_in(run.last) == STEPS


def test_no_previous_checkpoint_is_offered_if_it_is_corrupt_too(
    settings: Callable[..., Config], tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    config = settings("train.max_steps=1")
    train(config.to_dict(), run.path, resume=False)
    for file in (run.last, run.previous):
        file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"last\.pth") as error:
        Trainer(config, run.path, resume=True, device="cpu")
    assert "mv" not in str(error.value.hint)
