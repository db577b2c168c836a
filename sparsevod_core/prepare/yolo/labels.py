"""YOLO: one text file per frame, one line `class cx cy width height` per box.

Coordinates are fractions of the frame's size. Class ids count from 0 and are kept. A sixth column
that is an integer is the track id, as written by `yolo track save_txt`. Longer lines are polygons,
`class x1 y1 x2 y2 ...`, whose bounding box is used, as in YOLO itself. A frame without a label file
has no boxes.

Classes and splits come from `data.yaml` (`names`, `train`, `val`). Without it, classes come from
`classes.txt` or `obj.names`, and splits from the folders. `label_tree.py` describes where files may
be.

Source: docs.ultralytics.com/datasets/detect, docs.cvat.ai (Ultralytics YOLO, YOLO).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo, Box, LabeledBox
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet
from sparsevod_core.prepare.reading.label_tree import (
    LabeledVideo,
    list_files,
    pair_labels,
    read_labeled,
    split_by_folder,
)
from sparsevod_core.prepare.reading.media import add_box
from sparsevod_core.prepare.yolo.data_yaml import find_data_yaml, read_data_yaml, split_by_yaml
from sparsevod_core.reporting import Reporter

CLASS_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
_CLASS_ID = re.compile(r"-?[0-9]{1,9}")
_ROUNDING_PX = 1.0  # fractions are rounded, and tools clip differently


def find_yolo(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the videos in a folder, or those described by a `data.yaml`.

    Raises:
        DataError: No class names, or an invalid `data.yaml`.
    """
    config = root if root.is_file() else find_data_yaml(root)
    root = root.parent if root.is_file() else root
    settings = {} if config is None else read_data_yaml(config)
    names = _class_names(root, config, settings, hints)
    tree = list_files(root, ".txt")
    split_of = None if config is None else split_by_yaml(root, config, settings)
    splits, notes = pair_labels(tree, ".txt", split_of or split_by_folder(tree), hints)
    categories = categories_of(names, config or root)
    return LabelSet(root, categories, splits, YoloReader(root, names), notes)


@dataclass(frozen=True, slots=True)
class YoloReader:
    """Reader of one video."""

    root: Path
    names: Mapping[int, str]

    def __call__(self, source: LabeledVideo) -> AnnotatedVideo:
        return read_labeled(self.root, source, self._add_boxes)

    def _add_boxes(self, video: AnnotatedVideo, frame: AnnotatedFrame, label: Path) -> bool:
        try:
            with label.open(encoding="utf-8-sig", errors="replace") as file:
                lines = [(n, line.strip()) for n, line in enumerate(file, start=1) if line.strip()]
        except OSError as error:
            video.problems.append(f"{label}: cannot read the labels: {error.strerror}, skipped")
            return False
        for number, line in lines:
            where = f"{label}:{number}"
            try:
                class_id, box, track = _parse_label(line, frame.width, frame.height)
            except ValueError as error:
                video.problems.append(f"{where}: {error}, got {line[:60]!r}, skipped")
                continue
            if class_id in self.names:
                labeled = LabeledBox(class_id, box, track)
                add_box(video, frame, labeled, where, slack_px=_ROUNDING_PX)
            else:
                video.problems.append(
                    f"{where}: class {class_id} is not in the class list, skipped"
                )
        return True


def _parse_label(line: str, width: int, height: int) -> tuple[int, Box, int | None]:
    """Return the class, the box in pixels and the track of a line, for a frame of this size.

    Raises:
        ValueError: Not a label; the message says what was expected.
    """
    words = line.split()
    try:
        class_id, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise ValueError("expected numbers `class cx cy width height`") from None
    if not class_id.is_integer() or not all(map(math.isfinite, values)):
        raise ValueError("expected an integer class and finite fractions")
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return int(class_id), _scaled(min(xs), min(ys), max(xs), max(ys), width, height), None
    if len(values) not in (4, 5):
        raise ValueError("expected 5 numbers `class cx cy width height`, or 6 with a track")
    x, y, w, h = values[:4]
    if max(map(abs, values[:4])) > 2:
        raise ValueError("expected fractions of the frame's size, not pixels")
    if w <= 0 or h <= 0:
        raise ValueError("expected a positive width and height")
    box = _scaled(x - w / 2, y - h / 2, x + w / 2, y + h / 2, width, height)
    # Detectors write a confidence score in this column, which is not an integer.
    track = int(values[4]) if len(values) == 5 and "." not in words[5] else None
    return int(class_id), box, track


def _scaled(left: float, top: float, right: float, bottom: float, width: int, height: int) -> Box:
    # Six decimals hold no more than thousandths of a pixel; rounding keeps whole pixels whole.
    x = [round(value * width, 3) for value in (left, right)]
    y = [round(value * height, 3) for value in (top, bottom)]
    return x[0], y[0], x[1], y[1]


def _class_names(
    root: Path, config: Path | None, settings: Mapping[str, Any], hints: Hints
) -> dict[int, str]:
    if hints.classes is not None:
        return read_class_list(hints.classes, first_id=0)
    if config is not None:
        names = settings.get("names")
        if isinstance(names, list):
            names = {str(number): name for number, name in enumerate(names)}
        if not isinstance(names, dict) or not all(_CLASS_ID.fullmatch(key) for key in names):
            raise DataError(f"{config}: names: expected a list, or a mapping from class id to name")
        by_id = {int(key): str(name) for key, name in names.items()}
        return dict(sorted(by_id.items()))
    for name in CLASS_LISTS:
        if (root / name).is_file():
            return read_class_list(root / name, first_id=0)
    raise DataError(
        f"{root}: YOLO labels have class ids only: expected data.yaml or classes.txt",
        hint="give the names with --classes FILE, one per line",
    )
