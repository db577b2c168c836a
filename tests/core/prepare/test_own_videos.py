"""What all formats share: resuming after Ctrl-C, strict mode, dry runs, workers."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from own_sets import HEIGHT, WIDTH, Studio, box_of, fractions

from sparsevod_core.errors import DataError
from sparsevod_core.reporting import SilentReporter


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


class Interrupting(SilentReporter):
    """Reporter that interrupts a conversion after some videos, and keeps the messages."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    @contextmanager
    def progress(self, label: str, total: int | None, unit: str = "frames") -> Any:
        self.is_counting = label == "reading all"
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self.is_counting and note:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def yolo(studio: Studio) -> None:
    studio.write("data.yaml", "names: [dog]")
    for name in "abcd":
        studio.image(f"{name}/1.png", 1)
        studio.write(f"{name}/1.txt", f"0 {fractions(1)}\n")


def mot(studio: Studio) -> None:
    left, top, right, bottom = box_of(0)
    for name in "abcd":
        studio.video(f"{name}.mp4", 2)
        box = f"{left + 1},{top + 1},{right - left},{bottom - top}"
        studio.write(f"{name}/gt/gt.txt", f"1,1,{box},1,1,1\n")


@pytest.mark.parametrize("make", [yolo, mot])
def test_a_second_run_resumes_where_the_first_was_interrupted(studio: Studio, make: Any) -> None:
    make(studio)
    label_format = make.__name__
    studio.prepare(label_format)
    whole = (studio.out / "all.json").read_bytes()
    (studio.out / "all.json").unlink()

    with pytest.raises(KeyboardInterrupt):
        studio.prepare(label_format, reporter=Interrupting(3))
    assert not (studio.out / "all.json").exists()
    reporter = Interrupting(9)
    studio.prepare(label_format, reporter=reporter)
    assert reporter.left == 9 - 1  # only the last video was read
    assert any("resuming after 3 finished folders" in text for text in reporter.messages)
    assert (studio.out / "all.json").read_bytes() == whole
    assert [path.name for path in studio.out.iterdir()] == ["all.json"]


def test_changed_videos_are_read_again(studio: Studio) -> None:
    mot(studio)
    with pytest.raises(KeyboardInterrupt):
        studio.prepare("mot", reporter=Interrupting(3))
    studio.write("b/gt/gt.txt", "")
    (split,) = studio.prepare("mot")
    assert (split.num_videos, split.num_boxes) == (4, 3)


def test_a_video_that_cannot_be_opened_is_skipped_and_named(studio: Studio) -> None:
    mot(studio)
    studio.write("b.mp4", b"no video at all")
    (split,) = studio.prepare("mot")
    assert split.num_videos == 3
    (problem,) = split.problems
    assert "b.mp4: cannot open as a video" in problem
    assert problem.endswith(", video skipped")
    with pytest.raises(DataError, match=r"b\.mp4"):
        studio.prepare("mot", strict=True)


def test_a_dry_run_writes_nothing(studio: Studio) -> None:
    yolo(studio)
    (split,) = studio.prepare("yolo", dry_run=True)
    assert (split.file, split.num_boxes) == (None, 4)
    assert not studio.out.exists()


def test_one_process_and_two_write_the_same(studio: Studio) -> None:
    mot(studio)
    written = []
    for workers in (0, 2):
        studio.prepare("mot", workers=workers)
        written.append((studio.out / "all.json").read_bytes())
    assert written[0] == written[1]


def shared_by_video_files(studio: Studio) -> tuple[str, ...]:
    studio.video("videos/a.mp4", 2)
    studio.video("videos/a.avi", 2)
    studio.write("labels/a/000001.txt", f"0 {fractions(1)}\n")
    return "labels/a/000001.txt", "videos/a.mp4", "videos/a.avi"


def shared_by_folders(studio: Studio) -> tuple[str, ...]:
    for folder in ("images", "frames"):
        studio.image(f"{folder}/a/1.png", 1)
    studio.write("labels/a/1.txt", f"0 {fractions(1)}\n")
    return "labels/a/1.txt", "images/a/1.png", "frames/a/1.png"


def shared_by_images(studio: Studio) -> tuple[str, ...]:
    studio.image("images/left.png", 1)
    studio.image("images/left.bmp", 2)
    studio.write("labels/left.txt", f"0 {fractions(1)}\n")
    return "labels/left.txt", "images/left.png", "images/left.bmp"


@pytest.mark.parametrize("make", [shared_by_video_files, shared_by_folders, shared_by_images])
def test_a_label_file_that_matches_twice_is_not_used(studio: Studio, make: Any) -> None:
    studio.write("data.yaml", "names: [dog]")
    studio.image("images/b/1.png", 1)
    studio.write("labels/b/1.txt", f"0 {fractions(1)}\n")
    label, *places = make(studio)
    (problem,) = studio.problems("yolo")
    assert problem.startswith(f"{label}: matches both ")
    assert all(place in problem for place in places)
    assert list(studio.shown()) == ["b"]
    with pytest.raises(DataError, match=r"matches both"):
        studio.prepare("yolo", strict=True)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("clip.h264", "libx264"),
        ("clip.mxf", "mpeg2video"),
        ("clip.vob", "mpeg2video"),
        ("CLIP.MOV", "libx264"),
    ],
)
def test_video_files_of_other_containers(studio: Studio, name: str, codec: str) -> None:
    import av
    import numpy as np

    studio.write("classes.txt", "square\n")
    path = studio.write(f"videos/{name}", b"")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(8):
            image = np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            studio.write(f"labels/{path.stem}/{number:06d}.txt", f"0 {fractions(number)}\n")
        container.mux(stream.encode())
    (split,) = studio.prepare("yolo")
    assert (split.num_videos, split.num_frames, split.num_boxes) == (1, 8, 8)
    assert split.problems == []
