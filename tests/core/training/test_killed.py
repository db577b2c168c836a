"""A run that is killed, at whatever moment, goes on to the weights of one that was not."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config, config_from_dict
from sparsevod_core.errors import CheckpointError
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

STEPS = 10
RUN = ("train.epochs=2", f"train.max_steps={STEPS}", "train.checkpoint_every=1", "train.ema=0.9")


TOUCHES = ("open", "os.link", "os.remove", "os.rename")  # of files, as Python's audit calls them


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that are killed: the weights are compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(settings: dict[str, object], path: Path, resume: bool) -> None:
    Trainer(config_from_dict(settings), path, resume=resume, device="cpu").fit()


def train_until_killed(
    settings: dict[str, object], path: Path, resume: bool, last_touch: int
) -> None:
    """Killed when it is about to touch the files of the run for the `last_touch`-th time."""
    touches = itertools.count(1)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        is_of_run = event in TOUCHES and str(arguments[0]).startswith(str(path))
        if is_of_run and next(touches) == last_touch:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    torch.set_num_threads(1)
    train(settings, path, resume)


@pytest.fixture(scope="module")
def whole(settings: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "whole"
    train(settings(*RUN).to_dict(), path, resume=False)
    return path


def assert_same(one: Path, other: Path) -> None:
    a, b = (load_checkpoint(path / "checkpoints" / "last.pth") for path in (one, other))
    assert a.training is not None and b.training is not None
    assert a.training["position"]["step"] == b.training["position"]["step"] == STEPS
    for name, value in a.model.items():
        assert torch.equal(value, b.model[name]), name
        assert torch.equal(a.training["weights"][name], b.training["weights"][name]), name
    for key, state in a.training["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(value, b.training["optimizer"]["state"][key][name]), name


# To start and to resume take 8 touches each, as does a step: these are all moments of a second
# step, and those in which a resumed run rewrites settings and metrics.
@pytest.mark.parametrize("last_touches", [(17, 18, 19, 20), (21, 22, 23, 24), (17, 5, 7, 8)])
def test_killed_at_any_moment(
    last_touches: tuple[int, ...], settings: Callable[..., Config], whole: Path, tmp_path: Path
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
        load_checkpoint(run.last)  # whole, whenever that was
    train(settings(*RUN).to_dict(), run.path, resume=True)
    assert_same(whole, run.path)
    steps = [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == STEPS


def test_a_damaged_checkpoint_is_refused_and_the_one_before_goes_on(
    settings: Callable[..., Config], whole: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    part = settings(*RUN).replace({"train.max_steps": 6})
    train(part.to_dict(), run.path, resume=False)
    before = load_checkpoint(run.previous)
    assert before.training is not None and before.training["position"]["step"] < 6 + 1
    run.last.write_bytes(run.last.read_bytes()[:-1000])

    longer = settings(*RUN)
    with pytest.raises(CheckpointError, match=r"last\.pth") as error:
        Trainer(longer, run.path, resume=True, device="cpu")
    step = before.training["position"]["step"]
    assert f"of step {step}, is intact" in str(error.value.hint)
    assert f"mv {run.previous} {run.last} && sparsevod train --resume {run.path}" in str(
        error.value.hint
    )
    run.previous.replace(run.last)
    train(longer.to_dict(), run.path, resume=True)
    assert_same(whole, run.path)


def test_without_a_whole_one_before_there_is_nothing_to_offer(
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
