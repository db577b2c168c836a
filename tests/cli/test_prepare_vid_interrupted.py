"""`prepare-vid` in a process of its own: Ctrl-C, kill, and going on."""

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
PREPARE = """
import time
import sparsevod_core.data.formats.imagenet_vid as imagenet_vid
from sparsevod_cli.main import main

read_folder = imagenet_vid.read_folder

def read_slowly(*arguments):
    time.sleep({pause})
    return read_folder(*arguments)

imagenet_vid.read_folder = read_slowly
main()
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Validation videos of three frames."""
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


def start(tree: Path, output: Path, pause: float = 0.03) -> subprocess.Popen[str]:
    """In a group of its own, as a shell starts a command; `pause` seconds before each folder."""
    arguments = ["prepare-vid", str(tree), "-o", str(output), "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE.format(pause=pause), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_some_is_done(process: subprocess.Popen[str], output: Path) -> None:
    journal = output.with_name(f"{output.name}.partial.journal")
    for _ in range(3000):
        if journal.is_file() and journal.read_bytes().count(b"\n") > 10:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    pytest.fail("nothing done after 15 s")


def assert_group_ends(group: int) -> None:
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("a process is left after 5 s")


@pytest.mark.parametrize(
    ("number", "to_group"), [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGKILL, False)]
)
def test_a_second_run_goes_on(
    tree: Path, tmp_path: Path, number: signal.Signals, to_group: bool
) -> None:
    process = start(tree, tmp_path / "whole.json", pause=0)
    assert process.wait() == 0
    output = tmp_path / "cut" / "whole.json"
    process = start(tree, output)
    wait_until_some_is_done(process, output)
    (os.killpg if to_group else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=20)
    assert_group_ends(process.pid)
    assert not output.exists()
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert process.returncode == 130
        kept = f"{output}: what is finished is kept beside it; the same command goes on"
        assert kept in said.splitlines()
    process = start(tree, output, pause=0)
    _, said = process.communicate()
    assert process.returncode == 0
    assert f"{output}: going on after " in said
    assert output.read_bytes().replace(b"../", b"") == (
        (tmp_path / "whole.json").read_bytes().replace(b"../", b"")
    )
    assert sorted(path.name for path in output.parent.iterdir()) == ["whole.json"]
