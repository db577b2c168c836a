"""Decision which columns the lines of a YOLO data set have, from many of its lines.

One line can often be read in several ways: six numbers after the class are a triangle, or a box
with a score and a track; eight are four corners, or a box with two key points. What fits no way of
reading, or two, is refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.yolo.lines import LineForm, box_of, numbers_of, read_lines
from sparsevod_core.reporting import counted

_FILES_PER_PASS, _MAX_FILES, _MAX_LINES = 1_000, 20_000, 5_000
_SLACK = 0.02  # fraction of the frame by which boxes may leave it: rounding, tools that do not clip
_ROUNDING = 1e-3
_MIN_EVIDENCE = 3  # lines
_MAX_COMPARED, _MAX_POINTS = 200, 20  # lines, and points of each, whose sides are compared
_POSE_HINT = "for key points, add their form to data.yaml, e.g. kpt_shape: [17, 3]"

Point = tuple[float, float]


class Line(NamedTuple):
    """A line that consists of numbers: its file, its place with line number, and its columns."""

    file: str
    place: str
    words: list[str]
    values: list[float]


def decide_form(
    root: Path, labels: Sequence[str], keypoint_numbers: int, class_ids: Collection[int]
) -> LineForm:
    """Return the form of the lines in label files, given relative to the root.

    Raises:
        DataError: Most lines have no known form, or they have one that cannot be told from another,
            or their classes count from 1.
    """
    lines, broken, num_lines = [], [], 0
    for place, file, words in _sample(root, labels):
        num_lines += 1
        try:
            lines.append(Line(file, place, words, numbers_of(words)[1]))
        except ValueError as error:
            broken.append((place, str(error), words))
    form = LineForm(keypoint_numbers, _tail(lines, keypoint_numbers))
    if not keypoint_numbers:
        _refuse_pose([line for line in lines if _is_long(line, form)])
    boxes = []
    for line in lines:
        try:
            form.parse(line.words)
            if not _is_long(line, form):
                boxes.append(line)
        except ValueError as error:
            broken.append((line.place, str(error), line.words))
    if len(broken) > num_lines / 2:
        place, reason, words = broken[0]
        hint = _POSE_HINT if len(words) > 6 and not keypoint_numbers else None
        raise DataError(
            f"{place}: {reason}, got {' '.join(words)[:60]!r} ({len(broken)} of {num_lines} lines "
            "are like this)",
            hint=hint,
        )
    _refuse_corners(boxes)
    _refuse_classes_from_1(lines, class_ids)
    return form


def _refuse_classes_from_1(lines: Sequence[Line], class_ids: Collection[int]) -> None:
    """Raise if the classes of N names, which count from 0, are 1 to N in the labels."""
    used = [int(float(line.words[0])) for line in lines]
    num_names = len(class_ids)
    if set(class_ids) != set(range(num_names)) or used.count(num_names) < _MIN_EVIDENCE:
        return
    if (min(used), max(used)) == (1, num_names):
        raise DataError(
            f"{lines[used.index(num_names)].place}: class {num_names}, but the classes of "
            f"{counted(num_names, 'name')} count from 0; as no label has class 0, the labels "
            "seem to count from 1",
            hint="give the ids with --classes FILE, one `ID: NAME` per line, from `1: NAME` on",
        )


def _sample(root: Path, labels: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield place, file and words of lines: all of a small set, else from files spread over it."""
    step = -(-len(labels) // _FILES_PER_PASS)
    spread = (label for start in range(step) for label in labels[start::step])
    num_lines = 0
    for _, label in zip(range(_MAX_FILES), spread, strict=False):
        if num_lines >= _MAX_LINES:
            return
        try:
            for number, words in read_lines(root / label):
                num_lines += 1
                yield f"{root / label}:{number}", label, words
        except OSError:
            continue  # reported when the frame is read


def _is_long(line: Line, form: LineForm) -> bool:
    """Return True for a line that is a polygon, unless it is of another form."""
    is_box = len(line.values) <= max(5, 4 + len(form.tail))
    return not (form.keypoint_numbers or is_box)


def _tail(lines: Iterable[Line], keypoint_numbers: int) -> tuple[str, ...]:
    """Return the columns after the box and its key points."""
    by_length: defaultdict[int, list[Line]] = defaultdict(list)
    for line in lines:
        by_length[len(line.values) - 4 - keypoint_numbers].append(line)
    ones, twos = by_length[1], by_length[2]
    if twos and _are_score_and_track(twos, is_certain=keypoint_numbers > 0):
        return "score", "track"
    if not ones:
        return ()
    column = [line.values[-1] for line in ones]
    if all(value.is_integer() for value in column):
        if set(column) == {-1}:  # an exporter of tracks, without any
            return ("track",)
        seen = {(line.file, line.values[-1]) for line in ones}
        is_plain = not any("." in line.words[-1] for line in ones)
        if max(map(abs, column)) > 1 or (is_plain and len(seen) == len(ones)):
            return ("track",)
    if all(0 <= value <= 1 for value in column):
        return ("score",)
    no_track = next((line for line in ones if not line.values[-1].is_integer()), ones[0])
    no_score = next(line for line in ones if not 0 <= line.values[-1] <= 1)
    raise DataError(
        f"{no_track.place}: the last column has {no_track.words[-1][:20]}, so it is no track, and "
        f"{no_score.words[-1][:20]} in {no_score.place}, so it is no score",
        hint="expected lines `class cx cy width height`, or with a track in all files",
    )


def _are_score_and_track(lines: Sequence[Line], *, is_certain: bool) -> bool:
    """Return True if the last two columns are a score and a track, False for triangles."""
    for line in lines:
        score, track = line.values[-2:]
        if not (0 <= score <= 1 and track.is_integer() and "." not in line.words[-1]):
            return False
        if not is_certain and _leaves_frame(line.values):
            return False
    largest = max(line.values[-1] for line in lines)
    if is_certain or largest > 1 or len(lines) >= _MIN_EVIDENCE:
        return True
    raise DataError(
        f"{lines[0].place}: 7 numbers can be a triangle, or a box with a score and a track",
        hint="leave out the score: `class cx cy width height track`",
    )


def _leaves_frame(values: Sequence[float]) -> bool:
    try:
        left, top, right, bottom = box_of(values)
    except ValueError:
        return True
    return min(left, top) < -_SLACK or max(right, bottom) > 1 + _SLACK


def _refuse_pose(lines: Sequence[Line]) -> None:
    """Raise if lines that would be polygons can also be boxes with key points.

    All lines of a pose set have the same number of columns. Its key points are in the box, or are
    zeros. If such lines are polygons after all, the second point is mostly near the others, so in
    that box, too, and the sides do not cross. A width and a height mostly are not in it.
    """
    if not lines or len({len(line.values) for line in lines}) > 1:
        return
    if all(_is_parallelogram(line.values) for line in lines):  # an oriented box
        return
    for dims in (3, 2):
        if (len(lines[0].values) - 4) % dims:
            continue
        are_points = [_keypoints_in_box(line.values, dims) for line in lines]
        if not all(are_points):
            continue
        some = lines[:_MAX_COMPARED]
        num_polygons = sum(_size_in_box(line.values) and not _crosses(line.values) for line in some)
        if dims == 3 or num_polygons < len(some) / 2:
            raise DataError(
                f"{lines[0].place}: {1 + len(lines[0].values)} numbers: these look like boxes with "
                "key points, not like polygons",
                hint=_POSE_HINT,
            )


def _keypoints_in_box(values: Sequence[float], dims: int) -> bool:
    if _leaves_frame(values):
        return False
    x, y, w, h = values[:4]
    for start in range(4, len(values), dims):
        point = values[start : start + dims]
        if dims == 3 and point[2] not in (0, 1, 2):
            return False
        if not any(point[:2]):
            continue  # not labeled
        if abs(point[0] - x) > 0.6 * w or abs(point[1] - y) > 0.6 * h:
            return False
    return True


def _size_in_box(values: Sequence[float]) -> bool:
    x, y, w, h = values[:4]
    return abs(w - x) <= w / 2 and abs(h - y) <= h / 2


def _is_parallelogram(values: Sequence[float]) -> bool:
    if len(values) != 8:
        return False
    x1, y1, x2, y2, x3, y3, x4, y4 = values
    return max(abs(x1 + x3 - x2 - x4), abs(y1 + y3 - y2 - y4)) < _ROUNDING


def _crosses(values: Sequence[float]) -> bool:
    """Return True if two sides of a polygon cross."""
    points = list(zip(values[0::2], values[1::2], strict=True))[:_MAX_POINTS]
    sides = list(pairwise([*points, points[0]]))
    return any(
        _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0
        for (a, b), (c, d) in combinations(sides, 2)
    )


def _turn(a: Point, b: Point, c: Point) -> float:
    """Return a positive number if c is on one side of the line from a to b, else a negative."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _refuse_corners(lines: Sequence[Line]) -> None:
    """Raise if boxes leave the frame unless their columns are corners, or a corner and a size."""
    outside = [line for line in lines if _leaves_frame(line.values)]
    if len(outside) < max(_MIN_EVIDENCE, len(lines) / 10):
        return
    numbers = [line.values[:4] for line in lines]
    edge = 1 + _SLACK / 4
    for columns, fits in {
        "x1 y1 x2 y2": all(0 <= x < u <= edge and 0 <= y < v <= edge for x, y, u, v in numbers),
        "left top width height": all(
            min(x, y) >= 0 and x + w <= edge and y + h <= edge for x, y, w, h in numbers
        ),
    }.items():
        if fits:
            raise DataError(
                f"{outside[0].place}: {len(outside)} of {len(lines)} boxes leave the frame: the "
                f"columns look like {columns}, expected center x, center y, width, height",
                hint="convert the labels to `class cx cy width height`",
            )
