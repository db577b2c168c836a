"""Pascal VOC: one XML per frame, in a folder for each video.

Coordinates are in pixels, as written, with width = xmax - xmin as in ImageNet, whose files have the
same form. `<trackid>` is the object's track, if present. Each `<bndbox>` of an `<object>` is a box;
those of its `<part>`s are not. An object with `<difficult>` is neither trained on nor scored, as in
the kit: it becomes a crowd box. The image must have the size given in the XML, if any (0: none). A
frame without an XML has no boxes. Classes are numbered from 1, in the order of `--classes` or
sorted by name. `label_tree.py` describes where files may be.

Source: M. Everingham et al., The PASCAL VOC Challenge, development kit; ImageNet VID's kit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.annotated import (
    KEPT_AS_CROWD,
    AnnotatedFrame,
    AnnotatedVideo,
    LabeledBox,
)
from sparsevod_core.prepare.reading.class_names import categories_of, read_class_list
from sparsevod_core.prepare.reading.file_tree import list_files
from sparsevod_core.prepare.reading.image_size import size_problem
from sparsevod_core.prepare.reading.label_set import Hints, LabelSet, Split, used_sources
from sparsevod_core.prepare.reading.label_tree import LabeledVideo, pair_labels, read_labeled
from sparsevod_core.prepare.reading.media import add_box
from sparsevod_core.prepare.voc.image_sets import split_by_lists
from sparsevod_core.prepare.voc.parser import read_voc_xml
from sparsevod_core.reporting import Reporter

_DIFFICULT = f"boxes marked difficult, {KEPT_AS_CROWD}"


def find_voc(root: Path, hints: Hints, reporter: Reporter) -> LabelSet:
    """Find the videos in a folder.

    Without a class list, every XML is read twice: the classes of all splits must be known before
    the first split is written.

    Raises:
        DataError: An invalid class list, or no object in any XML.
    """
    tree = list_files(root, ".xml")
    split_of, notes = split_by_lists(root, tree)
    splits, more = pair_labels(root, tree, ".xml", split_of, hints)
    if hints.classes is not None:
        names = read_class_list(hints.classes, first_id=1)
    else:
        names = dict(enumerate(_names_in_use(root, splits, reporter), start=1))
    ids = {name: class_id for class_id, name in names.items()}
    return LabelSet(root, categories_of(names, root), splits, VocReader(root, ids), notes + more)


@dataclass(frozen=True, slots=True)
class VocReader:
    """Reader of one video."""

    root: Path
    class_ids: Mapping[str, int]

    def __call__(self, source: LabeledVideo) -> AnnotatedVideo:
        return read_labeled(self.root, source, self._add_boxes)

    def _add_boxes(self, video: AnnotatedVideo, frame: AnnotatedFrame, label: Path) -> bool:
        try:
            annotation = read_voc_xml(label)
        except DataError as error:
            video.problems.append(f"{error.message}, frame skipped")
            return False
        size = frame.height, frame.width
        # A tool that could not read the picture wrote 0.
        stated = annotation.height or frame.height, annotation.width or frame.width
        if stated != size:
            problem = size_problem(self.root / frame.file_name, size, stated, f"{label} says")
            video.problems.append(f"{problem}, frame skipped")
            return False
        for item in annotation.objects:
            where = f"{label}:{item.line}"
            class_id = self.class_ids.get(item.name)
            if class_id is None:
                video.problems.append(f"{where}: unknown class {item.name[:40]!r}, box skipped")
                continue
            box = LabeledBox(class_id, item.box_xyxy, item.track, item.occluded, item.generated)
            if item.difficult:
                box.is_crowd = True
                video.left_out[_DIFFICULT] += 1
            add_box(video, frame, box, where)
        return True


def _names_in_use(root: Path, splits: Mapping[str, Split], reporter: Reporter) -> list[str]:
    names: set[str] = set()
    videos = [source for source in used_sources(splits) if isinstance(source, LabeledVideo)]
    with reporter.progress("collecting classes", len(videos), "videos") as progress:
        for source in videos:
            for _, label in source.labels:
                try:
                    names.update(item.name for item in read_voc_xml(root / label).objects)
                except DataError:
                    continue  # reported when the frame is read
            progress.advance(note=source.name)
    return sorted(names)
