"""Outputs of every command: no other file is lost, and one line if they cannot be written."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kills import killed_before

from sparsevod_cli import app
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

SMALL = (
    *("model.num_classes=1", "model.num_stages=1", "model.num_proposals=6"),
    *("data.short_side=64", "data.long_side=64", "data.workers=0"),
)
TRAIN = " ".join(f"--set {one}" for one in SMALL[1:]) + " --backbone tiny --max-steps 1"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, images, annotations in two formats, and predictions."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("prepared")
    torch.manual_seed(0)
    config = load_config("tiny", overrides=SMALL)
    state = build_detector(config.model).state_dict()
    save_checkpoint(folder / "model.pth", Checkpoint(config, (Category(1, "bird"),), state, None))
    (folder / "images").mkdir()
    images, boxes = [], []
    for number in range(1, 5):
        name = f"{number:06d}.png"
        pixels = np.full((64, 64, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": number, "file_name": name, "width": 64, "height": 64})
        box = {"image_id": number, "category_id": 1, "bbox": [8, 8, 20, 20]}
        boxes.append({**box, "id": number, "area": 400, "iscrowd": 0})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "bird"}]}
    videos = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    for image in images:
        number, frame = divmod(image["id"] - 1, 2)
        image |= {"video_id": number + 1, "frame_id": frame}
    of_videos = {**content, "videos": videos, "info": {"root": "images"}}
    (folder / "coco.json").write_text(json.dumps(of_videos))
    found = [{key: box[key] for key in ("image_id", "category_id", "bbox")} for box in boxes]
    lines = ",\n".join(json.dumps({**one, "score": 0.9}) for one in found)
    (folder / "found.json").write_text(f"[\n{lines}\n]\n")  # as eval writes it
    return folder


@pytest.fixture
def run(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return a function that runs a command in a folder with links to the prepared files."""
    import shutil

    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def run_command(line: str) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", *line.split()])
        try:
            app.run()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run_command


def tree() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


EVAL = "eval model.pth --annotations coco.json --root images --device cpu"
SCORE = "eval --annotations coco.json --from-predictions found.json"


@pytest.mark.parametrize(
    "line",
    [
        f"{EVAL} --json coco.json",
        f"{EVAL} --json model.pth",
        f"{EVAL} --save-predictions coco.json",
        f"{EVAL} --save-predictions model.pth",
        f"{SCORE} --json found.json",
        f"{SCORE} --json x/../coco.json",
        f"{SCORE} -o mine",
        "prepare-vid coco.json --format coco --images images -o coco.json",
        "prepare-vid coco.json --format coco --images images -o x/../coco.json",
        "prepare-vid coco.json --format coco --images images -o mine.json",
        "prepare-vid coco.json --format coco --images images -o out.json --json coco.json",
        "prepare-vid --check coco.json --json coco.json",
        "prepare-vid --check coco.json -o images/000001.png",
        "visualize-stages images/000001.png -o images/000001.png --checkpoint model.pth",
        "visualize-stages images/000001.png -o mine.html --checkpoint model.pth",
        "export model.pth -o mine.onnx",
        "export model.pth -o new.onnx --json new_support.onnx",
        "bench --checkpoint model.pth --json model.pth",
        "bench data --annotations coco.json --json coco.json",
        f"train --annotations coco.json --root images --output mine {TRAIN}",
        f"train --annotations coco.json --root images --output new --json coco.json {TRAIN}",
        f"train --annotations coco.json --root images -o new --json new/x/../config.yaml {TRAIN}",
        "doctor --json mine.json",
        "reproduce hold-out coco.json -o mine",
        "reproduce --annotations coco.json --val coco.json --backbone tiny -o mine",
    ],
)
def test_no_other_file_is_overwritten(run: Callable[[str], int], line: str, capsys: Any) -> None:
    Path("mine").mkdir()
    for name in ("confusion.png", "config.yaml", "train.json", "tables.md", "mine.txt"):
        Path("mine", name).write_text("precious")
    for name in ("mine.json", "mine.html", "mine.onnx"):
        Path(name).write_text("precious")
    before = tree()
    assert run(line) == 2
    *_, error, hint = capsys.readouterr().err.splitlines()
    assert re.match("error: .*(never overwritten|already exists|two outputs have this path)", error)
    assert hint.startswith("  hint: ")
    assert tree() == before


def test_results_of_earlier_runs_are_overwritten(run: Callable[[str], int]) -> None:
    for _ in range(2):
        assert run(f"{EVAL} --save-predictions p.json --json ap.json -o report") == 0
        assert (
            run("prepare-vid coco.json --format coco --images images -o o.json --json j.json") == 0
        )
        assert run("prepare-vid --check coco.json --json c.json -o c.pdf") == 0
        assert run("reproduce hold-out coco.json -o parts") == 0
    assert json.loads(Path("ap.json").read_text())["schema"] == "sparsevod.eval/1"
    assert not [name for name in tree() if name.endswith((".partial", ".lock"))]


# --- disks ----------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that mounts a small disk as `disk`."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(words, check=False, capture_output=True).returncode:
            pytest.skip("only root may mount the small disk that this fills")

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


