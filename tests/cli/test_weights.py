"""`sparsevod weights`, and names of published weights in other commands."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weights_server

from sparsevod_cli import app
from sparsevod_core.embedded import embedded_checkpoint
from sparsevod_core.weights import download
from sparsevod_core.weights.registry import PUBLISHED, PublishedWeights

CONTENT = embedded_checkpoint().read_bytes()
PATH = f"mmtracking/tiny-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
FLOW = PUBLISHED["flownet-simple"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server with the bundled model as `tiny-ours`, and the file of `flownet-simple`."""
    weights = PublishedWeights("tiny-ours", PATH, "SparseVOD", "tiny", "ours", 10)
    monkeypatch.setitem(PUBLISHED, weights.name, weights)
    with weights_server.running() as state:
        state.files = {f"/{PATH}": CONTENT, f"/{FLOW.path}": CONTENT}
        monkeypatch.setenv("SPARSEVOD_WEIGHTS_URL", state.url)
        monkeypatch.setenv("SPARSEVOD_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(download, "PAUSES_S", ())
        monkeypatch.chdir(tmp_path)
        yield state


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    def run_command(line: str) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", *line.split()])
        with pytest.raises(SystemExit) as stopped:
            app.run()
        return int(stopped.value.code or 0)

    return run_command


def test_the_list(run: Callable[[str], int], server: Any, tmp_path: Path, capsys: Any) -> None:
    assert run("weights get flownet-simple") == 0
    assert capsys.readouterr().out == f"{tmp_path}/cache/flownet_simple.pth\n"
    assert run("weights --json w.json") == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "cache") in title
    assert head.split() == [
        "name",
        "system",
        "backbone",
        "classes",
        "published",
        "cached",
        "source",
    ]
    shown = {row.split()[0]: " ".join(row.split()[1:]) for row in rows if row}
    assert shown["selsa-r50-vid"] == "SELSA r50 30 of ImageNet VID AP50 78.4 no MMTracking"
    assert shown["sparse-rcnn-r50-coco"] == "Sparse R-CNN r50 80 of COCO AP 42.8 no MMDetection"
    megabytes = round(len(CONTENT) / 1e6)
    assert shown["flownet-simple"] == f"FlowNetSimple - - - {megabytes} MB MMTracking"
    written = json.loads(Path("w.json").read_text())
    assert written["schema"] == "sparsevod.weights/1" and written["cache"] == f"{tmp_path}/cache"
    entries = {one["name"]: one for one in written["weights"]}
    assert entries.keys() == PUBLISHED.keys()
    assert entries["flownet-simple"]["bytes"] == len(CONTENT)
    selsa = entries["selsa-r50-vid"]
    assert (selsa["sha256"], selsa["bytes"], selsa["published"]) == ("2f5a4952", None, 78.4)
    assert selsa["url"].startswith(f"{server.url}/mmtracking/vid/selsa/")


@pytest.mark.parametrize("place", ["get --cache mine", "--cache mine get"])
def test_get_goes_on_after_a_failure(
    run: Callable[[str], int], server: Any, place: str, capsys: Any
) -> None:
    words = "selsa-r50-vid tiny-our tiny-ours"
    line = f"weights {place} {words}" if place[0] == "-" else f"weights get {words} --cache mine"
    assert run(line) == 1
    printed = capsys.readouterr()
    assert printed.out == f"mine/{Path(PATH).name}\n"
    assert Path(printed.out.strip()).read_bytes() == CONTENT
    assert "error: selsa-r50-vid: cannot download" in printed.err
    assert "HTTP error 404" in printed.err
    assert "did you mean tiny-ours?" in printed.err
    assert not Path("cache").exists()


def test_commands_know_the_name(
    run: Callable[[str], int], server: Any, tmp_path: Path, capsys: Any
) -> None:
    from PIL import Image

    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save("a.png")
    assert run("detect a.png --no-video --json a.json --checkpoint tiny-ours") == 0
    said = capsys.readouterr().err
    assert "tiny-ours: SparseVOD with tiny by MMTracking" in said and "Apache-2.0" in said
    assert json.loads(Path("a.json").read_text())["checkpoint"] == "tiny-ours"
    assert run("detect a.png --no-video --json b.json") == 0  # the same model
    first, second = (json.loads(Path(name).read_text()) for name in ("a.json", "b.json"))
    assert first["frames"] == second["frames"]
    assert run("visualize-stages a.png -o s.png --checkpoint tiny-ours") == 0
    assert run("detect a.png --no-video --json a.json --checkpoint tiny-oars") == 1
    assert "did you mean tiny-ours?" in capsys.readouterr().err
    train = "train --backbone tiny --annotations a.json -o run --init-from"
    assert run(f"{train} selsa-r50-vid") == 1  # the server does not have it
    assert "selsa-r50-vid: cannot download" in capsys.readouterr().err
    assert not Path("run").exists()
    assert run("eval tiny-ours --annotations missing.json") == 1
    assert "missing.json" in capsys.readouterr().err
    assert run("export tiny-oars -o m.pt2") == run("bench --checkpoint tiny-oars") == 1
    assert len([path for path, _ in server.requests if path == f"/{PATH}"]) == 1


def test_a_killed_download_continues(
    run: Callable[[str], int], server: Any, tmp_path: Path, capsys: Any
) -> None:
    server.goes_on.clear()
    partial = tmp_path / "cache" / f"{FLOW.file_name}.partial"
    words = [sys.executable, "-m", "sparsevod_cli", "weights", "get", FLOW.name]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size >= len(CONTENT) // 2):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    server.goes_on.set()
    assert run(f"weights get {FLOW.name}") == 0
    assert (tmp_path / "cache" / FLOW.file_name).read_bytes() == CONTENT
    assert not partial.exists()


def test_a_full_disk(run: Callable[[str], int], server: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "cache").mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path / "cache")]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("only root may mount the small disk that this fills")
    try:
        for states_length in (True, False):  # known before, or only when it is full
            server.states_length = states_length
            assert run("weights get tiny-ours") == 1
            (error,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
            assert ".pth: cannot write: No space left on device" in error
            assert list((tmp_path / "cache").iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path / "cache")], check=True)


def test_other_commands_download_into_the_folder_of_cache(
    run: Callable[[str], int], server: Any, tmp_path: Path
) -> None:
    (tmp_path / "one.json").write_text("{}")
    assert run("eval tiny-ours --annotations one.json --cache here") != 0  # no videos in it
    assert [file.name for file in (tmp_path / "here").glob("*.pth")] == [Path(PATH).name]
    assert not (tmp_path / "cache").exists()
