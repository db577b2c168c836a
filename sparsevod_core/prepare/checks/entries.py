"""All invalid entries of an annotation file by kind, and the file without them.

Loading a file stops at the first invalid entry; whoever repairs the file needs to see all of them.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from pathlib import Path

import numpy as np

from sparsevod_core.data.annotation_file import (
    SECTIONS,
    AnnotationFile,
    annotation_sections,
    as_numbers,
    entry_place,
    read_annotation_file,
)
from sparsevod_core.data.annotation_fit import FitCheck
from sparsevod_core.data.json_fields import FieldError
from sparsevod_core.prepare.checks.findings import NAMED, Finding

_TEXTS = {
    "repeated_categories": "categories with the id or name of an earlier one",
    "repeated_video_ids": "videos with the id of an earlier one",
    "repeated_image_ids": "images with the id of an earlier one",
    "unknown_videos": "images whose video_id is not in 'videos'",
    "repeated_frames": "images with the video_id and frame_id of an earlier one",
    "negative_frame_ids": "images with a frame_id below 0 in a video file, which counts from 0",
    "no_size": "images without height and width, in their video too",
    "repeated_annotation_ids": "annotations with the id of an earlier one",
    "unknown_images": "annotations whose image_id is not in 'images'",
    "unknown_categories": "annotations whose category_id is not in 'categories'",
    "impossible_boxes": "annotations whose bbox has a negative size or a number that is not finite",
}
_Columns = dict[str, array]


def read_valid_entries(path: Path) -> tuple[AnnotationFile, list[Finding]]:
    """Return the entries that fit together, and what is wrong with the others.

    A repeated annotation id is a finding, but its box is kept.

    Raises:
        DataError: not JSON, or a section that is missing.
    """
    content = AnnotationFile(path)
    positions, broken_ids, skip, findings = _read_each(content)
    excluded = {section: np.zeros(len(column), bool) for section, column in positions.items()}
    for misfits in FitCheck(content, positions=positions, broken_ids=broken_ids).misfits():
        entries = np.flatnonzero(misfits.entries).tolist()
        if misfits.key != "repeated_annotation_ids":
            excluded[misfits.section] |= misfits.entries
        if entries:
            places = tuple(map(misfits.describe, entries[:NAMED]))
            text = _TEXTS[misfits.key]
            findings.append(Finding(misfits.key, "error", text, len(entries), places))
    _exclude_left_behind(content, excluded, broken_ids)
    for section, column in positions.items():
        skip[section].update(as_numbers(column)[excluded[section]].tolist())
    valid = read_annotation_file(path, skip=skip)
    valid.annotations.ids = array("q", range(len(valid.annotations.ids)))
    return valid, findings


def _read_each(
    content: AnnotationFile,
) -> tuple[_Columns, _Columns, dict[str, set[int]], list[Finding]]:
    """Add all entries without an invalid field.

    Returns:
        The positions in the file of these entries; the ids of the others, to which valid entries
        may refer; the positions of the others; findings on the others.
    """
    add = content.adders()
    positions: _Columns = {section: array("q") for section in SECTIONS}
    broken_ids: _Columns = {section: array("q") for section in SECTIONS}
    broken: dict[str, set[int]] = {section: set() for section in SECTIONS}
    findings = []
    for section, entries in annotation_sections(content.path):
        if section == "info":
            continue
        places: list[str] = []
        for position, entry in enumerate(entries):
            try:
                add[section](entry)
                positions[section].append(position)
            except FieldError as error:
                broken[section].add(position)
                places.append(f"{entry_place(section, position, entry)}: {error}")
                del places[NAMED:]
                if isinstance(entry, dict) and type(id_ := entry.get("id")) is int:
                    with suppress(OverflowError):  # no valid entry can refer to such an id
                        broken_ids[section].append(id_)
        if broken[section]:
            text, count = f"{section} with a missing or invalid field", len(broken[section])
            findings.append(Finding(f"broken_{section}", "error", text, count, tuple(places)))
    return positions, broken_ids, broken, findings


def _exclude_left_behind(
    content: AnnotationFile, excluded: dict[str, np.ndarray], broken_ids: _Columns
) -> None:
    """Exclude entries that refer to excluded ones, too; nothing else is wrong with them."""
    images, annotations = content.images, content.annotations
    excluded["images"] |= np.isin(as_numbers(images.video_ids), broken_ids["videos"])
    image_ids = as_numbers(images.ids)[~excluded["images"]]
    category_ids = as_numbers(content.category_ids)[~excluded["categories"]]
    excluded["annotations"] |= ~np.isin(as_numbers(annotations.image_ids), image_ids)
    excluded["annotations"] |= ~np.isin(as_numbers(annotations.category_ids), category_ids)
