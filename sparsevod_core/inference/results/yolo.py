"""YOLO labels: a folder with one text file per frame."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from sparsevod_core.files.new_folder import NewFolder
from sparsevod_core.printable import printable
from sparsevod_core.structures import Category, FrameDetections


class YoloLabels:
    """A line `class cx cy width height score` for each detection, as fractions of the frame.

    Classes count from 0, in the order of `classes.txt`. Frames are `000000.txt` and so on; a frame
    without detections has an empty file. The folder appears when it is complete.

    Args:
        path: Path of the folder; it must be empty or not exist.
        size: (width, height) of the frames in pixels.
        categories: The model's classes, `categories[label]`.
        is_own: See `NewFolder`.

    Raises:
        ConfigError: The folder is not empty.
        DataError: The folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        categories: Sequence[Category],
        *,
        is_own: bool = False,
    ) -> None:
        self.path = path
        self._size = size
        self._folder = NewFolder(path, is_own=is_own)
        names = "".join(f"{printable(' '.join(one.name.split()))}\n" for one in categories)
        self._folder.write("classes.txt", names.encode())

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Write the file of a frame.

        Raises:
            DataError: The file cannot be written.
        """
        width, height = self._size
        lines = ""
        boxes = found.boxes_xyxy / [width, height, width, height]
        values = zip(boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in values:
            box = f"{(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"
            lines += f"{label} {box} {score:.6f}\n"
        self._folder.write(f"{found.index:06d}.txt", lines.encode())

    def finish(self, *, truncated: bool) -> None:
        """Do nothing: no file depends on the end of the video."""

    def __enter__(self) -> YoloLabels:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, traceback)
