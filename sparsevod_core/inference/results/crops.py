"""A picture of every detection that is shown, cut out of its frame."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from sparsevod_core.new_folder import NewFolder
from sparsevod_core.structures import Category, Detections, FrameDetections

_JPEG_QUALITY = 95


class Crops:
    """`drone/000012_0.jpg`: of a class, frame 12's best detection; from the source, undrawn.

    The folder appears when it is complete.

    Args:
        path: the folder; must not be there, or be empty.
        categories: `categories[k]` is the class of label k.
        shown: which detections of a frame are cut out.

    Raises:
        ConfigError: something is there already.
        DataError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        categories: Sequence[Category],
        shown: Callable[[Detections], Detections],
    ) -> None:
        self.path = path
        self._folders = [file_name(category.name) for category in categories]
        self._shown = shown
        self._folder = NewFolder(path)

    def write(self, found: FrameDetections, time_s: Fraction | None) -> None:
        """Write a file for each detection of a frame.

        Raises:
            DataError: it cannot be written.
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
        """Nothing stands behind the last frame."""

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
    """A class as the name of a folder, on any system and inside the folder that it belongs to."""
    return re.sub(r"[^\w-]+", "_", class_name).strip("_") or "class"
