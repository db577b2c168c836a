"""Reads one frame's annotation in Pascal VOC's XML, as ImageNet VID and DET use it.

The file is untrusted: it is parsed by expat, and a document type - without which no entity can be
declared - is refused. Every error names file and line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.file_bytes import read_up_to

MAX_BYTES = 4 * 1024 * 1024
"""No annotation of one frame comes near this; a larger file is refused unread."""
LARGEST_NUMBER = 1 << 31
"""Track ids and flags lie below."""
_DEEPEST_FIELD = 4  # annotation/object/bndbox/xmin

_SIZE = {f"annotation/size/{side}": side for side in ("width", "height")}
_OBJECT = {
    f"annotation/object/{name}": name for name in ("name", "trackid", "occluded", "generated")
}
_BOX = {f"annotation/object/bndbox/{side}": side for side in ("xmin", "ymin", "xmax", "ymax")}


@dataclass(slots=True)
class VocObject:
    """One `<object>`.

    Attributes:
        line: where it starts in the file, from 1; 0 where that is not known.
        name: the class as written, a WordNet id in ImageNet.
        box_xyxy: xmin, ymin, xmax, ymax in pixels, as written.
        track: `<trackid>`, the same number for the same object of a video; None where absent.
        occluded: `<occluded>`; False where absent.
        generated: `<generated>`: interpolated, not drawn by hand; False where absent.
    """

    line: int
    name: str
    box_xyxy: tuple[float, float, float, float]
    track: int | None
    occluded: bool
    generated: bool


@dataclass(slots=True)
class VocAnnotation:
    """What a file says about its frame: size in pixels and objects in the file's order."""

    width: int = 0
    height: int = 0
    objects: list[VocObject] = field(default_factory=list)


def read_voc_xml(path: str | Path) -> VocAnnotation:
    """Parse one annotation file.

    Raises:
        DataError: unreadable, too large, not well-formed (or cut off), with a document type, not a
            VOC annotation, or a number missing or not finite. The message starts with `path:line:`.
    """
    return parse_voc_xml(path, load_voc_xml(path))


def load_voc_xml(path: str | Path) -> bytes:
    """The text of one annotation file.

    Raises:
        DataError: unreadable or too large.
    """
    try:
        text = read_up_to(path, MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotation: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB: not one frame's annotation")
    return text


def parse_voc_xml(path: str | Path, text: bytes) -> VocAnnotation:
    """What the text of the file `path` says; raises as `read_voc_xml` does."""
    return _Reader(path).read(text)


class _Reader:
    """Collects the text of the fields above while expat walks through one file."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._result = VocAnnotation()
        self._open: list[str] = []
        self._text = ""
        self._fields: dict[str, str] = {}
        self._object_line = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_document_type

    def read(self, text: bytes) -> VocAnnotation:
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise self._error(f"broken XML: {reason}", error.lineno) from error
        except (LookupError, ValueError) as error:  # the declared encoding is Python's to find
            raise self._error(f"broken XML: {error}") from error
        if not (self._result.width and self._result.height):
            raise self._error("no <size> with <width> and <height>", 1)
        return self._result

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != "annotation":
            raise self._error(f"expected <annotation>, got <{tag}>")
        self._open.append(tag)
        self._text = ""
        if tag == "object" and len(self._open) == 2:
            self._object_line = self._parser.CurrentLineNumber
            self._fields.clear()

    def _characters(self, text: str) -> None:
        self._text += text

    def _end(self, tag: str) -> None:
        if len(self._open) <= _DEEPEST_FIELD:
            self._field("/".join(self._open))
        self._open.pop()

    def _field(self, path: str) -> None:
        if path in _BOX or path in _OBJECT:
            self._fields[_BOX.get(path) or _OBJECT[path]] = self._text.strip()
        elif path in _SIZE:
            setattr(self._result, _SIZE[path], self._size(_SIZE[path]))
        elif path == "annotation/object":
            self._result.objects.append(self._object())

    def _object(self) -> VocObject:
        fields = self._fields
        if not fields.get("name"):
            raise self._error("<object> without <name>", self._object_line)
        return VocObject(
            self._object_line,
            fields["name"],
            (self._side("xmin"), self._side("ymin"), self._side("xmax"), self._side("ymax")),
            self._whole_number("trackid") if "trackid" in fields else None,
            self._whole_number("occluded") != 0,
            self._whole_number("generated") != 0,
        )

    def _whole_number(self, name: str) -> int:
        return self._integer(name, self._fields.get(name, "0"), self._object_line)

    def _side(self, name: str) -> float:
        text = self._fields.get(name)
        if text is None:
            raise self._error(f"<object> without <{name}>", self._object_line)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._error(f"<{name}> is {text[:40]!r}, expected a number", self._object_line)
        return value

    def _size(self, name: str) -> int:
        value = self._integer(name, self._text.strip(), self._parser.CurrentLineNumber)
        if not 0 < value < 1 << 16:  # what a JPEG can be
            raise self._error(f"<{name}> is {value}, expected 1 to 65535 pixels")
        return value

    def _integer(self, name: str, text: str, line: int) -> int:
        try:
            value = int(text[:40])
        except ValueError:
            raise self._error(f"<{name}> is {text[:40]!r}, expected a whole number", line) from None
        if abs(value) >= LARGEST_NUMBER:
            raise self._error(f"<{name}> is {value}, out of range", line)
        return value

    def _refuse_document_type(self, name: str, *_: object) -> None:
        raise self._error("has a document type or entity declaration, which is refused")

    def _error(self, message: str, line: int | None = None) -> DataError:
        return DataError(f"{self._path}:{line or self._parser.CurrentLineNumber}: {message}")
