"""Parser of "CVAT for video 1.1" XML; memory is bounded by the largest track, not the file.

Source: docs.cvat.ai/docs/manual/advanced/xml_format.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparsevod_core.data.json_fields import FieldError, flag
from sparsevod_core.errors import DataError
from sparsevod_core.input_file import require_regular_file
from sparsevod_core.prepare.reading.annotated import Box
from sparsevod_core.prepare.reading.strict_xml import StrictXmlParser

_PIECE_BYTES = 1 << 16
_SHOWN = 3
"""Number of broken boxes of a track that are described; the others are counted."""
_SHAPES = ("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")
_BOX_LABELS = ("", "any", "rectangle", "bbox")
"""Types of labels that can have boxes; older files have no type."""


@dataclass(slots=True)
class CvatTask:
    """Fields of one task or job in `<meta>`, as text.

    Frames are numbered as in the entire video: `start_frame`, `start_frame` + step, ...
    """

    fields: dict[str, str] = field(default_factory=dict)

    def number(self, name: str, default: int) -> int:
        """Return a field as a non-negative integer, `default` if it is none."""
        return _parse_number(self.fields.get(name, ""), default)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels; zeros if they are not stated."""
        return self.number("original_height", 0), self.number("original_width", 0)

    @property
    def step(self) -> int:
        """Distance between the task's frames in the video; 0 if `frame_filter` is unclear."""
        text = self.fields.get("frame_filter", "").replace(" ", "")
        return _parse_number(text.removeprefix("step="), 0) if text else 1


@dataclass(slots=True)
class CvatMeta:
    """Content of `<meta>`: tasks, and names of labels that can have boxes, in CVAT's order."""

    labels: list[str] = field(default_factory=list)
    tasks: list[CvatTask] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CvatBox:
    """A `<box>` of a track: frame as written, box in pixels, rotation in degrees clockwise."""

    line: int
    frame: int
    box_xyxy: Box
    rotation: float
    is_outside: bool
    is_occluded: bool
    is_keyframe: bool


@dataclass(slots=True)
class CvatTrack:
    """A `<track>`: its valid boxes in the file's order, and what else it has.

    Attributes:
        num_broken: Number of boxes that are not valid; `problems` describes the first of them.
        other_shapes: Number of shapes that are not boxes, by element.
    """

    line: int
    label: str
    task: str
    boxes: list[CvatBox] = field(default_factory=list)
    num_broken: int = 0
    problems: list[str] = field(default_factory=list)
    other_shapes: Counter[str] = field(default_factory=Counter)


def read_meta(path: Path) -> CvatMeta:
    """Read `<meta>`, not what follows it.

    Raises:
        DataError: Unreadable, not well-formed, a document type, or not a CVAT file.
    """
    parser = _Parser(path)
    for _ in parser.parse(path):
        if parser.is_past_meta:
            break
    if not parser.meta.tasks:
        raise DataError(f"{path}: not a CVAT file: no <task> or <job> in <meta>")
    for task in parser.meta.tasks:
        if not task.step:
            raise DataError(
                f"{path}: <frame_filter>: expected step=N, got {task.fields['frame_filter'][:40]!r}"
            )
    return parser.meta


def read_tracks(path: Path) -> Iterator[CvatTrack]:
    """Yield every track, in the file's order.

    Raises:
        DataError: As for `read_meta`, or the file is in the format "CVAT for images".
    """
    parser = _Parser(path)
    for _ in parser.parse(path):
        yield from parser.tracks
        parser.tracks.clear()


class _Parser(StrictXmlParser):
    def __init__(self, path: Path) -> None:
        super().__init__(path, "annotations")
        self.meta = CvatMeta()
        self.tracks: list[CvatTrack] = []
        self.is_past_meta = False
        self._label: dict[str, str] = {}
        self._fields_of_all_tasks: dict[str, str] = {}
        self._track: CvatTrack | None = None

    def parse(self, path: Path) -> Iterator[None]:
        """Parse one piece of the file per iteration."""
        require_regular_file(path, DataError)
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    self.feed(piece, is_last=False)
                    yield
            self.feed(b"", is_last=True)
            yield
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._parent
        if tag == "track" and parent == "annotations":
            label, task = attributes.get("label", ""), attributes.get("task_id", "")
            self._track = CvatTrack(self.line, label, task)
        elif self._track is not None and parent == "track" and tag in _SHAPES:
            self._add_shape(self._track, tag, attributes)
        elif tag == "image" and parent == "annotations":
            raise self.error(
                "this is `CVAT for images`, which has no tracks: export the task as "
                "`CVAT for video 1.1`"
            )
        elif tag in ("task", "job"):
            self.meta.tasks.append(CvatTask())
        elif tag == "label":
            self._label = {}

    def end(self, tag: str) -> None:
        if tag == "track" and self._track is not None:
            self.tracks.append(self._track)
            self._track = None
        elif tag == "meta":
            for task in self.meta.tasks:
                task.fields = self._fields_of_all_tasks | task.fields
            self.is_past_meta = True
        elif self._track is None and "meta" in self.open_tags:
            self._add_meta(tag, self._parent, self.text.strip())

    @property
    def _parent(self) -> str:
        return self.open_tags[-2] if len(self.open_tags) > 1 else ""

    def _add_meta(self, tag: str, parent: str, text: str) -> None:
        if parent in ("task", "job"):
            self.meta.tasks[-1].fields[tag] = text
        elif parent == "meta":
            self._fields_of_all_tasks[tag] = text
        elif parent == "original_size":
            is_of_task = "task" in self.open_tags or "job" in self.open_tags
            fields = self.meta.tasks[-1].fields if is_of_task else self._fields_of_all_tasks
            fields[f"original_{tag}"] = text
        elif parent == "label":
            self._label[tag] = text
        elif tag == "label":
            name = self._label.get("name", "")
            if self._label.get("type", "") in _BOX_LABELS and name not in ("", *self.meta.labels):
                self.meta.labels.append(name)

    def _add_shape(self, track: CvatTrack, tag: str, attributes: dict[str, str]) -> None:
        if tag != "box":
            track.other_shapes[tag] += 1
            return
        try:
            frame = int(attributes["frame"])
            left, top, right, bottom = (float(attributes[n]) for n in ("xtl", "ytl", "xbr", "ybr"))
            rotation = float(attributes.get("rotation", "0"))
            if not all(map(math.isfinite, (left, top, right, bottom, rotation))):
                raise ValueError
            is_outside, is_occluded = flag(attributes, "outside"), flag(attributes, "occluded")
            is_keyframe = flag(attributes, "keyframe", default=True)
        except (KeyError, ValueError, FieldError) as error:
            wanted = ("frame", "xtl", "ytl", "xbr", "ybr")
            got = " ".join(f'{name}="{attributes.get(name, "")[:12]}"' for name in wanted)
            problem = f"expected a <box> with numbers, got {got}"
            self._add_broken(track, str(error) if isinstance(error, FieldError) else problem)
            return
        track.boxes.append(
            CvatBox(
                self.line,
                frame,
                (left, top, right, bottom),
                rotation,
                is_outside,
                is_occluded,
                is_keyframe,
            )
        )

    def _add_broken(self, track: CvatTrack, problem: str) -> None:
        track.num_broken += 1
        if len(track.problems) < _SHOWN:
            track.problems.append(self.error(f"{problem}, skipped").message)


def _parse_number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
