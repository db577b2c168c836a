"""`sparsevod eval` in one, two and three processes: killed, interrupted and resumed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

if TYPE_CHECKING:
    from conftest import TinySet

pytestmark = pytest.mark.slow  # each process imports torch

# The command, with one process that kills itself after some frames. Processes that it starts also
# import this script.
SCRIPT = """
import os, signal
from sparsevod_cli.main import main
from sparsevod_core.evaluation.predictions.writer import PredictionsWriter

write, written = PredictionsWriter.write, 0


def write_and_end(self, frame):
    global written
    write(self, frame)
    written += 1
    if os.environ["END"] == f"{os.environ.get('RANK', '0')}:{written}":
        os.kill(os.getpid(), getattr(signal, os.environ["HOW"]))


PredictionsWriter.write = write_and_end
if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pth"
    small = ["model.num_stages=2", "model.num_proposals=10", "model.num_classes=2"]
    sizes = ["data.short_side=64", "data.long_side=96", "inference.batch=3", "inference.supports=2"]
    torch.manual_seed(3)
    config = load_config("tiny", overrides=[*small, *sizes])
    categories = (Category(1, "bar"), Category(2, "square"))
    save_checkpoint(path, Checkpoint(config, categories, build_detector(config.model).state_dict()))
    return path


class Eval:
    """Runs of `sparsevod eval` on the tiny set in one folder."""

    def __init__(self, folder: Path, checkpoint: Path, source: TinySet) -> None:
        self.folder = folder
        self.found = folder / "found.json"
        self._arguments = [str(checkpoint), "--annotations", str(source.annotations)]
        (folder / "script.py").write_text(SCRIPT)

    def run(
        self, *arguments: object, end: str = "", how: str = "", saving: bool = True
    ) -> subprocess.CompletedProcess[str]:
        saved = ["--save-predictions", str(self.found)] if saving else []
        done = subprocess.run(
            [
                *(sys.executable, self.folder / "script.py", "eval", *self._arguments, *saved),
                *("--device", "cpu", "--json", self.folder / "ap.json", *map(str, arguments)),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "END": end, "HOW": how},
            capture_output=True,
            text=True,
            timeout=600,
        )
        return done

    def results(self) -> dict[str, Any]:
        content = json.loads((self.folder / "ap.json").read_text())
        return content | {"predictions": None}

    def left(self) -> list[str]:
        return sorted(p.name for p in self.folder.glob("found.json*") if p.suffix != ".lock")


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Path, image_set: TinySet
) -> Eval:
    """An uninterrupted run in one process."""
    run = Eval(tmp_path_factory.mktemp("uninterrupted"), checkpoint, image_set)
    done = run.run()
    assert (done.returncode, run.left()) == (0, ["found.json"])
    assert len(json.loads(run.found.read_text())) > 200
    return run


@pytest.fixture
def interrupted(tmp_path: Path, checkpoint: Path, image_set: TinySet) -> Eval:
    return Eval(tmp_path, checkpoint, image_set)


@pytest.mark.parametrize(("how", "code"), [("SIGKILL", -9), ("SIGINT", 130)])
def test_a_killed_process_loses_only_the_unfinished_video(
    interrupted: Eval, uninterrupted: Eval, how: str, code: int
) -> None:
    """28 frames of videos of 24, 7, 1 and 1 frames are written."""
    done = interrupted.run(end="0:28", how=how)
    assert done.returncode == code
    assert interrupted.left() == ["found.json.partial"]
    if how == "SIGINT":
        message = f"{interrupted.found}: finished videos are kept; use --resume to continue"
        assert done.stderr.splitlines()[-2:] == [message, "error: interrupted"]
    with (interrupted.folder / "found.json.partial").open("ab") as journal:
        journal.write(b'[1058, {"image_id": 10')  # as after a power cut
    done = interrupted.run("--resume")
    assert done.returncode == 0
    assert f"{interrupted.found}: skipping 24 frames: already done" in done.stderr
    assert "evaluating: 9/9 frames" in done.stderr
    assert interrupted.left() == ["found.json"]
    assert interrupted.found.read_bytes() == uninterrupted.found.read_bytes()
    assert interrupted.results() == uninterrupted.results()


def test_one_two_and_three_processes_give_identical_results(
    interrupted: Eval, uninterrupted: Eval
) -> None:
    """One of two processes is killed, then three resume."""
    done = interrupted.run("--gpus", 2, end="1:8", how="SIGKILL")
    assert done.returncode == 1
    error = [line for line in done.stderr.splitlines() if not line.startswith("evaluating: ")]
    assert error[0] == "error: process 2 was killed (SIGKILL)"
    assert "--resume" in error[1] and len(error) == 2
    assert "found.json.partial.1" in interrupted.left() and not interrupted.found.exists()

    done = interrupted.run("--gpus", 3, "--resume")
    assert done.returncode == 0
    assert interrupted.left() == ["found.json"]
    assert interrupted.found.read_bytes() == uninterrupted.found.read_bytes()
    assert interrupted.results() == uninterrupted.results()


def test_two_processes_without_a_results_file(interrupted: Eval, uninterrupted: Eval) -> None:
    done = interrupted.run("--gpus", 2, saving=False)
    assert done.returncode == 0
    assert "evaluating: 33/33 frames" in done.stderr  # of both processes
    assert interrupted.results() == uninterrupted.results()
