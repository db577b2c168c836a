"""YOLO's labels: a folder with a text file a frame."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from sparsevod_core.errors import ConfigError, DataError
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
        self._categories = categories
        self._partial = path.with_name(path.name + ".partial")
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise ConfigError(
                f"{path}: is there already", hint="name a folder that is not; none is overwritten"
            )
        try:
            if self._partial.is_dir():  # what a killed run has left
                shutil.rmtree(self._partial)
            self._partial.mkdir(parents=True)
            names = "".join(f"{' '.join(one.name.split())}\n" for one in categories)
            (self._partial / "classes.txt").write_text(names, "utf-8")
        except OSError as error:
            raise self._cannot_write(error) from error

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
        try:
            (self._partial / f"{found.frame.index:06d}.txt").write_text(lines, "utf-8")
        except OSError as error:
            raise self._cannot_write(error) from error

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
        try:
            if kind is None:
                self._partial.replace(self.path)
            else:
                shutil.rmtree(self._partial)
        except OSError as failure:
            raise self._cannot_write(failure) from failure

    def _cannot_write(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot write: {error.strerror}")
