"""Invalid entries of an annotation file by kind, and the file without them.

Loading a file stops at the first invalid entry; whoever repairs the file needs to see all of them.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core.data.annotation_columns import as_numbers
from sparsevod_core.data.annotation_file import (
    SECTIONS,
    AnnotationFile,
    entry_place,
    read_annotation_file,
    read_valid_entries,
)
from sparsevod_core.data.annotation_fit import FitCheck
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


def find_invalid_entries(path: Path) -> tuple[AnnotationFile, list[Finding]]:
    """Return the entries that fit together, and what is wrong with the others.

    A repeated annotation id is a finding, but its box is kept.

    Raises:
        DataError: not JSON, or a section that is missing.
    """
    content, findings = AnnotationFile(path), []
    skip: dict[str, set[int]] = {section: set() for section in SECTIONS}
    broken_ids = {section: array("q") for section in SECTIONS}
    places: dict[str, list[str]] = {section: [] for section in SECTIONS}

    def report(section: str, position: int, entry: Any, problem: str) -> None:
        if section == "info":
            return  # reading the valid entries raises the error
        skip[section].add(position)
        if len(places[section]) < NAMED:
            places[section].append(f"{entry_place(section, position, entry)}: {problem}")
        if isinstance(entry, dict) and type(id_ := entry.get("id")) is int:
            with suppress(OverflowError):  # no valid entry can refer to such an id
                broken_ids[section].append(id_)

    positions = read_valid_entries(content, report)
    for section, named in places.items():
        if named:
            text, count = f"{section} with a missing or invalid field", len(skip[section])
            findings.append(Finding(f"broken_{section}", "error", text, count, tuple(named)))
    excluded = {section: np.zeros(len(positions[section]), bool) for section in SECTIONS}
    for misfits in FitCheck(content, positions=positions, broken_ids=broken_ids).misfits():
        entries = np.flatnonzero(misfits.entries).tolist()
        if misfits.key != "repeated_annotation_ids":
            excluded[misfits.section] |= misfits.entries
        if entries:
            described = tuple(map(misfits.describe, entries[:NAMED]))
            text = _TEXTS[misfits.key]
            findings.append(Finding(misfits.key, "error", text, len(entries), described))
    # Entries that refer to excluded ones are excluded too; nothing else is wrong with them.
    images, annotations = content.images, content.annotations
    excluded["images"] |= np.isin(as_numbers(images.video_ids), broken_ids["videos"])
    image_ids = as_numbers(images.ids)[~excluded["images"]]
    category_ids = as_numbers(content.category_ids)[~excluded["categories"]]
    excluded["annotations"] |= ~np.isin(as_numbers(annotations.image_ids), image_ids)
    excluded["annotations"] |= ~np.isin(as_numbers(annotations.category_ids), category_ids)
    for section in SECTIONS:
        skip[section].update(as_numbers(positions[section])[excluded[section]].tolist())
    valid = read_annotation_file(path, skip=skip)
    valid.annotations.ids = array("q", range(len(valid.annotations.ids)))
    return valid, findings
