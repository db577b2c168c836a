"""`prepare-vid` in a separate process: Ctrl-C, kill, and resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

OBJECT = (
    "<object><trackid>0</trackid><name>n02958343</name><bndbox><xmin>{0}</xmin><xmax>{1}</xmax>"
    "<ymin>4</ymin><ymax>30</ymax></bndbox></object>"
)
NUM_VIDEOS = 80
NUM_UNHINDERED = 40
PREPARE = """
import time
from pathlib import Path

import sparsevod_core.prepare.imagenet_vid.convert as imagenet_vid
from sparsevod_cli.main import main

read_folder = imagenet_vid.read_folder

def read_when_allowed(root, folder, *arguments):
    while folder.name >= {first_held!r} and not Path({allowed!r}).exists():
        time.sleep(0.01)
    return read_folder(root, folder, *arguments)

imagenet_vid.read_folder = read_when_allowed
main()
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make validation videos of three frames."""
    from PIL import Image

    root = tmp_path_factory.mktemp("interrupted") / "ILSVRC2015"
    jpeg = root.parent / "frame.jpg"
    Image.new("RGB", (64, 48)).save(jpeg)
    for video in range(NUM_VIDEOS):
        folders = [root / part / f"VID/val/a_{video:04d}" for part in ("Data", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        for frame in range(3):
            os.link(jpeg, folders[0] / f"{frame:06d}.JPEG")
            (folders[1] / f"{frame:06d}.xml").write_text(
                "<annotation><size><width>64</width><height>48</height></size>"
                f"{OBJECT.format(frame + video % 9, 30)}</annotation>"
            )
    return root


def start(tree: Path, output: Path, allowed: Path) -> subprocess.Popen[str]:
    """Start a conversion in a new process group, as a shell does.

    It reads NUM_UNHINDERED folders, and the others once the file `allowed` exists.
    """
    arguments = ["prepare-vid", str(tree), "-o", str(output), "--workers", "2"]
    script = PREPARE.format(first_held=f"a_{NUM_UNHINDERED:04d}", allowed=str(allowed))
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_some_is_done(process: subprocess.Popen[str], output: Path) -> None:
    journal = output.with_name(f"{output.name}.partial.journal")
    while not journal.is_file() or journal.read_bytes().count(b"\n") <= 10:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "to_group"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)]
)
def test_a_second_run_resumes(
    tree: Path, tmp_path: Path, number: signal.Signals, to_group: bool
) -> None:
    whole = tmp_path / "whole.json"
    process = start(tree, whole, allowed=tree)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    output, allowed = tmp_path / "cut" / "whole.json", tmp_path / "allowed"
    process = start(tree, output, allowed)
    wait_until_some_is_done(process, output)
    (os.killpg if to_group else os.kill)(process.pid, number)
    if number == signal.SIGINT:
        allowed.touch()  # it waits for the folders that are being read
    # Reads to the end of the workers' stderr too, which shows that they have exited.
    _, stderr = process.communicate(timeout=600)
    assert not output.exists()
    assert "Traceback" not in stderr
    if number == signal.SIGINT:
        assert process.returncode == 130
        kept = f"{output}: finished videos are kept; run the same command to resume"
        assert kept in stderr.splitlines()
    process = start(tree, output, allowed=tree)
    _, stderr = process.communicate()
    assert process.returncode == 0
    assert f"{output}: resuming after " in stderr
    assert output.read_bytes().replace(b"../", b"") == whole.read_bytes().replace(b"../", b"")
    assert sorted(path.name for path in output.parent.iterdir()) == ["whole.json"]
