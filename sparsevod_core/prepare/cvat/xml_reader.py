"""Walks through a "CVAT for video 1.1" XML, track by track, so that memory does not grow with it.

The file is untrusted: expat parses it, and a document type - without which no entity can be
declared - is refused. Every error names file and line.

Source: docs.cvat.ai/docs/manual/advanced/xml_format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.annotated import Box

_PIECE_BYTES = 1 << 16
_SHAPES = ("box", "polygon", "polyline", "points", "cuboid", "ellipse", "mask", "skeleton")
_BOX_LABELS = ("", "any", "rectangle", "bbox")
"""Types of labels that can have boxes; older files say none."""


@dataclass(slots=True)
class CvatTask:
    """What `<meta>` says of one task or job, as text; "" where it is silent.

    Frames are numbered as in the whole video: `start_frame`, `start_frame` + step, ...
    """

    fields: dict[str, str] = field(default_factory=dict)

    def number(self, name: str, otherwise: int) -> int:
        """A whole number that is not negative, or `otherwise`."""
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else otherwise

    @property
    def step(self) -> int:
        """Every how many frames of the video there is one of the task."""
        text = self.fields.get("frame_filter", "").replace(" ", "").removeprefix("step=")
        return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 10 else 1


@dataclass(slots=True)
class CvatMeta:
    """`<meta>`: label names that can have boxes, in CVAT's order, and tasks."""

    labels: list[str] = field(default_factory=list)
    tasks: list[CvatTask] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CvatBox:
    """A `<box>` of a track; `frame` as written, box in pixels, rotation in degrees clockwise."""

    line: int
    frame: int
    box_xyxy: Box
    rotation: float
    is_outside: bool
    is_occluded: bool
    is_keyframe: bool


@dataclass(slots=True)
class CvatTrack:
    """A `<track>`: its boxes in the file's order, and what is wrong with others."""

    line: int
    label: str
    task: str
    boxes: list[CvatBox] = field(default_factory=list)
    num_other_shapes: int = 0
    problems: list[str] = field(default_factory=list)


def read_meta(path: Path) -> CvatMeta:
    """`<meta>` alone; what follows it is not read.

    Raises:
        DataError: unreadable, not well-formed, a document type, or not CVAT's.
    """
    reader = _Reader(path)
    for _ in reader.pieces():
        if reader.is_past_meta:
            break
    if not reader.meta.tasks:
        raise DataError(f"{path}: not a CVAT file: no <task> or <job> in <meta>")
    return reader.meta


def read_tracks(path: Path) -> Iterator[CvatTrack]:
    """Every track, in the file's order.

    Raises:
        DataError: as `read_meta`, or the file is a "CVAT for images".
    """
    reader = _Reader(path)
    for _ in reader.pieces():
        yield from reader.tracks
        reader.tracks.clear()


class _Reader:
    def __init__(self, path: Path) -> None:
        self.meta = CvatMeta()
        self.tracks: list[CvatTrack] = []
        self.is_past_meta = False
        self._path = path
        self._open: list[str] = []
        self._text = ""
        self._label: dict[str, str] = {}
        self._of_all_tasks: dict[str, str] = {}
        self._track: CvatTrack | None = None
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_document_type

    def pieces(self) -> Iterator[None]:
        """Parses a piece of the file at each step."""
        try:
            with self._path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    self._parser.Parse(piece, False)
                    yield
                self._parser.Parse(b"", True)
                yield
        except OSError as error:
            raise DataError(f"{self._path}: cannot be read: {error.strerror}") from error
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise DataError(f"{self._path}:{error.lineno}: broken XML: {reason}") from error
        except (LookupError, ValueError) as error:  # the declared encoding is Python's to find
            raise self._error(f"broken XML: {error}") from error

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != "annotations":
            raise self._error(f"expected <annotations>, got <{tag}>")
        parent = self._open[-1] if self._open else ""
        self._open.append(tag)
        self._text = ""
        if tag == "track" and parent == "annotations":
            self._track = CvatTrack(
                self._parser.CurrentLineNumber,
                attributes.get("label", ""),
                attributes.get("task_id", ""),
            )
        elif self._track is not None and parent == "track" and tag in _SHAPES:
            self._add_shape(self._track, tag, attributes)
        elif tag == "image" and parent == "annotations":
            raise DataError(
                f"{self._path}:{self._parser.CurrentLineNumber}: this is `CVAT for images`, which "
                "has no tracks: export the task as `CVAT for video 1.1`"
            )
        elif tag in ("task", "job"):
            self.meta.tasks.append(CvatTask())
        elif tag == "label":
            self._label = {}

    def _characters(self, text: str) -> None:
        self._text += text if len(self._text) < _PIECE_BYTES else ""

    def _end(self, tag: str) -> None:
        self._open.pop()
        parent = self._open[-1] if self._open else ""
        text = self._text.strip()
        if tag == "track" and self._track is not None:
            self.tracks.append(self._track)
            self._track = None
        elif self._track is None and "meta" in self._open:
            self._meta_field(tag, parent, text)
        elif tag == "meta":
            for task in self.meta.tasks:
                task.fields = self._of_all_tasks | task.fields
            self.is_past_meta = True

    def _meta_field(self, tag: str, parent: str, text: str) -> None:
        if parent in ("task", "job"):
            self.meta.tasks[-1].fields[tag] = text
        elif parent == "meta":
            self._of_all_tasks[tag] = text
        elif parent == "label":
            self._label[tag] = text
        elif tag == "label":
            name = self._label.get("name", "")
            if self._label.get("type", "") in _BOX_LABELS and name not in ("", *self.meta.labels):
                self.meta.labels.append(name)

    def _add_shape(self, track: CvatTrack, tag: str, attributes: dict[str, str]) -> None:
        line = self._parser.CurrentLineNumber
        if tag != "box":
            track.num_other_shapes += 1
            return
        try:
            frame = int(attributes["frame"])
            left, top, right, bottom, rotation = (
                float(attributes.get(name, "0") if name == "rotation" else attributes[name])
                for name in ("xtl", "ytl", "xbr", "ybr", "rotation")
            )
            if not all(map(math.isfinite, (left, top, right, bottom, rotation))):
                raise ValueError
        except (KeyError, ValueError):
            wanted = ("frame", "xtl", "ytl", "xbr", "ybr")
            got = " ".join(f'{name}="{attributes.get(name, "")[:12]}"' for name in wanted)
            track.problems.append(
                f"{self._path}:{line}: expected a <box> with numbers, got {got}, left out"
            )
            return
        track.boxes.append(
            CvatBox(
                line,
                frame,
                (left, top, right, bottom),
                rotation,
                is_outside=attributes.get("outside") == "1",
                is_occluded=attributes.get("occluded") == "1",
                is_keyframe=attributes.get("keyframe", "1") == "1",
            )
        )

    def _refuse_document_type(self, name: str, *_: object) -> None:
        raise self._error("has a document type or entity declaration, which is refused")

    def _error(self, message: str) -> DataError:
        return DataError(f"{self._path}:{self._parser.CurrentLineNumber}: {message}")
