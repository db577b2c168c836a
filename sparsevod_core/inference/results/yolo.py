"""YOLO's labels: a folder with a text file a frame."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from sparsevod_core.new_folder import NewFolder
from sparsevod_core.structures import Category, FrameDetections


class YoloLabels:
    """`class cx cy width height score` a line, in shares of the frame; `classes.txt` has the names.

    The class counts from 0, in the order of `classes.txt`. Frames are `000000.txt` and so on; one
    without a detection has an empty file. The folder appears when it is complete.

    Args:
        path: the folder; must not be there, or be empty.
        size: width and height of the frames in pixels.
        categories: `categories[k]` is the class of label k.

    Raises:
        ConfigError: something is there already.
        DataError: it cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], categories: Sequence[Category]) -> None:
        self.path = path
        self._size = size
        self._folder = NewFolder(path)
        names = "".join(f"{' '.join(one.name.split())}\n" for one in categories)
        self._folder.write("classes.txt", names.encode())

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Write a frame's file.

        Raises:
            DataError: it cannot be written.
        """
        width, height = self._size
        lines = ""
        boxes = found.boxes_xyxy / [width, height, width, height]
        values = zip(boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        for (x1, y1, x2, y2), score, label in values:
            box = f"{(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}"
            lines += f"{label} {box} {score:.6f}\n"
        self._folder.write(f"{found.frame.index:06d}.txt", lines.encode())

    def finish(self, *, truncated: bool) -> None:
        """Nothing stands behind the last frame."""

    def __enter__(self) -> YoloLabels:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, traceback)
