"""`sparsevod detect`: no file is lost, kills at any moment, locks, and whose results are there."""

from __future__ import annotations

import filecmp
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from kills import killed_before

from sparsevod_cli import app
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.errors import VideoError
from sparsevod_core.inference.journal import Journal
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category
from sparsevod_core.video.fingerprint import fingerprint
from sparsevod_core.video.sources import Source

SETTINGS = ("model.num_classes=1", "data.short_side=48", "data.long_side=64")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.manual_seed(0)
    config = load_config("tiny", overrides=SETTINGS)
    detector = build_detector(config.model)
    save_checkpoint(path, Checkpoint(config, (Category(7, "bird"),), detector.state_dict(), None))
    return path


@pytest.fixture
def detect(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> int:
        arguments = ["sparsevod", "detect", *map(str, words), "--checkpoint", str(checkpoint)]
        monkeypatch.setattr(sys, "argv", arguments)
        try:
            app.run()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def make_video(path: Path | str, num_frames: int = 3) -> Path:
    """Write a video as a camera does, without the mark of an output."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(num_frames):
            image = np.full((48, 64, 3), 20 * number + num_frames, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    return path


# --- no file is lost ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("-o", "x/../s.mp4"),  # there is no x
        ("--no-video", "--json", "x/../s.mp4"),
        ("-o", "link/s.mp4"),
        ("-o", "symlink.mp4"),
        ("-o", "hard.mp4"),
        ("-o", "o.mp4", "--csv", "x/../o.mp4"),
        ("-o", "o.mp4", "--csv", "O.MP4"),
        ("-o", "o.mp4", "--csv", "o.mp4/a.csv"),
        ("-o", "o.mp4", "--crop", "crops", "--json", "crops/a.json"),
        ("-o", "o.mp4", "--jsonl", "o.mp4.journal.jsonl"),
        ("--no-video", "--json", "weights.pth"),
        ("--no-video", "--json", "mine.json"),
        ("--no-video", "--jsonl", "mine.json"),
        ("--no-video", "--coco", "mine.json"),
        ("--no-video", "--csv", "mine.csv"),
        ("--no-video", "--mot", "mine.txt"),
        ("--no-video", "--yolo", "mine"),
        ("--no-video", "--json", "mine"),
        ("--no-video", "--json", "pipe"),
        ("-o", "other.mp4"),
        ("-o", "mine/%03d.png"),
    ],
)
def test_no_other_file_is_overwritten(
    detect: Any, checkpoint: Path, words: Sequence[str], capsys: Any
) -> None:
    source = make_video("s.mp4")
    make_video("other.mp4", 4)
    Path("link").symlink_to(".")
    Path("symlink.mp4").symlink_to("s.mp4")
    os.link("s.mp4", "hard.mp4")
    Path("weights.pth").write_bytes(checkpoint.read_bytes())
    Path("mine.json").write_text('{"images": [], "annotations": [], "categories": []}')
    Path("mine.csv").write_text("frame,label\n1,cat\n")
    Path("mine.txt").write_text("1,1,10,20,30,40,1,1,1\n")
    Path("mine").mkdir()
    Path("mine/000.png").write_bytes(b"precious")
    os.mkfifo("pipe")
    files = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert detect(source, *words) == 2
    error, hint = capsys.readouterr().err.splitlines()
    reasons = "never overwritten|already exists|two outputs|inside another output|is a folder"
    assert re.match(f"error: .*({reasons}|is not a regular file)", error)
    assert hint.startswith("  hint: ")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == files


def test_a_list_and_the_other_sources_are_inputs(detect: Any, capsys: Any) -> None:
    make_video("a/s.avi")
    make_video("b/s.mp4", 4)
    before = Path("b/s.mp4").read_bytes()
    for name, words in (("list.mkv", ("-o",)), ("list.txt", ("--no-video", "--json"))):
        Path(name).write_text("a/s.avi\n")
        assert detect(f"@{name}", *words, name) == 2
        assert f"{name}: this is the list, which is never overwritten" in capsys.readouterr().err
    assert detect("a/s.avi", "b/s.mp4", "-o", "x/../*/../b/s.mp4") == 2
    assert "this is a source" in capsys.readouterr().err
    assert Path("b/s.mp4").read_bytes() == before


def test_the_checkpoint_is_an_input(detect: Any, checkpoint: Path, capsys: Any) -> None:
    before = checkpoint.read_bytes()
    assert detect(make_video("s.mp4"), "--no-video", "--json", checkpoint) == 2
    assert "this is the checkpoint, which is never overwritten" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_temporary_names_are_no_names_of_users(detect: Any) -> None:
    source = make_video("o.mp4.partial")
    before = source.read_bytes()
    Path("o.json.partial").write_text("mine")
    remains = Path("o.json.0123abcd.partial")
    remains.write_text("left by a killed process")
    for _ in range(2):  # results of an earlier run are overwritten
        assert detect(source, "-o", "o.mp4", "--json", "o.json", "--csv", "o.csv") == 0
    assert source.read_bytes() == before
    assert Path("o.json.partial").read_text() == "mine"
    assert not remains.exists()


def test_results_go_through_a_symbolic_link(detect: Any) -> None:
    Path("disk").mkdir()
    Path("o.json").symlink_to("disk/o.json")
    assert detect(make_video("s.mp4"), "--no-video", "--json", "o.json") == 0
    assert Path("o.json").is_symlink() and Path("disk/o.json").stat().st_size


def test_names_of_255_bytes(detect: Any) -> None:
    source = make_video("影" * 83 + "aa.mp4")  # 255 bytes
    assert len(source.name.encode()) == 255
    assert detect(source) == 0
    assert detect(source, "-o", "found", "--csv", "found", "--coco", "found", "--yolo", "y") == 0
    names = [path.name for path in Path("found").iterdir() if not path.name.startswith(".")]
    assert source.name in names and len(names) == 3
    assert max(len(name.encode()) for name in names) <= 255


# --- kills ----------------------------------------------------------------------------------------


def tree(folder: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("video", ["o.mp4", "frames/%03d.png"])
def test_a_kill_between_any_two_steps_of_finishing(
    detect: Any, video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(Path("s.mp4").absolute(), 4)

    def run(folder: str, *more: str) -> int:
        outputs = {"-o": video, "--crop": "crop", "--yolo": "yolo", "--csv": "o.csv"}
        outputs |= {"--json": "o.json"}
        words = [word for flag, name in outputs.items() for word in (flag, f"{folder}/{name}")]
        return detect(source, *words, "--score", 0.01, *more)

    assert run("whole") == 0
    assert len(tree("whole")) > 10
    for number in count(1):
        cut = partial(run, f"cut{number}")
        if not killed_before(number, cut, last=".journal.jsonl"):
            break
        assert run(f"cut{number}", "--resume") == 0
        assert tree(f"cut{number}") == tree("whole")
    assert number > 5


def test_a_folder_of_an_interrupted_run_is_replaced_but_no_file_in_it(
    detect: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsevod_core.inference.journal import Journal

    source, write = make_video("s.mp4", 6), Journal.write

    def interrupt(self: Journal, detections: Any) -> None:
        write(self, detections)
        if self.num_frames == 3:
            os.kill(os.getpid(), signal.SIGINT)

    words = (source, "--no-video", "--yolo", "yolo")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", interrupt)
        assert detect(*words) == 130
    num_files = len(list(Path("yolo").iterdir()))
    assert num_files < 7
    Path("yolo/mine.txt").write_text("precious")
    assert detect(*words, "--resume") == 2
    assert "mine.txt: was not written by this run" in capsys.readouterr().err
    assert len(list(Path("yolo").iterdir())) == num_files + 1
    Path("yolo/mine.txt").unlink()
    assert detect(*words, "--resume") == 0
    assert len(list(Path("yolo").iterdir())) == 7
    assert sorted(path.name for path in Path().iterdir()) == ["s.mp4", "yolo"]


# --- locks ----------------------------------------------------------------------------------------

WAITING = """
import sys, time
from pathlib import Path
from sparsevod_core.inference import journal
write = journal.Journal.write
def waiting(self, detections):
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.02)
    write(self, detections)
