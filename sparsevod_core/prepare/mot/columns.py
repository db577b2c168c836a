"""Meaning of the columns of a MOT text file, which no file states and several benchmarks share.

    frame, id, left, top, width, height, conf, class, visibility                       MOT16, 17, 20
    frame, id, left, top, width, height, conf, x, y, z                                 MOT15
    frame, id, left, top, width, height, score, category, truncation, occlusion        VisDrone
    frame, id, left, top, width, height, out of view, occlusion, category              UAVDT

The values of the whole data set decide. If they fit none of these, or may be detections, the file
is refused. A first line with names of columns states them.

Source: motchallenge.net/instructions, VisDrone2018-MOT-toolkit, UAVDT-Benchmark-M's README.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.mot.rows import NUM_BOX_COLUMNS, Survey, Values, read_rows
from sparsevod_core.prepare.mot.sequences import SequenceFiles

_BOX = ("frame", "id", "left", "top", "width", "height")
_MOT_CLASSES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle",
    "static person", "distractor", "occluder", "occluder on the ground", "occluder full",
    "reflection", "crowd",
)  # fmt: skip
_VISDRONE_CLASSES = (
    "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus",
    "motor",
)  # fmt: skip
_USED = (*_BOX, "conf", "class", "visibility")
_TAIL_PLACES = range(NUM_BOX_COLUMNS, NUM_BOX_COLUMNS + 4)  # those that a survey counts
_OTHER_NAMES = {
    **dict.fromkeys(("frameid", "frameindex", "frameno", "framenumber"), "frame"),
    **dict.fromkeys(("trackid", "targetid", "objectid", "identity"), "id"),
    **dict.fromkeys(("bbleft", "bboxleft", "x", "xmin"), "left"),
    **dict.fromkeys(("bbtop", "bboxtop", "y", "ymin"), "top"),
    **dict.fromkeys(("bbwidth", "bboxwidth", "w"), "width"),
    **dict.fromkeys(("bbheight", "bboxheight", "h"), "height"),
    **dict.fromkeys(("confidence", "score", "notignored", "considered"), "conf"),
    **dict.fromkeys(("classid", "category", "objectcategory", "label"), "class"),
    "visibilityratio": "visibility",
}
PEDESTRIAN = 1
_EXAMPLE = "frame,id,left,top,width,height,conf,class,visibility"
COLUMNS_HINT = f"name the columns in a first line such as `{_EXAMPLE}`; `-` for unused ones"


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of a file.

    Attributes:
        names: What each column holds. Beside `_BOX`, only `conf`, `class` and `visibility` (0 to 1)
            are used, and `occlusion` (levels).
        source: Where the columns are like this, for messages.
        origin: Coordinate of the leftmost and topmost pixel.
        class_names: Names of the classes, by id.
        left_out: Why the boxes of some class ids are not used, by id.
        occluded: Levels of `occlusion` that mean that most of an object is hidden.
        has_header: Whether the first line that is not blank holds the names.
        only_class: Class of all boxes if there is no column `class`.
    """

    names: tuple[str, ...]
    source: str
    origin: int = 1
    class_names: Mapping[int, str] = field(default_factory=dict)
    left_out: Mapping[int, str] = field(default_factory=dict)
    occluded: tuple[int, ...] = ()
    has_header: bool = False
    only_class: int = PEDESTRIAN

    def index(self, name: str) -> int | None:
        """Return the position of a column, None if the file has none."""
        return self.names.index(name) if name in self.names else None

    def __str__(self) -> str:
        return (
            f"columns are those of {self.source}: {', '.join(self.names)}; boxes count pixels from "
            f"{self.origin}"
        )

    def used_classes(self, values: Values) -> set[int]:
        """Return the class ids of the boxes that are not to be ignored."""
        places = [self.index(name) for name in ("class", "conf")]
        class_at, conf_at = (None if at is None else at - NUM_BOX_COLUMNS for at in places)
        tails = [tail for tail in values.tails if conf_at is None or tail[conf_at] != 0]
        classes = {self.only_class if class_at is None else tail[class_at] for tail in tails}
        return classes - self.left_out.keys()


_MOT_NAMES = dict(enumerate(_MOT_CLASSES, start=1))
_VISDRONE = Columns(
    (*_BOX, "conf", "class", "truncation", "occlusion"),
    "VisDrone",
    origin=0,
    class_names=dict(enumerate(_VISDRONE_CLASSES, start=1)),
    left_out={0: "boxes around ignored regions", 11: "boxes of VisDrone's class others"},
    occluded=(2,),
)
_UAVDT = Columns(
    (*_BOX, "out of view", "occlusion", "class"),
    "UAVDT",
    origin=0,
    class_names={1: "car", 2: "truck", 3: "bus"},
    occluded=(2,),
)


def _mot(*tail: str, source: str = "MOT Challenge") -> Columns:
    return Columns((*_BOX, *tail), source, class_names=_MOT_NAMES)


