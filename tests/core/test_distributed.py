"""Communication between real processes, and how the failure of one is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sparsevod_core import distributed
from sparsevod_core.distributed.worker import first_error
from sparsevod_core.errors import ConfigError

# Spawned processes import the function by name, so it needs a script.
SCRIPT = """
import os, sys, time
import torch
from sparsevod_core import distributed
from sparsevod_core.errors import DataError, SparseVodError
from sparsevod_core.distributed.launch import launch


def count_to(total):
    tally = distributed.Tally()
    counts = [tally.add(1) for _ in range(10 + 10 * distributed.rank())]
    while tally.add(0) < total:
        pass
    return counts == sorted(set(counts)) and tally.add(0) == total


def communicate_then_fail(how):
    with distributed.process_group(torch.device("cpu")):
        rank = distributed.rank()
        results = (
            distributed.world_size(),
            distributed.reduce_mean(torch.tensor([rank, 1.0])).tolist(),
            distributed.gather("ab"[rank]),
            distributed.from_main("ab"[rank]),
            distributed.is_main(),
            distributed.gather_on_main("ab"[rank]),
            count_to(30),
        )
        if rank == 0:
            print(results, flush=True)
        if rank == 1 and how == "with an error":
            raise DataError("frame 7 is corrupt", hint="repair it")
        if rank == 1 and how.startswith("silently"):
            os.kill(os.getpid(), 9)
        distributed.gather(None)  # the other rank waits here


def check_late():
    # The launcher first checks the processes when all of them could have ended.
    from sparsevod_core.distributed.elastic import LocalElasticAgent

    monitor, is_first = LocalElasticAgent._monitor_workers, True

    def monitor_late(agent, group):
        nonlocal is_first
        if is_first:
            while not list(agent.folder.glob("0.json")):
                time.sleep(0.02)
            time.sleep(2)
        is_first = False
        return monitor(agent, group)

    LocalElasticAgent._monitor_workers = monitor_late


if __name__ == "__main__":
    if sys.argv[1].endswith("checks late"):
        check_late()
    try:
        launch(communicate_then_fail, 2, "cpu", sys.argv[1])
    except SparseVodError as error:
        print(error.message, "|", error.hint)
"""


def run_two(folder: Path, how: str) -> list[str]:
    script = folder / "work.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, how],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_every_function_works_in_a_single_process() -> None:
    with distributed.process_group(torch.device("cpu")):
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.is_main() and not distributed.is_joined()
        assert distributed.reduce_mean(torch.tensor([3.0])).tolist() == [3.0]
        assert distributed.gather("x") == ["x"]
        assert distributed.gather_on_main("x") == ["x"]
        assert distributed.from_main("x") == "x"
        tally = distributed.Tally()
        assert (tally.add(3), tally.add(2), distributed.Tally().add(1)) == (3, 5, 1)


def test_missing_torchrun_variables_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ConfigError, match="not RANK, LOCAL_RANK, MASTER_ADDR"),
        distributed.process_group(torch.device("cpu")),
    ):
        pass


def test_each_process_of_a_machine_uses_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert distributed.own_device(torch.device("cuda")) == torch.device("cuda:3")
    assert distributed.own_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert distributed.own_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("world", "local", "options"),
    [
        (1, None, ""),
        (4, "4", " --gpus 4"),
        (4, None, " --gpus 4"),
        (16, "8", " --gpus 8 --nodes 2 --rendezvous HOST:PORT"),
    ],
)
def test_launch_options_start_the_same_number_of_processes(
    world: int, local: str | None, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsevod_core.distributed.processes.world_size", lambda: world)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert distributed.launch_options() == options


def test_two_processes_communicate_and_only_the_cause_is_reported(tmp_path: Path) -> None:
    results, error = run_two(tmp_path, "with an error")
    assert results == "(2, [0.5, 1.0], ['a', 'b'], 'a', True, ['a', 'b'], True)"
    assert error == "frame 7 is corrupt | repair it"


def test_an_unfinished_error_report_is_ignored(tmp_path: Path) -> None:
    """The launcher ends other processes, possibly while they write their reports."""
    (tmp_path / "0.unfinished").write_text('{"time": 1')
    killed = SimpleNamespace(exitcode=-9, signal_name=lambda: "SIGKILL")
    error = first_error(tmp_path, {1: killed})
    assert str(error).startswith("process 2 was killed (SIGKILL)")


@pytest.mark.parametrize("how", ["silently", "silently, and the launcher checks late"])
def test_a_killed_process_is_reported(tmp_path: Path, how: str) -> None:
    _, error = run_two(tmp_path, how)
    assert error.startswith("process 2 was killed (SIGKILL)")
    assert "--resume" in error