WRITING = [
    "detect images -o disk/o.mp4 --checkpoint model.pth --crop disk/c --score 0.01",
    "detect images --no-video --csv disk/o.csv --yolo disk/y --checkpoint model.pth",
    "detect images -o disk/f/%03d.png --checkpoint model.pth",
    f"{EVAL} --save-predictions disk/p.json",
    f"{EVAL} --json disk/ap.json",
    f"{SCORE} -o disk/report",
    f"train --annotations coco.json --root images --output disk/run {TRAIN}",
    "prepare-vid coco.json --format coco --images images -o disk/out.json",
    "prepare-vid --check coco.json -o disk/page.png",
    "prepare-vid --synthetic disk/set --videos 1 --val-videos 1 --frames 4 --val-frames 4",
    "visualize-stages images/000001.png -o disk/s.png --checkpoint model.pth",
    "reproduce hold-out coco.json -o disk/parts",
    "export model.pth -o disk/m.pt2",
    "doctor --json disk/d.json",
]


@pytest.mark.parametrize("line", WRITING)
def test_a_read_only_disk(
    run: Callable[[str], int], disk: Callable[[str], None], line: str, capsys: Any
) -> None:
    disk("ro")
    assert run(line) == 1
    (error,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert error.startswith("error: ") and "disk" in error
    assert error.endswith(": cannot write: Read-only file system")


@pytest.mark.parametrize("line", WRITING)
def test_a_full_disk(
    run: Callable[[str], int], disk: Callable[[str], None], line: str, capsys: Any
) -> None:
    disk("size=4k")
    Path("disk/full").write_bytes(bytes(4096))
    assert run(line) == 1
    (error,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert error.startswith("error: ") and "disk" in error
    assert error.endswith(": cannot write: No space left on device")
    left = {path.name for path in Path("disk").rglob("*") if path.is_file()} - {"full"}
    assert not [name for name in left if "partial" in name or Path("disk", name).suffix == ".lock"]


def test_stdout_and_names(run: Callable[[str], int], capsys: Any) -> None:
    Path("folder").mkdir()
    for line in (SCORE, "prepare-vid --check coco.json", "bench --checkpoint model.pth"):
        assert run(f"{line} --json folder") == 2
        assert "error: folder: is a folder" in capsys.readouterr().err
    assert run(f"train --annotations coco.json --root images --output coco.json/x {TRAIN}") == 1
    assert "coco.json is not a folder" in capsys.readouterr().err
    assert run(f"{SCORE} --json {'a' * 256}.json") == 1
    assert "cannot write: File name too long" in capsys.readouterr().err
    assert run(f"detect images -o {'a' * 300}.mp4 --checkpoint model.pth") == 1
    assert "cannot write: File name too long" in capsys.readouterr().err
    for redirection in (">&-", ">/dev/full"):
        words = f"{sys.executable} -m sparsevod_cli --version {redirection}"
        done = subprocess.run(words, shell=True, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith("error: stdout: cannot write: ")
        assert len(done.stderr.splitlines()) == 1


# --- processes ------------------------------------------------------------------------------------

HELD = """
import sys, time
from pathlib import Path
{patch}
def waiting(*arguments, **more):
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    return original(*arguments, **more)
{set}
from sparsevod_cli.main import main
main()
"""
HOLDS = {
    "eval": (
        "from sparsevod_core.evaluation.predictions.writer import PredictionsWriter as writer\n"
        "original = writer.write",
        "writer.write = waiting",
    ),
    "train": (
        "from sparsevod_core.training.trainer import Trainer\noriginal = Trainer.fit",
        "Trainer.fit = waiting",
    ),
}


@pytest.mark.parametrize(
    ("command", "line", "more"),
    [
        ("eval", f"{EVAL} --save-predictions p.json", "--resume"),
        ("train", f"train --annotations coco.json --root images --output r {TRAIN}", ""),
    ],
)
def test_one_process_at_a_time(
    run: Callable[[str], int], command: str, line: str, more: str, capsys: Any
) -> None:
    patch, set_ = HOLDS[command]
    script = HELD.format(patch=patch, set=set_)
    first = subprocess.Popen([sys.executable, "-c", script, *line.split()])
    try:
        while not Path("begun").exists():
            assert first.poll() is None
            time.sleep(0.02)
        for words in (line, f"{line} {more}"):
            assert run(words) == 1
            assert f"is being written by process {first.pid} on" in capsys.readouterr().err
        Path("go").touch()
        assert first.wait(60) == 0
    finally:
        first.kill()
    if command == "train":  # a finished run, longer, in two processes
        Path("go").unlink()
        Path("begun").unlink()
        again = ["train", "--resume", "r", "--max-steps", "2"]
        first = subprocess.Popen([sys.executable, "-c", script, *again])
        while not Path("begun").exists():
            assert first.poll() is None
            time.sleep(0.02)
        assert run(" ".join(again)) == 1
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert run(" ".join(again)) == 0  # the lock of a killed process is no obstacle
    assert not [name for name in tree() if name.endswith(".lock")]


def test_eval_killed_between_any_two_steps_of_finishing(run: Callable[[str], int]) -> None:
    assert run(f"{EVAL} --save-predictions whole.json --json whole_ap.json") == 0
    for number in count(1):
        line = f"{EVAL} --save-predictions p{number}.json --json ap{number}.json"
        if not killed_before(number, partial(run, line)):
            break
        # 2: it was killed after the last step, and the hint says how to score the complete file.
        assert run(f"{line} --resume") in (0, 2)
        assert Path(f"p{number}.json").read_bytes() == Path("whole.json").read_bytes()
    assert number > 3
