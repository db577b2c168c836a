"""Images of detections, cut out of their frames."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from sparsevod_core.files.new_folder import NewFolder
from sparsevod_core.structures import Category, Detections, FrameDetections

_JPEG_QUALITY = 95


class Crops:
    """Folder of images, e.g. `drone/000012_0.jpg`: class, frame, and rank by score from 0.

    Images come from the source, without boxes. The folder appears when it is complete.

    Args:
        path: Path of the folder; it must be empty or not exist.
        categories: The model's classes, `categories[label]`.
        shown: Returns the detections of a frame to cut out.
        is_own: See `NewFolder`.

    Raises:
        ConfigError: The folder is not empty.
        DataError: The folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        categories: Sequence[Category],
        shown: Callable[[Detections], Detections],
        *,
        is_own: bool = False,
    ) -> None:
        self.path = path
        self._folders = [file_name(category.name) for category in categories]
        self._shown = shown
        self._folder = NewFolder(path, is_own=is_own)

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Write a file for each shown detection of a frame.

        Raises:
            DataError: A file cannot be written.
        """
        from PIL import Image

        frame, shown = found.frame, self._shown(found.detections)
        height, width = frame.image.shape[:2]
        for rank, (box, label) in enumerate(zip(shown.boxes_xyxy, shown.labels, strict=True)):
            x1, y1, x2, y2 = box.tolist()
            left, top = min(int(x1), width - 1), min(int(y1), height - 1)
            right, bottom = max(round(x2), left + 1), max(round(y2), top + 1)
            content = io.BytesIO()
            part = Image.fromarray(frame.image[top:bottom, left:right])
            part.save(content, "JPEG", quality=_JPEG_QUALITY)
            name = f"{self._folders[label]}/{frame.index:06d}_{rank}.jpg"
            self._folder.write(name, content.getvalue())

    def finish(self, *, truncated: bool) -> None:
        """Do nothing: no file depends on the end of the video."""

    def __enter__(self) -> Crops:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.__exit__(kind, error, traceback)


def file_name(class_name: str) -> str:
    """Return a folder name for a class, valid on all systems and without path separators."""
    return re.sub(r"[^\w-]+", "_", class_name).strip("_") or "class"
