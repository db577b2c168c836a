"""Small videos whose pixels show the box: frame `n` has one bright rectangle on black."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.labeled import prepare_labeled
from sparsevod_core.prepare.reading.label_set import Hints
from sparsevod_core.reporting import SilentReporter

WIDTH, HEIGHT = 96, 64


def box_of(number: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of the rectangle in frame `number`."""
    return 10 + 2 * number, 8 + number, 34 + 2 * number, 24 + number


def image_of(number: int) -> np.ndarray:
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left, top, right, bottom = box_of(number)
    image[top:bottom, left:right] = 255
    return image


class Messages(SilentReporter):
    """Reporter that keeps all messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    @property
    def text(self) -> str:
        """All messages, one per line."""
        return "\n".join(self.messages)


class Studio:
    """Data set that is built file by file, converted, and compared with its pixels.

    Attributes:
        root: Folder of the data set.
        out: Output folder beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.root, self.out = folder / "set", folder / "out"
        self.root.mkdir()

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def image(self, name: str, number: int) -> Path:
        """Write an image file with the pixels of frame `number`."""
        import cv2

        path = self.root / name
        encoded = cv2.imencode(path.suffix, image_of(number))[1]
        return self.write(name, encoded.tobytes())

    def video(self, name: str, num_frames: int) -> Path:
        """Write a video file with frames 0 to `num_frames` - 1."""
        import av

        path = self.write(name, b"")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(25))
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv444p"
            stream.options = {"crf": "4", "g": "4", "bf": "2"}
            for number in range(num_frames):
                frame = av.VideoFrame.from_ndarray(image_of(number), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    def prepare(
        self,
        label_format: str,
        root: Path | None = None,
        *,
        output: Path | None = None,
        hints: Hints | None = None,
        **options: object,
    ) -> list[PreparedSplit]:
        return prepare_labeled(
            root or self.root,
            output or self.out / "all.json",
            label_format,
            hints=hints,
            **options,
        )

    def problems(self, label_format: str, **options: object) -> list[str]:
        """Return the reported problems, with paths relative to the set."""
        (split,) = self.prepare(label_format, **options)
        return [problem.replace(f"{self.root}/", "") for problem in split.problems]

    def shown(self, file: Path | None = None) -> dict[str, list[tuple[int, list[int], list[int]]]]:
        """Return (frame number, class ids, tracks from 0 or -1) of frames with boxes, by video.

        Also checks that every box is exactly where the pixels are bright.
        """
        videos = VideoSet.load(file or self.out / "all.json")
        reader = FrameReader(videos, threads=1)
        found: dict[str, list[tuple[int, list[int], list[int]]]] = {}
        for video in range(videos.num_videos):
            entries = found.setdefault(videos.video_name(video), [])
            tracks: dict[int, int] = {}
            for frame in videos.video_frames(video):
                boxes = videos.boxes(frame)
                classes = [videos.categories[label].id for label in boxes.labels.tolist()]
                instances = boxes.instance_ids.tolist()
                numbers = [-1 if i < 0 else tracks.setdefault(i, len(tracks)) for i in instances]
                for box in boxes.boxes_xyxy:
                    np.testing.assert_allclose(box, bright(reader.read(frame)), atol=0.01)
                if len(boxes):
                    entries.append((int(videos.tables.frame_ids[frame]), classes, numbers))
        reader.close()
        return found


def bright(image: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box around the bright pixels."""
    rows, columns = np.nonzero(image.min(axis=2) > 127)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def fractions(number: int) -> str:
    """Return the box of a frame in YOLO's form: center and size as fractions of the frame."""
    left, top, right, bottom = box_of(number)
    x, y = (left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT
    return f"{x:.6f} {y:.6f} {(right - left) / WIDTH:.6f} {(bottom - top) / HEIGHT:.6f}"
