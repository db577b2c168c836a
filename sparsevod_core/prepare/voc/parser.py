"""Parsers of one frame's annotation in Pascal VOC's XML, as ImageNet VID and DET use it.

`parse_voc_xml` reads any file and reports errors with their line. `parse_plain_voc_xml` reads
ordinary files several times as fast and leaves all others to `parse_voc_xml`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, XMLParser

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.file_bytes import read_up_to
from sparsevod_core.prepare.reading.strict_xml import StrictXmlParser, transcoded

MAX_BYTES = 4 * 1024 * 1024
"""Limit on the size of a file; no annotation of one frame comes near it."""
_NUMBER_LIMIT = 1 << 31
"""Exclusive limit on track ids and flags."""
_SIDE_LIMIT = 1 << 16
"""Exclusive limit on a JPEG's height and width."""
_DEEPEST_FIELD = 4  # annotation/object/bndbox/xmin
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_SIZE = {"annotation/size/width", "annotation/size/height"}
_FIELDS = ("name", "trackid", "occluded", "generated", "difficult")
_OBJECT = {f"annotation/object/{name}" for name in _FIELDS}
_BOX = "annotation/object/bndbox"
_SHAPES = {"polygon": "a polygon", "robndbox": "a rotated box"}
_FALSE_WORDS = ("", "false", "no", "none", "null", "unspecified")
_TRUE_WORDS = ("true", "yes")

_PLAIN_START = b"<annotation>"
_PLAIN_ENDS = (b"</annotation>\n", b"</annotation>", b"</annotation>\r\n")
_MAX_PLAIN_BYTES = 1 << 20
_FLAGS = {"0": False, "1": True}


@dataclass(slots=True)
class VocObject:
    """One `<object>`.

    Attributes:
        line: Line of its start tag, from 1; 0 if unknown.
        name: Class as written, a WordNet id in ImageNet.
        box_xyxy: xmin, ymin, xmax, ymax in pixels, as written.
        track: `<trackid>`, the same for the same object of a video; None if absent.
        occluded: `<occluded>`; False if absent.
        generated: `<generated>` (interpolated, not drawn by hand); False if absent.
        difficult: `<difficult>`: the kit neither trains on such an object nor scores it.
    """

    line: int
    name: str
    box_xyxy: tuple[float, float, float, float]
    track: int | None
    occluded: bool
    generated: bool
    difficult: bool = False


@dataclass(slots=True)
class VocAnnotation:
    """Size of a frame in pixels, and its objects in the file's order.

    A side of the size is 0 if the file does not state it. Each `<bndbox>` of an `<object>` is one
    of `objects`.
    """

    width: int = 0
    height: int = 0
    objects: list[VocObject] = field(default_factory=list)


def read_voc_xml(path: str | Path) -> VocAnnotation:
    """Load and parse one annotation file.

    Raises:
        DataError: Unreadable, too large, not well-formed, a document type, not a VOC annotation, a
            missing, repeated or non-finite number, or an object without a `<bndbox>`. The message
            starts with `path:line:`.
    """
    return parse_voc_xml(path, load_voc_xml(path))


