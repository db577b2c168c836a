"""Broken entries of an annotation file: all of them by kind, and the file without them.

Loading stops at the first one, as it should. Who mends a file wants to see them together.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from sparsevod_core.data.annotation_file import (
    NO_VIDEO,
    AnnotationFile,
    field_problem,
    read_annotation_file,
)
from sparsevod_core.data.annotation_join import VIDEO_FILE_NAME
from sparsevod_core.data.json_stream import stream_sections
from sparsevod_core.prepare.checks.findings import NAMED, Finding

_SECTIONS = ("categories", "videos", "images", "annotations")
_Ids = dict[str, array]


def read_sound_entries(path: Path) -> tuple[AnnotationFile, list[Finding]]:
    """The entries of which a set can be made, and what is wrong with the others.

    An annotation id that is used twice is a finding, its boxes stay.

    Raises:
        DataError: not JSON, or a section that is missing.
    """
    left_out: dict[str, set[int]] = {section: set() for section in _SECTIONS}
    findings = _find_broken(path, left_out)
    content = read_annotation_file(path, left_out)
    content.annotations.ids = array("q", range(len(content.annotations.ids)))
    return content, findings


def _find_broken(path: Path, left_out: dict[str, set[int]]) -> list[Finding]:
    """What is broken; adds to `left_out`."""
    content, positions, findings, broken_ids = _sound_by_themselves(path, left_out)
    for broken in _broken_together(content, broken_ids):
        chosen = np.flatnonzero(broken.entries)
        places = [positions[broken.section][n] for n in chosen.tolist()]
        if broken.text and places:
            named = [
                f"{broken.section}[{place}]: {broken.detail(n)}"
                for place, n in zip(places[:NAMED], chosen.tolist(), strict=False)
            ]
            findings.append(Finding(broken.key, "error", broken.text, len(places), tuple(named)))
        if broken.key != "repeated_annotation_ids":
            left_out[broken.section].update(places)
    return findings


def _sound_by_themselves(
    path: Path, left_out: dict[str, set[int]]
) -> tuple[AnnotationFile, dict[str, array], list[Finding], _Ids]:
    """The entries without a wrong field and where in the file they stand; adds to `left_out`.

    Of the others the findings, and the ids by which sound entries may refer to them.
    """
    content = AnnotationFile(path)
    add = content.adders()
    positions = {section: array("q") for section in _SECTIONS}
    named: dict[str, list[str]] = defaultdict(list)
    broken_ids: _Ids = {section: array("q") for section in _SECTIONS}
    for section, entries in stream_sections(path):
        for position, entry in enumerate(entries if section in _SECTIONS else ()):
            problem = field_problem(section, entry)
            if problem is None:
                add[section](entry)
                positions[section].append(position)
                continue
            left_out[section].add(position)
            if isinstance(entry, dict) and type(id_ := entry.get("id")) is int:
                with suppress(OverflowError):  # no sound entry can refer to such an id
                    broken_ids[section].append(id_)
            if len(named[section]) < NAMED:
                named[section].append(f"{section}[{position}]: {problem}")
    findings = [
        Finding(
            f"broken_{section}",
            "error",
            f"{section} with a field missing or of the wrong kind",
            len(left_out[section]),
            tuple(places),
        )
        for section, places in named.items()
    ]
    return content, positions, findings, broken_ids


@dataclass(frozen=True, slots=True)
class _Broken:
    """Entries of a section that do not fit the others; without text the reason is told elsewhere.

    Attributes:
        detail: what to say of one of them, by its position among the sound entries.
    """

    section: str
    key: str
    text: str
    entries: Bool[np.ndarray, " n"]
    detail: Callable[[int], str]


def _broken_together(content: AnnotationFile, broken_ids: _Ids) -> Iterator[_Broken]:
    """Entries that repeat an id or refer to none, and what those leave behind.

    Those that refer to a broken entry are left behind, not broken.
    """
    category_ids = np.array([category.id for category in content.categories], np.int64)
    _, names = np.unique([category.name for category in content.categories], return_inverse=True)
    bad_categories = _repeats(category_ids) | _repeats(names)
    yield _Broken(
        "categories",
        "repeated_categories",
        "categories with the id or name of one before them",
        bad_categories,
        lambda n: f"id {category_ids[n]}, {content.categories[n].name}",
    )
    video_ids = np.array(content.videos.ids)
    bad_videos = _repeats(video_ids)
    yield _Broken(
        "videos",
        "repeated_video_ids",
        "videos with the id of one before them",
        bad_videos,
        lambda n: f"id {video_ids[n]}",
    )
    bad_images = np.zeros(len(content.images.ids), bool)
    for broken in _broken_images(content, video_ids, broken_ids):
        bad_images |= broken.entries
        yield broken
    sound_categories = category_ids[~bad_categories]
    yield from _broken_annotations(content, bad_images, sound_categories, broken_ids)


def _broken_images(
    content: AnnotationFile, video_ids: np.ndarray, broken_ids: _Ids
) -> Iterator[_Broken]:
    images, videos = content.images, content.videos
    ids, of_video, frame_ids = (
        np.array(column) for column in (images.ids, images.video_ids, images.frame_ids)
    )
    in_video = of_video != NO_VIDEO

    def broken(key: str, text: str, entries: np.ndarray) -> _Broken:
        def detail(n: int) -> str:
            place = f", video_id {of_video[n]}, frame_id {frame_ids[n]}" if in_video[n] else ""
            return f"id {ids[n]}{place}"

        return _Broken("images", key, text, entries, detail)

    yield broken("repeated_image_ids", "images with the id of one before them", _repeats(ids))
    unknown = in_video & ~np.isin(of_video, video_ids)
    of_broken = unknown & np.isin(of_video, broken_ids["videos"])
    text = "images whose video_id is not in 'videos'"
    yield broken("unknown_videos", text, unknown & ~of_broken)
    yield broken("left_behind", "", of_broken)
    twice = _repeats(of_video, frame_ids) & in_video
    text = "images with the video and frame_id of one before them"
    yield broken("repeated_frames", text, twice)
    files = zip(video_ids.tolist(), videos.files, strict=True)
    films = [video for video, file in files if file and VIDEO_FILE_NAME.search(file)]
    negative = np.isin(of_video, films) & (frame_ids < 0)
    text = "images with a frame_id below 0 in a video file, which counts from 0"
    yield broken("negative_frame_ids", text, negative)
    sized = {
        video
        for video, height, width in zip(
            video_ids.tolist(), videos.heights, videos.widths, strict=True
        )
        if height and width
    }
    no_size = (np.array(images.heights) == 0) | (np.array(images.widths) == 0)
    no_size &= ~np.isin(of_video, list(sized)) & ~unknown
    yield broken("no_size", "images without height and width, in their video too", no_size)


def _broken_annotations(
    content: AnnotationFile, bad_images: np.ndarray, category_ids: np.ndarray, broken_ids: _Ids
) -> Iterator[_Broken]:
    annotations = content.annotations
    ids, image_ids, of_category = (
        np.array(column)
        for column in (annotations.ids, annotations.image_ids, annotations.category_ids)
    )
    known_images = np.array(content.images.ids)
    boxes_xywh = np.array(annotations.boxes_xywh).reshape(-1, 4)

    def broken(
        key: str, text: str, entries: np.ndarray, column: str, values: np.ndarray
    ) -> _Broken:
        def detail(n: int) -> str:
            return f"id {ids[n]}, {column} {values[n].tolist()}"

        return _Broken("annotations", key, text, entries, detail)

    text = "annotations with the id of one before them"
    yield broken("repeated_annotation_ids", text, _repeats(ids), "image_id", image_ids)
    text = "annotations whose image_id is not in 'images'"
    unknown = ~np.isin(image_ids, np.append(known_images, broken_ids["images"]))
    yield broken("unknown_images", text, unknown, "image_id", image_ids)
    text = "annotations whose category_id is not in 'categories'"
    known = [category.id for category in content.categories]
    unknown = ~np.isin(of_category, [*known, *broken_ids["categories"]])
    yield broken("unknown_categories", text, unknown, "category_id", of_category)
    with np.errstate(over="ignore", invalid="ignore"):
        corners = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
        finite = np.isfinite(corners.astype(np.float32)).all(axis=1)
    text = "annotations whose bbox has a negative size or a number that is not finite"
    bad_boxes = np.logical_or(~finite, (boxes_xywh[:, 2:] < 0).any(axis=1))
    yield broken("impossible_boxes", text, bad_boxes, "bbox", boxes_xywh)
    left_behind = ~np.isin(image_ids, known_images[~bad_images])
    left_behind |= ~np.isin(of_category, category_ids)
    yield broken("left_behind", "", left_behind, "image_id", image_ids)


def _repeats(*columns: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Whether a row stands before each row with the same values."""
    order = np.lexsort(columns)  # stable: the first of equal rows stays first
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        same &= column[order[1:]] == column[order[:-1]]
    repeats = np.zeros(len(order), bool)
    repeats[order[1:][same]] = True
    return repeats
