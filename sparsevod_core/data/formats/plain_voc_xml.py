"""Reads ordinary annotations of Pascal VOC's form several times as fast as `voc_xml`.

ElementTree's compiled parser takes many files at once, as the children of one element: setting up
a parser takes as long as a small file. The parser tells no lines and would expand entities, so
that a file with a declaration or anything else unusual is left to `voc_xml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from xml.etree.ElementTree import Element, ParseError, XMLParser

from sparsevod_core.data.formats.voc_xml import LARGEST_NUMBER, VocAnnotation, VocObject

_START, _END = b"<annotation>", b"</annotation>"
_MOST_BYTES = 1 << 16
_FLAGS = {"0": False, "1": True}


def read_plain_voc_xml(texts: Sequence[bytes]) -> list[VocAnnotation | None]:
    """What `voc_xml` reads from each text, but for the lines; None for an unusual one."""
    if not all(map(_is_one_annotation, texts)):
        return _one_by_one(texts)
    parser = XMLParser()
    try:
        parser.feed(b"<all>" + b"".join(texts) + b"</all>")
        return [_annotation(root) for root in parser.close()]
    except ParseError:
        return _one_by_one(texts)


def _one_by_one(texts: Sequence[bytes]) -> list[VocAnnotation | None]:
    if len(texts) == 1:
        return [None]
    return [annotation for text in texts for annotation in read_plain_voc_xml([text])]


def _is_one_annotation(text: bytes) -> bool:
    """Texts that are so and well-formed together are well-formed each: none ends in another.

    Without comments, sections and instructions, what looks like a tag is one.
    """
    return (
        len(text) <= _MOST_BYTES
        and text.startswith(_START)
        and text.rstrip().endswith(_END)
        and text.count(_START[:-1]) == text.count(_END[:-1]) == 1
        and b"<!" not in text
        and b"<?" not in text
    )


def _annotation(root: Element) -> VocAnnotation | None:
    try:
        (size,) = root.findall("size")
        texts = _texts(size)
        width, height = int(texts["width"]), int(texts["height"])
        if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
            return None
        return VocAnnotation(width, height, [_object(item) for item in root.findall("object")])
    except (KeyError, TypeError, ValueError):
        return None


def _object(element: Element) -> VocObject:
    (box,) = element.findall("bndbox")
    texts, sides = _texts(element, box), _texts(box)
    name = texts["name"].strip()
    left, top = float(sides["xmin"]), float(sides["ymin"])
    right, bottom = float(sides["xmax"]), float(sides["ymax"])
    track = int(texts["trackid"]) if "trackid" in texts else None
    occluded, generated = _FLAGS[texts.get("occluded", "0")], _FLAGS[texts.get("generated", "0")]
    if not (name and isfinite(left + top + right + bottom) and 0 <= (track or 0) < LARGEST_NUMBER):
        raise ValueError
    return VocObject(0, name, (left, top, right, bottom), track, occluded, generated)


def _texts(element: Element, nested: Element | None = None) -> dict[str, str]:
    """The text of each child by tag: none stands twice, none but `nested` has children."""
    texts: dict[str, str] = {}
    for child in element:
        if (len(child) and child is not nested) or child.tag in texts:
            raise ValueError
        texts[child.tag] = child.text  # type: ignore[assignment] # None raises where it is used
    return texts
