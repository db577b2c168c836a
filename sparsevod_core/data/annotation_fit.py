"""Checks that the entries of an annotation file fit together: ids, references, frames and boxes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from sparsevod_core.data.annotation_columns import as_numbers
from sparsevod_core.data.annotation_file import AnnotationFile, is_video_file, place
from sparsevod_core.data.json_fields import MISSING
from sparsevod_core.errors import DataError


@dataclass(frozen=True, slots=True)
class Misfits:
    """Entries of a section that have the same kind of problem.

    Attributes:
        key: Name of the kind of problem.
        entries: True for each entry that has the problem.
        describe: Returns the place and the problem of the n-th entry.
    """

    section: str
    key: str
    entries: Bool[np.ndarray, " n"]
    describe: Callable[[int], str]


def require_fit(content: AnnotationFile, *, for_frames: bool) -> None:
    """Check that the entries of a file fit together.

    Args:
        for_frames: If True, also check what loading frames needs; see `FitCheck`.

    Raises:
        DataError: an entry does not fit, named by section, position and id.
    """
    for misfits in FitCheck(content, for_frames=for_frames).misfits():
        if misfits.entries.any():
            count = int(misfits.entries.sum())
            more = f" ({count:,} such entries)" if count > 1 else ""
            problem = misfits.describe(int(misfits.entries.argmax()))
            raise DataError(f"{content.path}: {problem}{more}")


@dataclass(frozen=True, slots=True)
class FitCheck:
    """Checks of a file's entries against each other.

    Attributes:
        for_frames: If True, also require that videos are listed, frames distinct and in range,
            sizes known, ids of annotations unique, and no box of a negative size.
        positions: Position in the file of each entry, by section; without a section, its entries
            are all in `content`.
        broken_ids: Ids of entries that are not in `content` but may be referred to, by section.
    """

    content: AnnotationFile
    for_frames: bool = True
    positions: Mapping[str, array] = field(default_factory=dict)
    broken_ids: Mapping[str, array] = field(default_factory=dict)

    def misfits(self) -> Iterator[Misfits]:
        """Yield each kind of problem, if only with no entries, in the order of the sections."""
        yield self._repeated_categories()
        yield self._repeated_ids("videos")
        yield self._repeated_ids("images")
        if self.for_frames:
            yield self._unknown_ids("images", "video_id", "videos")
            yield from self._frames()
            yield self._repeated_ids("annotations")
        yield self._unknown_ids("annotations", "image_id", "images")
        yield self._unknown_ids("annotations", "category_id", "categories")
        yield self._impossible_boxes()

    def _repeated_categories(self) -> Misfits:
        """Find repeated ids and names; names matter because models and data are matched by name."""
        names, ids = np.array(self.content.category_names, object), self._ids("categories")
        same_name = _repeats(np.unique(names, return_inverse=True)[1].reshape(-1))
        same_id = _repeats(ids)

        def problem(n: int) -> str:
            if same_id[n]:
                return f"has the id of {self._first('categories', ids, n)}"
            return f"has the name {names[n]!r} of {self._first('categories', names, n)}"

        return self._misfits("categories", "repeated_categories", same_id | same_name, problem)

    def _repeated_ids(self, section: str) -> Misfits:
        def problem(n: int) -> str:
            return f"has the id of {self._first(section, ids, n)}"

        ids = self._ids(section)
        return self._misfits(section, f"repeated_{section[:-1]}_ids", _repeats(ids), problem)

    def _unknown_ids(self, section: str, key: str, among: str) -> Misfits:
        def problem(n: int) -> str:
            return f"{key} {self.content.ids_of(wanted[[n]])[0]!r} is not in {among!r}"

        wanted = as_numbers(getattr(getattr(self.content, section), f"{key}s"))
        ids = np.append(self._ids(among), self.broken_ids.get(among, array("q")))
        unknown = ~np.isin(wanted, ids) & (wanted != MISSING)
        return self._misfits(section, f"unknown_{among}", unknown, problem)

    def _frames(self) -> Iterator[Misfits]:
        def same_frame(n: int) -> str:
            first = self._first("images", np.stack([of_video, frame_ids], axis=1), n)
            return f"has the video_id {of_video[n]} and the frame_id {frame_ids[n]} of {first}"

        def below_zero(n: int) -> str:
            expected = "an index in the video file, counted from 0"
            return f"frame_id: expected {expected}, got {frame_ids[n]}"

        images, videos = self.content.images, self.content.videos
        of_video, frame_ids = as_numbers(images.video_ids), as_numbers(images.frame_ids)
        video_ids, is_still = as_numbers(videos.ids), of_video == MISSING
        repeated = _repeats(frame_ids, of_video) & ~is_still
        yield self._misfits("images", "repeated_frames", repeated, same_frame)

        in_file = np.array([is_video_file(file) for file in videos.files], bool)
        negative = (frame_ids < 0) & np.isin(of_video, video_ids[in_file])
        yield self._misfits("images", "negative_frame_ids", negative, below_zero)

        no_size = (as_numbers(images.heights) == 0) | (as_numbers(images.widths) == 0)
        video_has_none = (as_numbers(videos.heights) == 0) | (as_numbers(videos.widths) == 0)
        no_size &= is_still | np.isin(of_video, video_ids[video_has_none])
        text = "`height` and `width` are missing, in its video too"
        yield self._misfits("images", "no_size", no_size, lambda _: text)

    def _impossible_boxes(self) -> Misfits:
        def problem(n: int) -> str:
            return f"bbox: expected {expected}, got {boxes_xywh[n].tolist()}"

        boxes_xywh = as_numbers(self.content.annotations.boxes_xywh).reshape(-1, 4)
        expected = "four finite numbers [x, y, width, height]"
        if self.for_frames:
            expected += " and no negative size"
            impossible = ~np.isfinite(corners(boxes_xywh)).all(axis=1)
            impossible |= (boxes_xywh[:, 2:] < 0).any(axis=1)
        else:
            impossible = ~np.isfinite(boxes_xywh).all(axis=1)
        return self._misfits("annotations", "impossible_boxes", impossible, problem)

    def _misfits(
        self, section: str, key: str, entries: np.ndarray, problem: Callable[[int], str]
    ) -> Misfits:
        def describe(n: int) -> str:
            id_ = self.content.ids_of(ids[[n]])[0] if len(ids) else None
            return f"{place(section, self._position(section, n), id_)}: {problem(n)}"

        ids = self._ids(section)
        return Misfits(section, key, entries, describe)

    def _first(self, section: str, rows: np.ndarray, n: int) -> str:
        """Return the place of the first entry whose row equals the n-th."""
        same = rows == rows[n]
        first = int((same.all(axis=1) if rows.ndim > 1 else same).argmax())
        return place(section, self._position(section, first))

    def _position(self, section: str, n: int) -> int:
        return self.positions[section][n] if section in self.positions else n

    def _ids(self, section: str) -> Int[np.ndarray, " n"]:
        if section == "categories":
            return as_numbers(self.content.category_ids)
        return as_numbers(getattr(self.content, section).ids)


def positions_of(
    ids: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    """Return the first position in `ids` of each wanted id, -1 for an id that is not there."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids, kind="stable")
    places = np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)
    positions = order[places]
    return np.where(ids[positions] == wanted, positions, -1)


def corners(boxes_xywh: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "m 4"]:
    """Return the boxes as xyxy in float32; numbers beyond its range become infinite."""
    boxes_xyxy = np.empty(boxes_xywh.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        boxes_xyxy[:, :2] = boxes_xywh[:, :2]
        boxes_xyxy[:, 2:] = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    return boxes_xyxy


def _repeats(*columns: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Return True for each row that equals an earlier one."""
    order = np.lexsort(columns)  # stable: the first of equal rows stays first
    same = np.ones(max(len(order) - 1, 0), bool)
    for column in columns:
        same &= column[order[1:]] == column[order[:-1]]
    repeats = np.zeros(len(order), bool)
    repeats[order[1:][same]] = True
    return repeats
