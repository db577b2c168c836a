"""Reads ordinary annotations of Pascal VOC's form several times as fast as `voc_xml`.

ElementTree's compiled parser takes many files at once, as the children of one element: setting up
a parser takes as long as a small file. The parser tells no lines and would expand entities, so
that a file with a declaration or anything else unusual is left to `voc_xml`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from xml.etree.ElementTree import Element, ParseError, XMLParser

from sparsevod_core.prepare.voc.xml_reader import LARGEST_NUMBER, VocAnnotation, VocObject

_START = b"<annotation>"
_ENDS = (b"</annotation>\n", b"</annotation>", b"</annotation>\r\n")
_MOST_BYTES = 1 << 20
_FLAGS = {"0": False, "1": True}


def read_plain_voc_xml(texts: Sequence[bytes]) -> list[VocAnnotation | None]:
    """What `voc_xml` reads from each text, but for the lines; None for an unusual one."""
    together = b"".join(texts)
    if _are_one_annotation_each(texts, together):
        parser = XMLParser()
        try:
            parser.feed(b"<all>" + together + b"</all>")
            return [_annotation(root) for root in parser.close()]
        except ParseError:
            pass
    if len(texts) == 1:
        return [None]
    return [annotation for text in texts for annotation in read_plain_voc_xml([text])]


def _are_one_annotation_each(texts: Sequence[bytes], together: bytes) -> bool:
    """Whether texts that are well-formed together are so each, and none ends in another.

    Each begins with the only start and ends with the only end of an annotation in it. Without
    comments, sections and instructions, what looks like a tag is one.
    """
    return (
        len(together) <= _MOST_BYTES
        and all(text.startswith(_START) and text.endswith(_ENDS) for text in texts)
        and together.count(b"<annotation") == together.count(b"</annotation") == len(texts)
        and b"<!" not in together
        and b"<?" not in together
    )


def _annotation(root: Element) -> VocAnnotation | None:
    size: dict[str, str] = {}
    objects = []
    try:
        for child in root:
            if child.tag == "object":
                objects.append(_object(child))
            elif child.tag == "size":
                if size:
                    return None
                size = _texts(child)
        width, height = int(size["width"]), int(size["height"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
        return None
    return VocAnnotation(width, height, objects)


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
