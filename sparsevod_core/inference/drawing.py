"""Drawing of detections on the frames of a video; `figures/style.py` decides how boxes look."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import ConfigError
from sparsevod_core.figures.blur import blur_boxes
from sparsevod_core.figures.boxes import draw_detections
from sparsevod_core.figures.side_by_side import side_by_side, size_side_by_side
from sparsevod_core.structures import Category, Detections

_MAX_SIDE_PX = 16384  # what encoders accept


@dataclass(frozen=True, slots=True)
class Drawing:
    """Selection and style of the drawn detections. Most results files contain all detections.

    Attributes:
        score: Score that drawn detections exceed.
        classes: Classes to draw, by name or by id in the annotations; None: all.
        max_boxes: Maximum number of boxes in a frame, highest score first; None: no limit.
        has_labels: Whether boxes are labeled with class and score.
        blurs: Whether objects are made unrecognizable instead of getting boxes.
        scale: Size of the output: a factor such as `0.5`, or `360x640` (HEIGHTxWIDTH), `360x`
            (height only) or `x640` (width only) in pixels; None: the source's size.
        compares: Whether each frame is shown twice, side by side: detected without and with
            support frames.
    """

    score: float = 0.3
    classes: tuple[str, ...] | None = None
    max_boxes: int | None = None
    has_labels: bool = True
    blurs: bool = False
    scale: str | None = None
    compares: bool = False

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (width, height) at which a frame of this size is drawn, in pixels.

        Raises:
            ConfigError: `scale` cannot be parsed, or the result is empty or too large.
        """
        if self.scale is None:
            return width, height
        if match := re.fullmatch(r"(\d*)x(\d*)", self.scale):
            down, across = (int(side) if side else None for side in match.groups())
        else:
            try:
                factor = float(self.scale)
            except ValueError:
                factor = 0.0
            if not 0 < factor <= _MAX_SIDE_PX:  # false for NaN too
                factor = 0.0
            across, down = round(factor * width), round(factor * height)
        if across is None:
            across = round(width * down / height) if down is not None else 0
        elif down is None:
            down = round(height * across / width)
        if down is None or not (0 < across <= _MAX_SIDE_PX and 0 < down <= _MAX_SIDE_PX):
            raise ConfigError(
                f"scale {self.scale}: expected a factor, e.g. 0.5, or HEIGHTxWIDTH in pixels, "
                "e.g. 360x640, 360x or x640"
            )
        return across, down


class Painter:
    """Draws detections on the frames of a video.

    Args:
        drawing: Which detections to draw, and how.
        categories: The model's classes, `categories[label]`.
        width, height: Size of the frames in pixels.
        num_supports: Number of support frames of each frame.

    Attributes:
        size: (width, height) of the drawn images in pixels.

    Raises:
        ConfigError: A class that the model does not have, an invalid scale, or a comparison
            without support frames.
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
                "nothing to compare: no support frames",
                hint="use a model with TFE or SPFA, and --num-supports 1 or more",
            )
        self._drawing = drawing
        self._names = [category.name for category in categories]
        self._labels = None if drawing.classes is None else _labels(drawing.classes, categories)
        self._image_size = drawing.scaled_size(width, height)
        self._scale = np.array(self._image_size * 2) / np.array([width, height] * 2)
        frames = "frame" if num_supports == 1 else "frames"
        self._titles = "single frame", f"with {num_supports} support {frames}"
        self.size = self._image_size
        if drawing.compares:
            self.size = size_side_by_side(*self._image_size)

    def shown(self, detections: Detections) -> Detections:
        """Return the detections that are drawn."""
        kept = detections.above(self._drawing.score)
        if self._labels is not None:
            kept = kept[np.isin(kept.labels, self._labels)]
        return kept[: self._drawing.max_boxes]

    def paint(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        detections: Detections,
        unsupported: Detections | None = None,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Return a new image of `size`.

        Args:
            image: RGB pixels 0..255.
            detections: All detections in it, in pixels of `image`.
            unsupported: All detections without support frames, to compare; None: no comparison.
        """
        painted = self._paint_one(image, detections)
        if unsupported is None:
            return painted
        return side_by_side(self._paint_one(image, unsupported), painted, self._titles)

    def _paint_one(self, image: np.ndarray, detections: Detections) -> np.ndarray:
        shown = self.shown(detections)
        height, width = image.shape[:2]
        if (width, height) != self._image_size:
            image = _resized(image, self._image_size)
            boxes = (shown.boxes_xyxy * self._scale).astype(np.float32)
            shown = replace(shown, boxes_xyxy=boxes)
        if self._drawing.blurs:
            return blur_boxes(image, shown.boxes_xyxy)
        return draw_detections(image, shown, self._names, has_labels=self._drawing.has_labels)


def _labels(wanted: Sequence[str], categories: Sequence[Category]) -> list[int]:
    """Return the labels of classes given by name or id."""
    labels = []
    for word in wanted:
        matching = [k for k, one in enumerate(categories) if word in (one.name, str(one.id))]
        if not matching:
            raise ConfigError(
                f"class {word}: the model does not have it",
                hint=f"use one of {', '.join(category.name for category in categories)}",
            )
        labels += matching
    return labels


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