journal.Journal.write = waiting
from sparsevod_cli.main import main
main()
"""


def test_one_process_writes_an_output(detect: Any, checkpoint: Path, capsys: Any) -> None:
    source = make_video("s.mp4")
    words = ["detect", source, "--checkpoint", checkpoint, "-o", "a.mp4", "--json", "a.json"]
    first = subprocess.Popen([sys.executable, "-c", WAITING, *map(str, words)])
    try:
        while not Path("begun").exists():
            assert first.poll() is None
        for more in ([], ["--resume"]):
            assert detect(source, "-o", "a.mp4", *more) == 1
            assert f"a.mp4: is being written by process {first.pid} on" in capsys.readouterr().err
        assert detect(source, "-o", "b.mp4", "--json", "x/../a.json") == 1
        assert detect(source, "-o", "b.mp4", "--json", "b.json") == 0
        Path("go").touch()
        assert first.wait(60) == 0
    finally:
        first.kill()
    assert filecmp.cmp("a.mp4", "b.mp4", shallow=False)
    names = sorted(path.name for path in Path().iterdir())
    assert names == ["a.json", "a.mp4", "b.json", "b.mp4", "begun", "go", "s.mp4"]


# --- whose results --------------------------------------------------------------------------------


def test_results_belong_to_a_video(detect: Any, capsys: Any) -> None:
    words = ("-o", "found", "--json", "found")
    for camera, num_frames in (("cam1", 3), ("cam3", 5)):
        make_video(f"{camera}/0001.mp4", num_frames)
    assert detect("*/0001.mp4", *words) == 0
    make_video("cam2/0001.mp4", 7)
    assert detect("*/0001.mp4", *words) == 0
    assert "skipping 2 of 3 videos: already done" in capsys.readouterr().err
    for camera, num_frames in (("cam1", 3), ("cam2", 7), ("cam3", 5)):
        text = Path(f"found/{camera}_0001.json").read_text()
        assert f'"num_frames": {num_frames}' in text
    # Another video whose results would have the same name.
    before = tree("found")
    assert detect("cam2/*.mp4", "cam2/../cam2/0001.mp4", "-o", "found/cam1_*.mp4") == 2
    says = "found/cam1_0001.mp4: is the result of cam1/0001.mp4, not of cam2/0001.mp4"
    assert says in capsys.readouterr().err
    # A video that was moved is still the same; one that was recorded anew is not.
    Path("cam1").rename("archive")
    assert detect("archive/0001.mp4", "-o", "found/cam1_*.mp4") == 0
    assert "already done" in capsys.readouterr().err
    make_video("archive/0001.mp4", 4)
    assert detect("archive/0001.mp4", "-o", "found/cam1_*.mp4") == 2
    assert tree("found") == before


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a"])
def test_other_content_of_the_same_name_and_size_is_another_video(
    name: str, detect: Any, capsys: Any
) -> None:
    def film(gray: int) -> int:
        """Write a source whose first and last frames, and sizes, do not depend on `gray`."""
        images = [np.full((240, 320, 3), value, np.uint8) for value in (0, gray, gray, 0)]
        if name == "a":
            Path(name).mkdir(exist_ok=True)
            for number, image in enumerate(images):
                cv2.imwrite(f"{name}/{number}.bmp", image)
            return 0
        with av.open(name, "w") as file:
            stream = file.add_stream("rawvideo" if name == "a.avi" else "mpeg4", rate=10)
            stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
            for image in images:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            file.mux(stream.encode())
        os.truncate(name, max(Path(name).stat().st_size, 2**19))  # zeros at the end are no damage
        return Path(name).stat().st_size

    sizes = [film(50)]
    assert detect(name, "-o", "found", "--num-supports", 0) == 0
    before = tree("found")
    sizes.append(film(200))
    assert sizes[0] == sizes[1]
    assert detect(name, "-o", "found", "--num-supports", 0) == 2
    assert "before that was changed" in capsys.readouterr().err
    film(50)
    assert detect(name, "-o", "found", "--num-supports", 0) == 0
    assert "already done" in capsys.readouterr().err
    assert tree("found") == before


def test_a_source_that_cannot_be_read_stops_no_other(
    detect: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_video(f"{name}.mp4")
    assert detect("a.mp4", "b.mp4", "-o", "found") == 0
    make_video("c.mp4")

    def fails_for_a(source: Source) -> str | None:
        if source.place == "a.mp4":
            raise VideoError("a.mp4: cannot read: Permission denied", "change its permissions")
        return fingerprint(source)

    monkeypatch.setattr("sparsevod_core.inference.manifest.fingerprint", fails_for_a)
    assert detect("a.mp4", "b.mp4", "c.mp4", "-o", "found") == 1
    printed = " ".join(capsys.readouterr().err.split())
    assert "a.mp4: cannot read: Permission denied (change its permissions)" in printed
    assert Path("found/c.mp4").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("a.mp4", "-o", "out.avi"), "out.avi: cannot write videos as .avi"),
        (("a.mp4", "-o", "%06d.png"), "%06d.png: expected a folder for the images"),
        (("a.mp4", "--no-video", "--yolo", "-"), "--yolo -: cannot write a folder to stdout"),
        (("a.mp4", "--no-video", "--crop", "-"), "--crop -: cannot write a folder to stdout"),
        (("a.mp4", "b.mp4", "-o", "x/o.mp4"), "name a folder, -o x/o, or use -o 'x/o/*.mp4'"),
        (("a.mp4", "b.mp4", "-o", "x/%06d.png"), "use -o 'x/*/%06d.png'"),
    ],
)
def test_outputs_that_cannot_be_are_usage_errors(
    words: Sequence[str], says: str, detect: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "b.mp4"):
        make_video(name)
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda *_, **__: pytest.fail("loaded"))
    assert detect(*words) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not Path("-").exists()


# --- stdin ----------------------------------------------------------------------------------------


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_another_video_from_stdin_does_not_resume_the_first(
    detect: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (make_video(f"{n}.mp4", n).read_bytes() for n in (3, 4))
    words = ("-", "--no-video", "--jsonl", "x.jsonl")
    with monkeypatch.context() as patch:
        give_stdin(patch, one)
        patch.setattr(Journal, "publish", lambda *_, **__: 1 / 0)  # killed just before the end
        assert detect(*words) == 1
    capsys.readouterr()
    give_stdin(monkeypatch, other)
    assert detect(*words, "--resume") == 2
    assert "journal" in capsys.readouterr().err
    give_stdin(monkeypatch, one)
    assert detect(*words, "--resume") == 0
    assert "resuming after 3 frames" in capsys.readouterr().err


def test_a_break_in_stdin_does_not_name_a_file(
    detect: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with av.open("a.mkv", "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            image = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))
    content = Path("a.mkv").read_bytes()
    give_stdin(monkeypatch, content[: len(content) // 2])
    assert detect("-", "--no-video", "--jsonl", "x.jsonl") == 1
    printed = capsys.readouterr().err
    assert "stdin: the video breaks off after" in printed and "/proc/" not in printed


def test_names_do_not_depend_on_the_order(detect: Any) -> None:
    for name in ("b/x.mp4", "a/x.mp4", "a/X.mov", "a/y.mp4", "a/y.mov"):
        make_video(name)
    assert detect("b/x.mp4", "a", "-o", "found") == 0
    names = sorted(path.name for path in Path("found").iterdir() if path.name[0] != ".")
    assert names == ["X.mov.mp4", "x.mp4", "x.mp4.mp4", "y.mov.mp4", "y.mp4.mp4"]
    again = ("a/y.mov", "a/X.mov", "a/x.mp4", "b/x.mp4", "a/y.mp4")
    assert detect(*again, "-o", "found") == 0
    assert names == sorted(path.name for path in Path("found").iterdir() if path.name[0] != ".")


def test_a_root_without_annotations_is_refused(detect: Any, capsys: Any) -> None:
    make_video("a.mp4")
    assert detect("a.mp4", "--root", ".") == 2
    assert "--root .: goes with --annotations" in capsys.readouterr().err
    assert sorted(tree(".")) == ["a.mp4"]
