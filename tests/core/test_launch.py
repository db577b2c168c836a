"""Processes of torchrun and SLURM, and options that the launcher refuses."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from sparsevod_core.distributed import network, slurm
from sparsevod_core.distributed.launch import Processes, launch_on
from sparsevod_core.distributed.worker import work
from sparsevod_core.errors import ConfigError
from sparsevod_core.reporting import SilentReporter

STEP = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")


@pytest.fixture
def in_step(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Environment of task 6 of 8, on the second of two machines."""
    monkeypatch.setattr(os, "environ", {**os.environ, **STEP})
    return monkeypatch


def variables() -> dict[str, str]:
    return {name: os.environ.get(name, "") for name in VARIABLES}


def run(processes: Processes) -> Any:
    return launch_on(processes, SilentReporter(), variables)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("alone", "alone"),
        ("a,b", "a"),
        ("node[01-04,7],gpu3", "node01"),
        ("rack[2-3]-n[5,9]", "rack2-n5"),
        ("n[003].cluster,n9", "n003.cluster"),
    ],
)
def test_first_host_of_a_slurm_list(nodes: str, first: str) -> None:
    assert slurm.first_host(nodes) == first


def test_one_task_per_gpu_joins_the_others(in_step: pytest.MonkeyPatch) -> None:
    assert list(run(Processes(4)).values()) == ["5", "8", "1", "4", "gpu07"]
    port = int(os.environ["MASTER_PORT"])
    assert 20000 <= port < 30000
    other = slurm.as_torchrun({**STEP, "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "gpu[07-08]"})
    assert int(other["MASTER_PORT"]) == port


def test_options_that_contradict_srun(in_step: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--gpus 8, but srun started 4 process\(es\) on this"):
        run(Processes(8))


def test_one_task_per_machine_launches_its_processes(in_step: pytest.MonkeyPatch) -> None:
    from sparsevod_core.distributed import elastic

    in_step.setitem(os.environ, "SLURM_STEP_NUM_TASKS", "2")
    passed: dict[str, Any] = {}
    in_step.setattr(elastic, "run_elastic", lambda *_, **options: passed.update(options))
    assert run(Processes(3, "cpu")) is None
    assert (passed["per_machine"], passed["machines"]) == (3, 2)
    assert passed["endpoint"].startswith("gpu07:2")


def test_a_batch_script_is_not_a_task(in_step: pytest.MonkeyPatch) -> None:
    in_step.delitem(os.environ, "SLURM_STEP_ID")
    assert run(Processes()) == dict.fromkeys(VARIABLES, "")


def test_torchrun_has_precedence_over_slurm(in_step: pytest.MonkeyPatch) -> None:
    os.environ.update({"RANK": "1", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"})
    assert run(Processes(8))["WORLD_SIZE"] == "16"
    with pytest.raises(ConfigError, match="--gpus 4, but torchrun started 8"):
        run(Processes(4))
    with pytest.raises(ConfigError, match="--nodes 2, but torchrun started this process"):
        run(Processes(8, nodes=2, rendezvous="a:1"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"nodes": 2}, "--nodes 2 needs --rendezvous"),
        ({"rendezvous": "a:1"}, "--nodes 1 does not take --rendezvous"),
        ({"gpus": 0}, "--gpus 0: expected at least 1"),
        ({"max_restarts": -1}, "--max-restarts -1: expected at least 0"),
        ({"rendezvous_timeout": 0}, "--rendezvous-timeout 0: expected at least 1"),
    ],
)
def test_invalid_numbers(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Processes(**options)


@pytest.mark.parametrize("text", ["host", ":29400", "host:", "host:0", "host:70000", "host:abc"])
def test_an_endpoint_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        network.parse_endpoint(text)


def test_this_machine_keeps_the_name_it_is_given() -> None:
    assert network.address_towards("localhost") == "localhost"
    assert network.interface_of("localhost") == "lo"


def test_waiting_for_a_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert network.wait_for_listener("127.0.0.1", port, 5)
    assert not network.wait_for_listener("127.0.0.1", port, 0.2)


def test_a_rendezvous_on_an_unknown_host(tmp_path: Path) -> None:
    processes = Processes(1, "cpu", nodes=2, rendezvous="no.such.host.invalid:29400")
    with pytest.raises(ConfigError, match=r"cannot find no\.such\.host\.invalid"):
        run(processes)


def test_a_process_ends_with_its_launcher(tmp_path: Path) -> None:
    """A killed launcher cannot stop its processes, and nobody else knows them."""
    pid = tmp_path / "pid"
    launcher = os.fork()
    if launcher == 0:
        group = {"RANK": "0", "WORLD_SIZE": "1"}
        args = (time.sleep, tmp_path, group, (60,), {})
        process = multiprocessing.get_context("spawn").Process(target=work, args=args)
        process.start()
        pid.with_suffix(".new").write_text(str(process.pid))
        pid.with_suffix(".new").rename(pid)
        process.join()
    while not pid.exists():
        time.sleep(0.05)
    process = int(pid.read_text())
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)
    give_up = time.monotonic() + 30
    while is_running(process) and time.monotonic() < give_up:
        time.sleep(0.05)
    ended = not is_running(process)
    if not ended:
        os.kill(process, signal.SIGKILL)
    assert ended


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
