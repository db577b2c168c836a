"""`sparsevod train` with a killed process, and on two "machines": two launchers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsevod_core.checkpoint import load_checkpoint

PATIENCE_S = 600  # for several processes that import torch on a busy machine

SMALL = """
model: {num_stages: 1, num_proposals: 6, channels: 16, ffn_dim: 32, dynamic_dim: 4, num_heads: 2,
  spfa_heads: 2}
data: {short_side: 64, long_side: 96, workers: 0}
train: {clips_per_gpu: 2, log_every: 1, checkpoint_every: 2, eval_every: 0, warmup_steps: 4,
  epochs: 50, learning_rate: 1.0e-5}
"""

# `train` with the second of two processes killed once, in step 5. Spawned processes import this
# script too.
KILLED = """
import os, signal
from sparsevod_cli.main import main
from sparsevod_core.training.metrics import StepLog

add, killed = StepLog.add, {"RANK": "1", "TORCHELASTIC_RESTART_COUNT": "0"}


def add_or_die(self, step, *rest):
    if step == 5 and killed.items() <= os.environ.items():
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, step, *rest)


StepLog.add = add_or_die
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def command(image_set: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Command of a small run on frames of one size, in a new working directory."""
    monkeypatch.chdir(tmp_path)
    content = json.loads(image_set.annotations.read_text())
    for image in content["images"]:
        if image["file_name"].startswith("narrow"):
            image["is_vid_train_frame"] = False
    path = image_set.annotations.with_name("train_machines.json")
    path.write_text(json.dumps(content))
    (tmp_path / "small.yaml").write_text(SMALL)
    where = ["--annotations", str(path), "--config", "small.yaml"]
    base = [sys.executable, "-m", "sparsevod_cli", "train", *where]
    return [*base, "--backbone", "tiny", "--device", "cpu"]


def start(command: list[str], *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def losses(run: str) -> list[float]:
    path = Path(run, "metrics.jsonl")
    lines = path.read_text().splitlines() if path.exists() else []
    records = map(json.loads, lines)
    return [record["loss"] for record in records if record["kind"] == "train"]


def weights(run: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(Path(run, "checkpoints", "last.pth")).model


@pytest.mark.slow
def test_a_killed_process_is_restarted_and_the_weights_are_the_same(command: list[str]) -> None:
    both = ["--gpus", "2", "--max-steps", "9"]
    Path("killed.py").write_text(KILLED)
    arguments = command[command.index("train") :]
    process = start([sys.executable, "killed.py", *arguments], *both, "--output", "killed")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, "killed/checkpoints/last.pth\n"), err
    warning = "process 2 was killed (SIGKILL); restarting all processes (2 restarts left)"
    assert err.count(warning) == 1 and "Traceback" not in err
    assert "resuming from step 4" in err

    uninterrupted = start(command, *both, "--output", "uninterrupted")
    _, err = uninterrupted.communicate(timeout=PATIENCE_S)
    assert uninterrupted.returncode == 0, err
    assert losses("killed") == losses("uninterrupted")
    expected = weights("uninterrupted")
    assert all(torch.equal(value, expected[name]) for name, value in weights("killed").items())


@pytest.mark.slow
def test_two_machines_equal_one_process(command: list[str], free_port: int) -> None:
    meet = ["--nodes", "2", "--rendezvous", f"localhost:{free_port}", "--max-steps", "4"]
    machines = [start(command, "--gpus", "1", *meet, "--output", "two") for _ in range(2)]
    single = start(command, "--set", "train.clips_per_gpu=4", "--max-steps", "4", "--output", "one")
    outputs = [machine.communicate(timeout=PATIENCE_S) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert sorted(out for out, _ in outputs) == ["", "two/checkpoints/last.pth\n"]
    assert all("waiting for 2 machines at localhost" in err for _, err in outputs)
    assert sum("results are on the rank-0 machine" in err for _, err in outputs) == 1
    _, err = single.communicate(timeout=PATIENCE_S)
    assert single.returncode == 0, err
    assert losses("two") == pytest.approx(losses("one"), rel=1e-4)
    assert len(losses("two")) == 4


@pytest.mark.slow
def test_machines_with_different_settings_are_refused(command: list[str], free_port: int) -> None:
    meet = ["--nodes", "2", "--rendezvous", f"localhost:{free_port}", "--output", "run"]
    machines = [start(command, *meet, "--seed", seed) for seed in "35"]
    for machine in machines:
        _, err = machine.communicate(timeout=PATIENCE_S)
        assert machine.returncode == 2
        assert re.search(r"error: process 2 was started with seed=[35], process 1 with [35]", err)
    assert not Path("run").exists()


def test_a_machine_without_the_others_gives_up(command: list[str], free_port: int) -> None:
    meet = ["--nodes", "2", "--rendezvous", f"localhost:{free_port}", "--rendezvous-timeout", "1"]
    _, err = (machine := start(command, *meet)).communicate(timeout=PATIENCE_S)
    assert machine.returncode == 1
    assert f"error: not all 2 machines reached localhost:{free_port} within 1 s" in err


def test_a_port_used_by_another_program(command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts and stays silent
        endpoint = f"localhost:{server.getsockname()[1]}"
        meet = ["--nodes", "2", "--rendezvous", endpoint, "--rendezvous-timeout", "1"]
        _, err = (machine := start(command, *meet)).communicate(timeout=PATIENCE_S)
    assert machine.returncode == 1
    assert f"error: --rendezvous {endpoint}: the program at this port is no launcher" in err