def load_voc_xml(path: str | Path) -> bytes:
    """Return the text of one annotation file.

    Raises:
        DataError: Unreadable or too large.
    """
    try:
        text = read_up_to(path, MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotation: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB: not one frame's annotation")
    return text


def parse_voc_xml(path: str | Path, text: bytes) -> VocAnnotation:
    """Parse the text of the file `path`; raise the errors of `read_voc_xml`."""
    text, encoding = transcoded(path, text)
    parser = _Parser(path, encoding)
    parser.feed(text, is_last=True)
    return parser.result


class _Parser(StrictXmlParser):
    """Strict parser of one annotation."""

    def __init__(self, path: str | Path, encoding: str | None) -> None:
        super().__init__(path, "annotation", encoding)
        self.result = VocAnnotation()
        self._fields: dict[str, str] = {}
        self._boxes: list[dict[str, str]] = []
        self._shape = "no <bndbox>"
        self._object_line = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        depth = len(self.open_tags)
        if tag == "object" and depth == 2:
            self._object_line = self.line
            self._fields, self._boxes, self._shape = {}, [], "no <bndbox>"
        elif depth == 3 and self.open_tags[1] == "object":
            if tag == "bndbox":
                self._boxes.append({})
            elif tag in _SHAPES:
                self._shape = f"only {_SHAPES[tag]} (<{tag}>), no <bndbox>"

    def end(self, tag: str) -> None:
        if len(self.open_tags) > _DEEPEST_FIELD:
            return
        path, text = "/".join(self.open_tags), self.text.strip()
        if path in _OBJECT:
            self._set_once(self._fields, tag, text)
        elif path.rpartition("/")[0] == _BOX and tag in _SIDES:
            self._set_once(self._boxes[-1], tag, text)
        elif path in _SIZE:
            if getattr(self.result, tag):
                raise self.error(f"a second <{tag}>, expected one")
            value = self._number(float, tag, text, self.line) if text else 0.0
            if not (value.is_integer() and 0 <= value < _SIDE_LIMIT):
                raise self.error(f"<{tag}>: expected 0 to {_SIDE_LIMIT - 1} pixels, got {value:g}")
            setattr(self.result, tag, int(value))
        elif path == "annotation/object":
            self.result.objects.extend(self._objects())

    def _set_once(self, fields: dict[str, str], tag: str, text: str) -> None:
        if tag in fields:
            raise self.error(f"a second <{tag}> in an <object>, expected one")
        fields[tag] = text

    def _objects(self) -> Iterator[VocObject]:
        fields, line = self._fields, self._object_line
        if not fields.get("name"):
            raise self.error("<object> without <name>", line)
        if not self._boxes:
            raise self.error(f"<object> {fields['name'][:40]!r} has {self._shape}", line)
        has_track = "trackid" in fields
        track = int(self._number(int, "trackid", fields["trackid"], line)) if has_track else None
        for box in self._boxes:
            left, top, right, bottom = (
                self._number(float, side, box.get(side), line) for side in _SIDES
            )
            yield VocObject(
                line,
                fields["name"],
                (left, top, right, bottom),
                track,
                *(self._flag(name, line) for name in ("occluded", "generated", "difficult")),
            )

    def _flag(self, name: str, line: int) -> bool:
        """Return a flag, which tools write as a number or a word."""
        text = self._fields.get(name, "").lower()
        if text in _FALSE_WORDS or text in _TRUE_WORDS:
            return text in _TRUE_WORDS
        return self._number(float, name, text, line) != 0

    def _number(
        self, convert: Callable[[str], float], name: str, text: str | None, line: int
    ) -> float:
        if text is None:
            raise self.error(f"<object> without <{name}>", line)
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if convert is int and abs(value) >= _NUMBER_LIMIT:
            raise self.error(f"<{name}>: {text[:40]} is out of range", line)
        if not math.isfinite(value):
            kind = "an integer" if convert is int else "a number"
            raise self.error(f"<{name}>: expected {kind}, got {text[:40]!r}", line)
        return value


def parse_plain_voc_xml(texts: Sequence[bytes]) -> list[VocAnnotation | None]:
    """Parse the texts of several files, without line numbers; return None for an unusual one.

    ElementTree's compiled parser reads the files together, as children of one element, because
    setting up a parser takes as long as parsing a small file. It reports no lines and would expand
    entities, so files with declarations or anything else unusual are not accepted.
    """
    joined = b"".join(texts)
    if _are_plain(texts, joined):
        parser = XMLParser()
        try:
            parser.feed(b"<all>" + joined + b"</all>")
            return [_plain_annotation(root) for root in parser.close()]
        except ParseError:
            pass
    if len(texts) == 1:
        return [None]
    return [annotation for text in texts for annotation in parse_plain_voc_xml([text])]


def _are_plain(texts: Sequence[bytes], joined: bytes) -> bool:
    """Return True if each text is well-formed on its own whenever all are well-formed together.

    Each text begins with the only start tag and ends with the only end tag of an annotation in it.
    Without comments, CDATA sections and processing instructions, what looks like a tag is one.
    """
    return (
        len(joined) <= _MAX_PLAIN_BYTES
        and all(text.startswith(_PLAIN_START) and text.endswith(_PLAIN_ENDS) for text in texts)
        and joined.count(b"<annotation") == joined.count(b"</annotation") == len(texts)
        and b"<!" not in joined
        and b"<?" not in joined
    )


def _plain_annotation(root: Element) -> VocAnnotation | None:
    size: dict[str, str] = {}
    objects = []
    try:
        for child in root:
            if child.tag == "object":
                objects.append(_plain_object(child))
            elif child.tag == "size":
                if size:
                    return None
                size = _texts(child)
        width, height = int(size["width"]), int(size["height"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (0 < width < _SIDE_LIMIT and 0 < height < _SIDE_LIMIT):
        return None
    return VocAnnotation(width, height, objects)


def _plain_object(element: Element) -> VocObject:
    (box,) = element.findall("bndbox")
    texts, sides = _texts(element, box), _texts(box)
    name = texts["name"].strip()
    left, top = float(sides["xmin"]), float(sides["ymin"])
    right, bottom = float(sides["xmax"]), float(sides["ymax"])
    track = int(texts["trackid"]) if "trackid" in texts else None
    occluded, generated = _FLAGS[texts.get("occluded", "0")], _FLAGS[texts.get("generated", "0")]
    is_finite = math.isfinite(left + top + right + bottom)
    if not (name and is_finite and 0 <= (track or 0) < _NUMBER_LIMIT):
        raise ValueError
    difficult = _FLAGS[texts.get("difficult", "0")]
    return VocObject(0, name, (left, top, right, bottom), track, occluded, generated, difficult)


def _texts(element: Element, nested: Element | None = None) -> dict[str, str]:
    """Return the text of each child by tag; tags must be unique, only `nested` may have children.

    Raises:
        ValueError: A repeated tag, or another child with children.
    """
    texts: dict[str, str] = {}
    for child in element:
        if (len(child) and child is not nested) or child.tag in texts:
            raise ValueError
        texts[child.tag] = child.text  # type: ignore[assignment] # None raises when it is used
    return texts
