"""What of the detections is drawn on a video's frames, and how."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import ConfigError
from sparsevod_core.figures.blur import blur_boxes
from sparsevod_core.figures.boxes import draw_detections
from sparsevod_core.figures.side_by_side import side_by_side, size_side_by_side
from sparsevod_core.structures import Category, Detections

_MAX_SIDE = 16384  # of a picture in pixels; what encoders take


@dataclass(frozen=True, slots=True)
class Drawing:
    """How detections are shown. Files of detections do not depend on it: they hold all.

    Attributes:
        score: those with a greater score.
        classes: only these, by name or by id in the annotations; None: all.
        max_boxes: at most so many a frame, the best; None: all.
        has_labels: whether boxes have names and scores at them.
        blurs: make what is inside the boxes unrecognisable, instead of drawing boxes.
        scale: of the picture: a factor as `0.5`, or `640x360`, `640x`, `x360` pixels.
        compares: two pictures side by side: the frame seen alone, and with its supports.
    """

    score: float = 0.3
    classes: tuple[str, ...] | None = None
    max_boxes: int | None = None
    has_labels: bool = True
    blurs: bool = False
    scale: str | None = None
    compares: bool = False

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Size of the picture of a frame of so many pixels.

        Raises:
            ConfigError: no scale, or one that leaves nothing or far too much.
        """
        if self.scale is None:
            return width, height
        if match := re.fullmatch(r"(\d*)x(\d*)", self.scale):
            across, down = (int(side) if side else None for side in match.groups())
        else:
            try:
                factor = float(self.scale)
            except ValueError:
                factor = 0.0
            if not 0 < factor <= _MAX_SIDE:  # nor infinity, nor what is no number
                factor = 0.0
            across, down = round(factor * width), round(factor * height)
        if across is None:
            across = round(width * down / height) if down is not None else 0
        elif down is None:
            down = round(height * across / width)
        if down is None or not (0 < across <= _MAX_SIDE and 0 < down <= _MAX_SIDE):
            raise ConfigError(
                f"scale {self.scale}: expected a factor as 0.5, or 640x360, 640x or x360 pixels"
            )
        return across, down


class Painter:
    """Draws the frames of a video.

    Args:
        drawing: what is drawn.
        categories: `categories[k]` is the class of label k.
        width, height: of the frames in pixels.
        num_supports: of each frame, for a title.

    Attributes:
        size: width and height of what is drawn.

    Raises:
        ConfigError: a class that the model does not know, a scale that is none, or nothing to
            compare.
    """

    def __init__(
        self,
        drawing: Drawing,
        categories: Sequence[Category],
        width: int,
        height: int,
        num_supports: int,
    ) -> None:
        if drawing.compares and num_supports == 0:
            raise ConfigError(
                "nothing to compare: there are no support frames",
                hint="a model with TFE or SPFA, and --supports more than 0",
            )
        self._drawing = drawing
        self._names = [category.name for category in categories]
        self._labels = None if drawing.classes is None else _labels(drawing.classes, categories)
        self._picture_size = drawing.scaled_size(width, height)
        self._scale = np.array(self._picture_size * 2) / np.array([width, height] * 2)
        frames = "frame" if num_supports == 1 else "frames"
        self._titles = "single frame", f"with {num_supports} support {frames}"
        self.size = self._picture_size
        if drawing.compares:
            self.size = size_side_by_side(*self._picture_size)

    def shown(self, detections: Detections) -> Detections:
        """Those that are drawn."""
        kept = detections.above(self._drawing.score)
        if self._labels is not None:
            kept = kept[np.isin(kept.labels, self._labels)]
        return kept[: self._drawing.max_boxes]

    def paint(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        detections: Detections,
        alone: Detections | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A new picture of `size`.

        Args:
            image: RGB 0..255.
            detections: everything that was found, in pixels of `image`.
            alone: where pictures are compared, what was found without supports.
        """
        picture = self._paint_one(image, detections)
        if alone is None:
            return picture
        return side_by_side(self._paint_one(image, alone), picture, self._titles)

    def _paint_one(self, image: np.ndarray, detections: Detections) -> np.ndarray:
        shown = self.shown(detections)
        height, width = image.shape[:2]
        if (width, height) != self._picture_size:
            image = _resized(image, self._picture_size)
            boxes = (shown.boxes_xyxy * self._scale).astype(np.float32)
            shown = Detections(boxes, shown.scores, shown.labels)
        if self._drawing.blurs:
            return blur_boxes(image, shown.boxes_xyxy)
        return draw_detections(image, shown, self._names, has_labels=self._drawing.has_labels)


def _labels(wanted: Sequence[str], categories: Sequence[Category]) -> list[int]:
    """Which labels have these names or ids."""
    labels = []
    for word in wanted:
        found = [k for k, one in enumerate(categories) if word in (one.name, str(one.id))]
        if not found:
            raise ConfigError(
                f"class {word}: the model does not know it",
                hint=f"it knows {', '.join(category.name for category in categories)}",
            )
        labels += found
    return labels


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