def columns_of(sequences: Sequence[SequenceFiles], surveys: Sequence[Survey]) -> list[Columns]:
    """Return the columns of each file. Values of all files without a header decide together.

    Raises:
        DataError: Columns that the values do not tell, or no row in any file that is not empty.
    """
    together: dict[int, tuple[Path, Values]] = {}
    for found in surveys:
        if found.values is not None and not found.header:
            count = found.values.num_columns
            path, values = together.get(count, (found.path, found.values))
            together[count] = path, values.together_with(found.values)
    recognized = {count: recognize(path, values) for count, (path, values) in together.items()}
    if not any(found.values for found in surveys):
        _refuse_without_rows(surveys)
    default = next(iter(recognized.values()), _mot("conf", "class", "visibility"))
    columns = []
    for sequence, found in zip(sequences, surveys, strict=True):
        if found.values is None:
            chosen = default  # nothing but problems is read with it
        elif found.header:
            chosen = _stated(found.path, found.header, found.values)
        else:
            chosen = recognized[found.values.num_columns]
        # CVAT and Datumaro, which write a class list, count pixels from 0.
        columns.append(replace(chosen, origin=0) if sequence.class_list else chosen)
    return columns


def _refuse_without_rows(surveys: Sequence[Survey]) -> None:
    for found in surveys:
        for number, row in read_rows(found.path):
            raise DataError(
                f"{found.path}:{number}: {row if isinstance(row, str) else 'too few columns'}",
                hint=f"expected lines of `{_EXAMPLE}`; KITTI's labels must be converted",
            )


def _stated(path: Path, header: Sequence[str], values: Values) -> Columns:
    """Return the columns that a first line names.

    Raises:
        DataError: A column of the box is missing, one is named twice, or these are detections.
    """
    has_corner = not {"left", "bbleft", "bboxleft"}.isdisjoint(header)
    names = tuple(
        word if has_corner and word in ("x", "y") else _OTHER_NAMES.get(word, word)
        for word in header
    )
    used = [name for name in names if name in _USED]
    missing = [name for name in _BOX if name not in names]
    problem = ""
    if missing:
        problem = f"no column {missing[0]!r}"
    elif len(set(used)) < len(used):
        problem = "a column is named twice"
    elif any(names.index(name) not in _TAIL_PLACES for name in used if name not in _BOX):
        problem = "`conf` and `class` must be among the columns 7 to 10"
    elif len(names) != values.num_columns:
        problem = f"{len(names)} names for {values.num_columns} columns"
    if problem:
        got = ",".join(header)[:80]
        raise DataError(f"{path}: first line: {problem}, got {got}", hint=COLUMNS_HINT)
    if "conf" in names:
        _require_flag(_Column(path, values, names.index("conf")))
    return Columns(names, "the first line", class_names=_MOT_NAMES, has_header=True)


def recognize(path: Path, values: Values) -> Columns:
    """Return the columns that the values fit.

    Raises:
        DataError: They fit none or several, or these are detections.
    """
    count = values.num_columns
    if count == NUM_BOX_COLUMNS:
        return _mot()
    conf = _Column(path, values, 6)
    tail = [_Column(path, values, place) for place in range(7, count)]
    if count == 9 and _is_uavdt(conf, tail):
        return _UAVDT
    if not (conf.is_whole and conf.within(0, 1)):
        if conf.within(-1, -1) and all(column.within(-1, -1) for column in tail):
            return _mot(*("-" for _ in (conf, *tail)))
        _require_flag(conf)
    if all(column.within(-1, -1) for column in tail):
        return _mot("conf", *("-" for _ in tail))
    if count in (8, 9) and tail[0].is_whole:
        if count == 8:
            return _mot("conf", "class")
        if tail[1].within(0, 1) or tail[1].within(-1, -1):
            return _mot("conf", "class", "visibility" if tail[1].within(0, 1) else "-")
        raise _undecided(tail[1])
    if count == 10:
        flags = [tail[1].within(0, 1), tail[2].within(0, 2), *(column.is_whole for column in tail)]
        if all(flags) and tail[0].within(0, 11) and values.high[7] > 0:
            return _VISDRONE
        if not tail[0].is_whole:
            return _mot("conf", "x", "y", "z", source="MOT15")
    raise _undecided(tail[0])


@dataclass(frozen=True, slots=True)
class _Column:
    """Values of the column at `place`; the path is that of the first file, for messages."""

    path: Path
    values: Values
    place: int

    @property
    def is_whole(self) -> bool:
        return bool(self.values.is_whole[self.place])

    def within(self, low: float, high: float) -> bool:
        """Return True if all values are from `low` to `high`."""
        return bool(low <= self.values.low[self.place] and self.values.high[self.place] <= high)

    def __str__(self) -> str:
        return f"{self.values.low[self.place]:g} to {self.values.high[self.place]:g}"


def _is_uavdt(out_of_view: _Column, tail: Sequence[_Column]) -> bool:
    """Return True if the values are UAVDT's levels, and not conf, class and visibility."""
    columns = (out_of_view, *tail)
    fits = all(column.is_whole and column.within(1, 4) for column in columns)
    return (
        fits
        and not (out_of_view.within(1, 1) and tail[-1].within(1, 1))
        and (out_of_view.within(1, 3) and tail[-1].within(1, 3))
    )


def _require_flag(conf: _Column) -> None:
    """Refuse values of `conf` that are not 0 and 1."""
    if conf.is_whole and conf.within(0, 1):
        return
    if conf.is_whole and conf.values.high[1] != -1:
        raise _undecided(conf)
    raise DataError(
        f"{conf.path}: these are detections or tracks of a detector, not labels: column "
        f"{conf.place + 1} (conf) holds {conf}, expected 0 or 1",
        hint="set conf to 1 in all lines to use them as labels",
    )


def _undecided(column: _Column) -> DataError:
    return DataError(
        f"{column.path}: cannot tell what column {column.place + 1} of "
        f"{column.values.num_columns} means, which holds {column} in this data set",
        hint=COLUMNS_HINT,
    )
