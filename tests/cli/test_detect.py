"""`sparsevod detect` from the command line: files, messages, exit codes."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsevod_cli import app as cli
from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.inference import Predictor
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category, FrameDetections
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.writer import VideoWriter

Run = Callable[..., int]
CATEGORIES = (Category(7, "square"), Category(3, "bar"))
NO_TRACKERS = "the extra `track` is not installed"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small detector with random weights and high scores."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    sizes = ["data.short_side=64", "data.long_side=96", "model.num_stages=1"]
    few = ["model.num_classes=2", "model.num_proposals=8"]
    config = load_config("tiny", overrides=[*sizes, *few])
    torch.manual_seed(3)
    detector = build_detector(config.model)
    for stage in detector.stages:
        torch.nn.init.constant_(stage.class_logits.bias, 0.5)
        torch.nn.init.normal_(stage.class_logits.weight, std=0.2)
    save_checkpoint(path, Checkpoint(config, CATEGORIES, detector.state_dict()))
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs `sparsevod detect` in an empty folder, to its exit code."""
    monkeypatch.chdir(tmp_path)

    def run_detect(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["sparsevod", "detect", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run()
        return int(end.value.code or 0)

    return run_detect


def times(path: Path) -> list[Fraction | None]:
    with VideoReader(path) as reader:
        return [frame.time_s for frame in reader]


def visible(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("."))


def make_video(path: Path, frame_times_ms: list[int], width: int = 64, height: int = 48) -> Path:
    time_base = Fraction(1, 1000)
    with VideoWriter(path, width, height, frame_rate=None, time_base=time_base) as writer:
        generator = np.random.default_rng(0)
        for ms in frame_times_ms:
            image = generator.integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
            image = image.repeat(4, axis=0).repeat(4, axis=1)
            writer.write(image, ms * time_base)
    return path


def test_a_video_and_its_json(run: Run, checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    source = make_video(tmp_path / "in.mp4", [0, 40, 95, 300, 310, 1000])
    output, as_json = Path("boxes.mp4"), Path("boxes.json")
    code = run(
        source, "-o", output, "--checkpoint", checkpoint, "--json", as_json, "--num-supports", 2
    )
    assert code == 0
    assert times(output) == times(source)
    found = json.loads(as_json.read_text())
    assert found["schema"] == "sparsevod.detections/1"
    assert found["video"] == str(source)
    assert found["checkpoint"] == str(checkpoint)
    assert found["support"] == {"mode": "uniform", "supports": 2, "window_stride": 1}
    assert (found["width"], found["height"], found["truncated"]) == (64, 48, False)
    assert [frame["time_s"] for frame in found["frames"]] == [0, 0.04, 0.095, 0.3, 0.31, 1.0]
    detections = [one for frame in found["frames"] for one in frame["detections"]]
    assert {(one["label"], one["class_id"]) for one in detections} <= {("square", 7), ("bar", 3)}
    for one in detections:
        x1, y1, x2, y2 = one["box_xyxy"]
        assert 0 <= x1 < x2 <= 64
        assert 0 <= y1 < y2 <= 48
    printed = capsys.readouterr()
    assert printed.out == ""
    drawn = sum(one["score"] > 0.3 for one in detections)
    assert printed.err.splitlines()[-1] == (
        f"wrote boxes.mp4 and boxes.json: 6 frames, {len(detections)} detections ({drawn} drawn)"
    )


def test_the_score_decides_what_is_drawn_not_what_is_written(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    source = make_video(tmp_path / "in.mp4", [0, 40])
    assert run(source, "--checkpoint", checkpoint, "--json", "-", "--score", 1) == 0
    printed = capsys.readouterr()
    assert any(frame["detections"] for frame in json.loads(printed.out)["frames"])
    last = printed.err.splitlines()[-1]
    assert last.startswith("wrote in_detections.mp4: 2 frames")
    assert last.endswith("(0 drawn)")


def test_how_supports_are_chosen(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", list(range(0, 280, 40)))
    results = []
    for options in (
        ("--support-mode", "uniform", "--batch", 1),
        ("--support-mode", "uniform", "--batch", 4),
        ("--support-mode", "window", "--set", "inference.window_stride=2"),
        ("--support-mode", "causal"),
        ("--num-supports", 0),
        ("--precision", "bf16"),
    ):
        assert run(source, "--checkpoint", checkpoint, "--json", "a.json", *options) == 0
        results.append(json.loads(Path("a.json").read_text()))
    assert [result["support"]["mode"] for result in results[1:4]] == ["uniform", "window", "causal"]
    assert results[2]["support"]["window_stride"] == 2
    assert results[4]["support"]["supports"] == 0
    assert {len(result["frames"]) for result in results} == {7}
    scores = [[one["score"] for one in result["frames"][5]["detections"]] for result in results]
    assert scores[1] == pytest.approx(scores[0], abs=1e-4)


def test_odd_size_is_reported_once_and_boxes_fit_the_source(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    import av

    source = tmp_path / "odd.mkv"
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 35, 21, "yuv444p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((21, 35, 3), 99, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert run(source, "--checkpoint", checkpoint, "--json", "odd.json") == 0
    assert capsys.readouterr().err.count("35x21") == 1
    with VideoReader("odd_detections.mp4") as reader:
        assert (reader.width, reader.height) == (36, 22)
    found = json.loads(Path("odd.json").read_text())
    assert (found["width"], found["height"]) == (35, 21)
    boxes = [one["box_xyxy"] for frame in found["frames"] for one in frame["detections"]]
    assert np.array(boxes).max(axis=0).tolist() <= [35, 21, 35, 21]


def test_a_name_that_starts_with_a_dash(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    make_video(tmp_path / "-dash.mp4", [0, 40])
    assert run("--checkpoint", checkpoint, "--", "-dash.mp4") == 0
    assert len(times(tmp_path / "-dash_detections.mp4")) == 2


def test_a_video_that_breaks_in_the_middle(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    source = make_video(tmp_path / "in.mp4", list(range(0, 800, 40)))
    import av

    with av.open(str(source)) as container:
        packet = list(container.demux(video=0))[12]
    assert packet.pos is not None
    content = bytearray(source.read_bytes())
    content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    source.write_bytes(content)
    assert run(source, "--checkpoint", checkpoint, "--json", "in.json", "--batch", 5) == 1
    warning, wrote = capsys.readouterr().err.splitlines()[-2:]
    assert warning.startswith(f"warning: {source}: the video breaks off after 12 frames")
    assert wrote.startswith("wrote in_detections.mp4 and in.json: 12 frames")
    found = json.loads(Path("in.json").read_text())
    assert found["truncated"] is True
    assert found["num_frames"] == len(found["frames"]) == 12
    assert len(times(Path("in_detections.mp4"))) == 12


@pytest.mark.parametrize("times_pressed", [1, 2])
def test_ctrl_c(
    run: Run,
    checkpoint: Path,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    times_pressed: int,
) -> None:
    """Once: files contain the frames so far. Twice: stop at once. --resume continues."""
    source = make_video(tmp_path / "in.mp4", list(range(0, 800, 40)))
    frames = Predictor.frames

    def interrupted(self: Predictor, video: Any, **options: Any) -> Iterator[FrameDetections]:
        for found in frames(self, video, **options):
            if found.frame.index == 4:
                for _ in range(times_pressed):
                    os.kill(os.getpid(), signal.SIGINT)
            yield found

    monkeypatch.setattr(Predictor, "frames", interrupted)
    assert run(source, "--checkpoint", checkpoint, "--json", "in.json") == 130
    if times_pressed == 1:
        *_, printed, hint, last = capsys.readouterr().err.splitlines()
        assert last == "error: interrupted"
        assert printed.startswith("wrote in_detections.mp4 and in.json: 5 frames")
        assert "--resume to continue from in_detections.mp4.journal.jsonl" in hint
        found = json.loads(Path("in.json").read_text())
        assert (found["num_frames"], found["truncated"]) == (5, True)
        assert times(Path("in_detections.mp4")) == times(source)[:5]
    else:
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["in.mp4", "in_detections.mp4.journal.jsonl"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(Predictor, "frames", frames)
    assert run(source, "--checkpoint", checkpoint, "--json", "in.json", "--resume") == 0
    assert json.loads(Path("in.json").read_text())["num_frames"] == 20
    assert times(Path("in_detections.mp4")) == times(source)
    assert not Path("in_detections.mp4.journal.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("in.mp4", "--checkpoint", "none.pth"), 1, ["none.pth"]),
        (("none.mp4", "--checkpoint", "CKPT"), 1, ["none.mp4", "no such file"]),
        (("in.mp4", "--shard", "3/2"), 2, ["--shard 3/2", "2/8"]),
        (("in.mp4", "empty.mp4", "-o", "a.mp4"), 2, ["2 videos", "-o a"]),
        (("tcp://127.0.0.1:9/", "--support-mode", "window"), 2, ["future", "causal"]),
        (("empty.mp4", "--checkpoint", "CKPT"), 1, ["empty.mp4", "empty"]),
        (("in.mp4", "--checkpoint", "CKPT", "-o", "in.mp4"), 2, ["in.mp4", "source"]),
        (("in.mp4", "--checkpoint", "CKPT", "-o", "out.avi"), 2, ["out.avi", ".mp4"]),
        (("in.mp4", "--checkpoint", "CKPT", "--support-mode", "past"), 2, ["past", "causal"]),
        (("in.mp4", "--checkpoint", "CKPT", "--num-supports", "-1"), 2, ["supports=-1"]),
        (("in.mp4", "--checkpoint", "CKPT", "--batch", "0"), 2, ["batch=0"]),
        (("in.mp4", "--checkpoint", "CKPT", "--score", "2"), 2, ["--score"]),
        (("in.mp4", "--checkpoint", "CKPT", "--device", "cuda:99"), 2, ["cuda:99"]),
        (("in.mp4", "--checkpoint", "CKPT", "--set", "model.tfe=off"), 2, ["model"]),
    ],
)
def test_errors_name_the_problem_and_change_nothing(
    run: Run,
    checkpoint: Path,
    tmp_path: Path,
    capsys: Any,
    arguments: tuple[str, ...],
    code: int,
    words: list[str],
) -> None:
    make_video(tmp_path / "in.mp4", [0, 40])
    (tmp_path / "empty.mp4").touch()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(*(str(checkpoint) if word == "CKPT" else word for word in arguments)) == code
    printed = capsys.readouterr().err
    assert [word for word in words if word not in printed] == []
    assert "Traceback" not in printed
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["corrupted.mp4", "video_90.mov", "-dash-1x1.mp4"])
def test_real_video(
    shared_dir: Path, run: Run, checkpoint: Path, name: str, tmp_path: Path
) -> None:
    source = shared_dir / "data" / "videos" / name
    options = ("--checkpoint", checkpoint, "--num-supports", 2, "--batch", 4)
    code = run(*options, "-o", "out.mp4", "--json", "out.json", "--", source)
    assert code == (1 if name == "corrupted.mp4" else 0)
    found = json.loads(Path("out.json").read_text())
    assert found["truncated"] is (name == "corrupted.mp4")
    with VideoReader(source) as reader:
        assert (found["width"], found["height"]) == (reader.width, reader.height)
        assert found["num_frames"] == reader.num_frames() == len(times(Path("out.mp4")))
        if name != "corrupted.mp4":
            assert times(Path("out.mp4")) == [frame.time_s for frame in reader]


@pytest.mark.parametrize(
    ("support", "is_tracked"),
    [("uniform", False), ("window", False), ("causal", False), ("uniform", True)],
)
def test_killed_and_resumed_gives_the_same_files(
    run: Run, checkpoint: Path, tmp_path: Path, support: str, is_tracked: bool
) -> None:
    if is_tracked:
        pytest.importorskip("trackers", reason=NO_TRACKERS)
    source = make_video(tmp_path / "in.mp4", [40 * n + n % 3 for n in range(24)])
    formats = {"json": "a.json", "jsonl": "a.jsonl", "csv": "a.csv", "coco": "c.json", "yolo": "y"}
    formats |= {"coco-vid": "v.json", "mot": "a.txt"}
    options = [
        "--checkpoint",
        checkpoint,
        "--support-mode",
        support,
        "--num-supports",
        3,
        "--batch",
        3,
        *["--track"] * is_tracked,
    ]

    def arguments(folder: str) -> list[object]:
        outputs = [
            word for kind, name in formats.items() for word in (f"--{kind}", f"{folder}/{name}")
        ]
        return [source, "-o", f"{folder}/out.mp4", *options, *outputs]

    assert run(*arguments("whole")) == 0
    # A real process that kills itself after 10 frames.
    script = (
        "import os, signal, sys\n"
        "from sparsevod_core.inference import journal\n"
        "write = journal.Journal.write\n"
        "def killed(self, detections):\n"
        "    write(self, detections)\n"
        "    if self.num_frames == 10:\n"
        "        self._file.write('[[[1.0, 2')\n"
        "        self._file.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "journal.Journal.write = killed\n"
        "from sparsevod_cli.main import main\n"
        "main()\n"
    )
    words = [sys.executable, "-c", script, "detect", *map(str, arguments("cut"))]
    killed = subprocess.run(words, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not Path("cut/out.mp4").exists() and not Path("cut/a.json").exists()
    assert run(*arguments("cut")) == 2  # the journal exists
    calls = []
    original = Predictor._start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Predictor,
            "_start",
            lambda self, inputs, *rest, **more: (
                calls.append(len(inputs.frames)) or original(self, inputs, *rest, **more)
            ),
        )
        assert run(*arguments("cut"), "--resume") == 0
    assert 14 <= sum(calls) <= 16  # the other 14, and frames that share a batch with them
    for path in sorted(Path("whole").rglob("*")):
        if path.is_file():
            assert Path("cut", path.relative_to("whole")).read_bytes() == path.read_bytes(), path
    assert sorted(p.name for p in Path("cut").iterdir()) == sorted(
        p.name for p in Path("whole").iterdir()
    )


def test_a_journal_of_another_run_is_not_resumed(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    source = make_video(tmp_path / "in.mp4", [0, 40])
    journal = Path("in_detections.mp4.journal.jsonl")
    journal.write_text('{"schema": "sparsevod.journal/1", "video": "other.mp4"}\n[[], [], []]\n')
    assert run(source, "--checkpoint", checkpoint, "--resume") == 2
    printed = capsys.readouterr().err
    assert "video other.mp4, this run has in.mp4" in printed
    assert journal.exists()


def test_several_videos_each_once(run: Run, checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    for name in ("clips/a.mp4", "clips/b.mp4", "more/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        make_video(tmp_path / name, [0, 40])
    (tmp_path / "clips" / "c.mp4").touch()
    words = ["clips", "more/*.mp4", "--checkpoint", checkpoint, "-o", "found", "--csv", "tables"]
    assert run(*words, "--shard", "1/2") == 1  # c.mp4 is empty
    assert visible("found") == ["clips_a.mp4"]
    assert "c.mp4: the file is empty" in capsys.readouterr().err
    assert run(*words) == 1
    assert "skipping 1 of 4 videos: already done" in capsys.readouterr().err
    assert visible("found") == ["b.mp4", "clips_a.mp4", "more_a.mp4"]
    assert visible("tables") == ["b.csv", "clips_a.csv", "more_a.csv"]
    # A pattern that matches one video behaves like one that matches several.
    assert run("more/*.mp4", "--checkpoint", checkpoint, "-o", "one", "--csv", "one") == 0
    assert visible("one") == ["a.csv", "a.mp4"]


def test_a_folder_of_images(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    import cv2

    (tmp_path / "frames").mkdir()
    for number in (1, 2, 10):
        image = np.full((48, 64, 3), 20 * number, np.uint8)
        (tmp_path / "frames" / f"{number}.png").write_bytes(cv2.imencode(".png", image)[1])
    assert run("frames", "--checkpoint", checkpoint, "--json", "a.json") == 0
    with VideoReader("frames_detections.mp4") as reader:
        assert (reader.num_frames(), reader.frame_rate) == (3, 25)
    assert [frame["time_s"] for frame in json.loads(Path("a.json").read_text())["frames"]] == [
        None
    ] * 3


def test_a_live_stream(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MPEG-TS over TCP from a thread that stops soon after the model starts."""
    import av

    start, has_begun, num_sent = Predictor._start, threading.Event(), 0

    def watched(*arguments: Any, **options: Any) -> Any:
        has_begun.set()
        return start(*arguments, **options)

    monkeypatch.setattr(Predictor, "_start", watched)
    listener = socket.create_server(("127.0.0.1", 0))

    def send() -> None:
        nonlocal num_sent
        connection, _ = listener.accept()
        with connection, connection.makefile("wb") as file, av.open(file, "w", "mpegts") as out:
            stream: Any = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.options = {"tune": "zerolatency"}
            num_left = 25
            while num_left and num_sent < 3000:  # two minutes, if the model never starts
                num_left -= has_begun.is_set()
                image = np.full((48, 64, 3), num_sent % 256, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                file.flush()
                num_sent += 1
                time.sleep(0.04)
            out.mux(stream.encode(None))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    options = ["--checkpoint", checkpoint, "-o", "live.mp4", "--jsonl", "live.jsonl"]
    with listener:
        assert run(url, *options, "--reconnect", 0) == 0
        thread.join(10)
    printed = capsys.readouterr().err
    assert "--support-mode causal" in printed
    assert "latency" in printed.splitlines()[-1]
    header, *frames, ending = map(json.loads, Path("live.jsonl").read_text().splitlines())
    assert header["support"]["mode"] == "causal"
    assert ending == {"num_frames": len(frames), "truncated": False}
    assert 2 <= len(frames) <= num_sent  # at least the first and the last
    assert len(times(Path("live.mp4"))) == len(frames)


def with_sound(path: Path, source: Path) -> Path:
    """Write the frames of `source` and a second of a tone."""
    import av

    with av.open(str(source)) as images, av.open(str(path), "w") as container:
        video = container.add_stream_from_template(images.streams.video[0])
        audio: Any = container.add_stream("aac", rate=44100, layout="mono")
        for packet in images.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        tone = np.sin(np.arange(44100)[None] * 0.05).astype(np.float32)
        for number in range(43):
            part = np.ascontiguousarray(tone[:, 1024 * number : 1024 * (number + 1)])
            sound = av.AudioFrame.from_ndarray(part, "fltp", "mono")
            sound.sample_rate, sound.pts = 44100, 1024 * number
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def sound(path: Path) -> list[bytes]:
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_audio_is_kept(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    silent = make_video(tmp_path / "silent.mp4", list(range(0, 1000, 100)))
    source = with_sound(tmp_path / "in.mp4", silent)
    assert run(source, "-o", "out.mp4", "--checkpoint", checkpoint) == 0
    assert sound(Path("out.mp4")) == sound(source)
    assert times(Path("out.mp4")) == times(source)
    assert run(source, "-o", "out.webm", "--checkpoint", checkpoint) == 0
    assert len(sound(Path("out.webm"))) > 40  # Opus has 50 packets a second
    assert run(source, "-o", "out.gif", "--checkpoint", checkpoint) == 0


def test_other_output_formats(run: Run, checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    source = make_video(tmp_path / "in.mp4", [0, 40, 80])
    more = ["--checkpoint", checkpoint]
    assert run(source, "-o", "small.mkv", "--frame-size", "x32", "--codec", "hevc", *more) == 0
    with VideoReader("small.mkv") as reader:
        assert (reader.width, reader.height, reader.codec) == (32, 24, "hevc")
    assert run(source, "-o", "frames/%03d.png", *more) == 0
    assert sorted(path.name for path in Path("frames").iterdir()) == [
        "000.png",
        "001.png",
        "002.png",
    ]
    assert run(source, "-o", "frames/%03d.png", *more) == 2  # nothing is overwritten
    assert run(source, "-o", "both.mp4", "--compare", "--blur", *more) == 0
    with VideoReader("both.mp4") as reader:
        assert reader.width > 128 and reader.height > 48
    assert run(source, "-o", "a.webm", "--codec", "h264", *more) == 2
    assert "h264: not supported in webm" in capsys.readouterr().err
    assert not Path("a.webm").exists()


def test_sizes_are_height_by_width(run: Run, checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
    source = make_video(tmp_path / "in.mp4", [0, 40])
    words = [source, "--checkpoint", checkpoint, "-o"]
    for name, size in [("new.mp4", ("--frame-size", "24x64")), ("old.mp4", ("--scale", "64x24"))]:
        assert run(*words, name, *size) == 0
        with VideoReader(name) as reader:
            assert (reader.height, reader.width) == (24, 64)
    assert "use --frame-size 24x64 (HEIGHTxWIDTH)" in capsys.readouterr().err
    assert run(*words, "both.mp4", "--frame-size", "24x64", "--scale", "2") == 2
    assert run(*words, "both.mp4", "--frame-size", "2") == 2
    assert not Path("both.mp4").exists()


def test_crops_are_of_what_is_drawn(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [0, 40])
    words = [source, "--checkpoint", checkpoint, "--no-video", "--json", "a.json", "--crop", "cut"]
    assert run(*words, "--classes", "bar", "--max-boxes", 2, "--score", 0.1) == 0
    assert not Path("in_detections.mp4").exists()
    found = json.loads(Path("a.json").read_text())
    wanted = [
        (frame["index"], rank, one["box_xyxy"])
        for frame in found["frames"]
        for rank, one in enumerate(
            [one for one in frame["detections"] if one["label"] == "bar" and one["score"] > 0.1][:2]
        )
    ]
    assert wanted
    files = sorted(Path("cut").rglob("*.jpg"))
    assert [str(file) for file in files] == [f"cut/bar/{i:06d}_{rank}.jpg" for i, rank, _ in wanted]
    import cv2

    for file, (_, _, (x1, y1, x2, y2)) in zip(files, wanted, strict=True):
        height, width = cv2.imread(str(file)).shape[:2]
        assert width == pytest.approx(x2 - x1, abs=1.5)
        assert height == pytest.approx(y2 - y1, abs=1.5)


def test_no_video_can_be_resumed_too(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", [0, 40])
    words = [source, "--checkpoint", checkpoint, "--no-video"]
    assert run(*words) == 2  # nothing to write
    assert run(*words, "-o", "out.mp4", "--json", "a.json") == 2
    assert run(*words, "--json", "-") == 0
    assert run(*words, "--json", "a.json", "--csv", "a.csv") == 0
    Path("a.json.journal.jsonl").write_text('{"schema": "sparsevod.journal/1"}')
    assert run(*words, "--json", "a.json") == 2
    Path("a.json.journal.jsonl").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "in.mp4"]


def test_processes_share_the_videos(run: Run, checkpoint: Path, tmp_path: Path, capfd: Any) -> None:
    for name in "abc":
        make_video(tmp_path / f"{name}.mp4", [0, 40, 80])
    (tmp_path / "d.mp4").write_bytes(b"")
    words = ["*.mp4", "--checkpoint", checkpoint, "--device", "cpu", "--num-supports", 2]
    before = signal.getsignal(signal.SIGINT)
    assert run(*words, "-o", "found/*.mkv", "--csv", "one", "--gpus", 2) == 1
    assert signal.getsignal(signal.SIGINT) is before  # the launcher's handler is removed
    printed = capfd.readouterr().err
    assert "d.mp4: the file is empty" in printed
    assert "Traceback" not in printed
    assert visible("found") == ["a.mkv", "b.mkv", "c.mkv"]
    assert run(*words, "-o", "alone", "--csv", "two") == 1
    for name in "abc":
        assert Path(f"one/{name}.csv").read_bytes() == Path(f"two/{name}.csv").read_bytes()


def test_track_gives_the_same_ids_in_every_format(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackers", reason=NO_TRACKERS)
    source = make_video(tmp_path / "in.mp4", [40 * n for n in range(12)])
    words = [source, "--checkpoint", checkpoint, "--score", 0.5]
    names = {"json": "a.json", "jsonl": "a.jsonl", "csv": "a.csv", "coco": "c.json", "mot": "a.txt"}
    names["coco-vid"] = "v.json"
    options = [word for kind, name in names.items() for word in (f"--{kind}", f"tracks/{name}")]
    assert run(*words, "-o", "tracks/out.mp4", "--track", *options) == 0
    frames = json.loads(Path("tracks/a.json").read_text())["frames"]
    boxes = [box | {"frame": frame["index"]} for frame in frames for box in frame["detections"]]
    ids = [box["track_id"] for box in boxes]
    known = {track_id for track_id in ids if track_id is not None}
    assert None in ids and known == set(range(1, len(known) + 1))
    classes = {(box["track_id"], box["label"]) for box in boxes if box["track_id"] is not None}
    assert len(classes) == len(known)  # no object changes its class

    lines = [json.loads(line) for line in Path("tracks/a.jsonl").read_text().splitlines()]
    assert [line for line in lines if "index" in line] == frames
    with Path("tracks/a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["track_id"] for row in rows] == ["" if one is None else str(one) for one in ids]
    assert [one["track_id"] for one in json.loads(Path("tracks/c.json").read_text())] == ids
    mot = [line.split(",")[:2] for line in Path("tracks/a.txt").read_text().splitlines()]
    assert [(int(frame) - 1, int(track_id)) for frame, track_id in mot] == [
        (box["frame"], box["track_id"]) for box in boxes if box["track_id"] is not None
    ]
    labels = json.loads(Path("tracks/v.json").read_text())["annotations"]
    assert [(one["image_id"], one.get("instance_id"), one["score"]) for one in labels] == [
        (box["frame"], box["track_id"], box["score"]) for box in boxes if box["score"] > 0.5
    ]
    assert run(*words, "-o", "tracks/out.mp4", "--track", *options) == 0  # replaces its own files

    # The detections are those without --track, and so are the formats.
    options = [word for kind, name in names.items() for word in (f"--{kind}", f"plain/{name}")]
    assert run(*words, "-o", "plain/out.mp4", *options) == 0
    plain = json.loads(Path("plain/a.json").read_text())["frames"]
    for box in (box for frame in frames for box in frame["detections"]):
        del box["track_id"]
    assert plain == frames
    assert "track_id" not in "".join(path.read_text() for path in Path("plain").glob("?.[jc]*"))
    assert {line.split(",")[1] for line in Path("plain/a.txt").read_text().splitlines()} == {"-1"}
    assert Path("plain/out.mp4").read_bytes() != Path("tracks/out.mp4").read_bytes()  # the labels


def test_tracks_of_several_videos_are_not_mixed_with_results_without(
    run: Run, checkpoint: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("trackers", reason=NO_TRACKERS)
    for name in "ab":
        make_video(tmp_path / f"{name}.mp4", [40 * n for n in range(8)])
    words = ["*.mp4", "--checkpoint", checkpoint, "--no-video"]
    assert run(*words, "--mot", "tracks", "--track") == 0
    ids = [
        {line.split(",")[1] for line in path.open()}
        for path in sorted(Path("tracks").glob("*.txt"))
    ]
    assert ids[0] and ids[0] == ids[1] and "1" in ids[0]  # each video starts anew
    assert run(*words, "--mot", "tracks", "--track") == 0
    assert "skipping 2 of 2 videos" in capsys.readouterr().err
    assert run(*words, "--mot", "tracks") == 2
    assert "tracks/a.txt: is the result of a run with --track" in capsys.readouterr().err


def test_track_without_its_library_fails_before_the_work(
    run: Run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    source = make_video(tmp_path / "in.mp4", [0, 40])
    assert run(source, "--checkpoint", checkpoint, "--track") == 2
    printed = capsys.readouterr().err.splitlines()
    assert "tracking needs the package trackers" in printed[-2]
    assert printed[-1].strip() == "hint: pip install 'sparsevod[track]'"
    assert visible(".") == ["in.mp4"]


@pytest.mark.parametrize("kind", ["file", "images"])
def test_coco_vid_can_be_read_as_labels(
    run: Run, checkpoint: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "clips" / "in.mp4", [40 * n for n in range(4)])
    if kind == "images":
        assert run(source, "--checkpoint", checkpoint, "-o", "clips/frames/%03d.png") == 0
        source = Path("clips/frames")
    words = ["--checkpoint", checkpoint, "--score", 0.5, "--no-video"]
    assert run(source, *words, "--coco-vid", "labels/a.json", "--json", "a.json") == 0
    found = [
        (frame["index"], one["class_id"], one["box_xyxy"])
        for frame in json.loads(Path("a.json").read_text())["frames"]
        for one in frame["detections"]
        if one["score"] > 0.5
    ]
    assert found
    words = ["prepare-vid", "labels/a.json", "-o", "out/all.json", "--strict"]
    monkeypatch.setattr(sys, "argv", ["sparsevod", *words])
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert not end.value.code
    for path in ("labels/a.json", "out/all.json"):
        videos = VideoSet.load(path)
        assert (videos.num_videos, videos.num_frames) == (1, 4)
        assert FrameReader(videos).read(3).shape == (48, 64, 3)
        content = json.loads(Path(path).read_text())
        numbers = {image["id"]: image["frame_id"] for image in content["images"]}
        numbers = {id_: number - min(numbers.values()) for id_, number in numbers.items()}
        labels = [
            (numbers[one["image_id"]], one["category_id"], one["bbox"])
            for one in content["annotations"]
        ]
        assert [one[:2] for one in labels] == [one[:2] for one in found]
        for (_, _, (x, y, w, h)), (_, _, box) in zip(labels, found, strict=True):
            assert [x, y, x + w, y + h] == pytest.approx(box, abs=0.002)
            assert x + w <= 64 and y + h <= 48
