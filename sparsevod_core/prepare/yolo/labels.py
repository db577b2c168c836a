"""YOLO: one text file per frame, one line per box (`lines.py`).

Coordinates are fractions of the frame's size. Class ids count from 0 and are kept. The bounding box
of a polygon is used, as in YOLO itself. A frame without a label file has no boxes.

Classes and splits come from `data.yaml` (`names`, `train`, `val`, `test`). Without it, classes come
from `classes.txt` or `obj.names`, and splits from `obj.data` or the folders. `label_tree.py`
describes where files may be.

Source: docs.ultralytics.com/datasets/detect, docs.cvat.ai (Ultralytics YOLO, YOLO).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo, Box, LabeledBox
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.file_tree import list_files, split_by_folder
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet, used_sources
from sparsevod_core.prepare.reading.label_tree import LabeledVideo, pair_labels, read_labeled
from sparsevod_core.prepare.reading.media import add_box
from sparsevod_core.prepare.yolo.darknet import find_obj_data, read_obj_data
from sparsevod_core.prepare.yolo.data_yaml import DataFile, find_data_yaml, read_data_yaml
from sparsevod_core.prepare.yolo.line_form import decide_form
from sparsevod_core.prepare.yolo.lines import LineForm, read_lines
from sparsevod_core.prepare.yolo.locations import split_by_locations
from sparsevod_core.reporting import Reporter

CLASS_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
_ROUNDING_PX = 1.0  # fractions are rounded, and tools clip differently


def find_yolo(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the videos in a folder, or those described by a `data.yaml`.

    Raises:
        DataError: No class names, an invalid `data.yaml`, or labels of an unknown form.
    """
    data = _read_data(root)
    root = root.parent if root.is_file() else root
    names = _class_names(root, data, hints)
    tree = list_files(root, ".txt")
    split_of, notes = (None, []) if data is None else split_by_locations(root, data, tree)
    splits, more = pair_labels(root, tree, ".txt", split_of or split_by_folder(tree), hints)
    videos = [source for source in used_sources(splits) if isinstance(source, LabeledVideo)]
    labels = [label for video in videos for _, label in video.labels]
    form = decide_form(root, labels, 0 if data is None else data.keypoint_numbers, names)
    notes += [*([] if data is None else data.notes), *more, *_notes_on(form)]
    categories = categories_of(names, root if data is None else data.path)
    return LabelSet(root, categories, splits, YoloReader(root, names, form), notes)


def _notes_on(form: LineForm) -> list[str]:
    notes = []
    if form.keypoint_numbers:
        notes.append("labels have key points, which are not used")
    if "score" in form.tail:
        notes.append("labels have scores, which are not used: every box counts as labeled")
    if "track" in form.tail:
        notes.append("the last column of the labels is the track")
    return notes


@dataclass(frozen=True, slots=True)
class YoloReader:
    """Reader of one video."""

    root: Path
    names: Mapping[int, str]
    form: LineForm

    def __call__(self, source: LabeledVideo) -> AnnotatedVideo:
        return read_labeled(self.root, source, self._add_boxes)

    def _add_boxes(self, video: AnnotatedVideo, frame: AnnotatedFrame, label: Path) -> bool:
        try:
            lines = read_lines(label)
        except OSError as error:
            video.problems.append(f"{label}: cannot read the labels: {error.strerror}, skipped")
            return False
        for number, words in lines:
            where = f"{label}:{number}"
            try:
                class_id, box, track = self.form.parse(words)
            except ValueError as error:
                got = " ".join(words)[:60]
                video.problems.append(f"{where}: {error}, got {got!r}, skipped")
                continue
            if class_id in self.names:
                labeled = LabeledBox(class_id, _scaled(box, frame.width, frame.height), track)
                add_box(video, frame, labeled, where, slack_px=_ROUNDING_PX)
            else:
                video.problems.append(
                    f"{where}: class {class_id} is not in the class list, skipped"
                )
        return True


def _scaled(box: Box, width: int, height: int) -> Box:
    # Six decimals hold no more than thousandths of a pixel; rounding keeps whole pixels whole.
    left, top, right, bottom = box
    return (
        round(left * width, 3),
        round(top * height, 3),
        round(right * width, 3),
        round(bottom * height, 3),
    )


def _read_data(root: Path) -> DataFile | None:
    if root.is_file():
        return read_data_yaml(root)
    if config := find_data_yaml(root):
        return read_data_yaml(config)
    darknet = find_obj_data(root)
    return read_obj_data(darknet) if darknet else None


def _class_names(root: Path, data: DataFile | None, hints: Hints) -> dict[int, str]:
    if hints.classes is not None:
        return read_class_list(hints.classes, first_id=0)
    if data is not None and data.names is not None:
        return data.names
    for name in CLASS_LISTS:
        if (root / name).is_file():
            return read_class_list(root / name, first_id=0)
    raise DataError(
        f"{root}: YOLO labels have class ids only: expected data.yaml or classes.txt",
        hint="give the names with --classes FILE, one per line",
    )
