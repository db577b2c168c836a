"""Strict parsing of untrusted XML: no document types, no entities, errors with file and line."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.parsers import expat

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.file_bytes import read_up_to

_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_DECLARATION = '<?xml version="1.0" encoding="GB18030"?>'
_INVALID_TOKEN = expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN]
_MULTIBYTE = (
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
    "big5hkscs",
    "shift_jis",
    "cp932",
    "euc_jp",
    "euc_kr",
    "cp949",
)
_MAX_TEXT = 1 << 16  # characters kept of one element's text


class StrictXmlParser:
    """Base class of the annotation parsers; subclasses override `start` and `end`.

    A document type is refused: without one, no entity can be declared.

    Args:
        path: Path of the file, for error messages.
        root: Expected name of the outermost element.
        encoding: Encoding of the text, whatever it declares; None: as declared.

    Attributes:
        open_tags: Names of the open elements, outermost first.
        text: Text since the last start tag.
    """

    def __init__(self, path: str | Path, root: str, encoding: str | None = None) -> None:
        self.open_tags: list[str] = []
        self.text = ""
        self._path = path
        self._root = root
        self._parser = expat.ParserCreate(encoding)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._refuse_document_type

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Handle a start tag; `open_tags` includes it."""

    def end(self, tag: str) -> None:
        """Handle an end tag; `open_tags` still includes it."""

    def feed(self, piece: bytes, *, is_last: bool) -> None:
        """Parse the next piece of the file.

        Raises:
            DataError: Not well-formed, another outermost element, or a document type.
        """
        try:
            self._parser.Parse(piece, is_last)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            if error.code == _INVALID_TOKEN and not _may_be_utf8(piece):
                reason = "expected UTF-8, or a declared encoding as in " + _DECLARATION
            raise self.error(f"broken XML: {reason}", error.lineno) from error
        except (LookupError, ValueError) as error:  # an encoding that Python does not know
            raise self.error(f"broken XML: {error}") from error

    @property
    def line(self) -> int:
        """Current line of the file, counted from 1."""
        return self._parser.CurrentLineNumber

    def error(self, message: str, line: int | None = None) -> DataError:
        """Return an error that names the file and a line (default: the current one)."""
        return DataError(f"{self._path}:{line or self.line}: {message}")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.open_tags and tag != self._root:
            raise self.error(f"expected <{self._root}>, got <{tag}>")
        self.open_tags.append(tag)
        self.text = ""
        self.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self.end(tag)
        self.open_tags.pop()

    def _characters(self, text: str) -> None:
        if len(self.text) < _MAX_TEXT:
            self.text += text

    def _refuse_document_type(self, name: str, *_: object) -> None:
        raise self.error("document type or entity declaration refused")


def transcoded(path: str | Path, text: bytes) -> tuple[bytes, str | None]:
    """Return an XML text as UTF-8, and that name, if it declares an encoding of Asian languages.

    The parser knows UTF-8, UTF-16 and encodings of one byte per letter. Any other text is returned
    as it is, with None.

    Raises:
        DataError: The text is not in the encoding that it declares.
    """
    declared = _DECLARED.match(text[:200])
    name = declared[1].decode().lower() if declared else ""
    if name.startswith("utf-16"):  # what can be read here is not: .NET declares it so
        return text, "utf-8"
    try:
        codec = codecs.lookup(name).name
        if codec not in _MULTIBYTE:
            return text, None
        return text.decode("gb18030" if codec in ("gb2312", "gbk") else codec).encode(), "utf-8"
    except LookupError:
        return text, None
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: broken XML: expected {name}, as declared") from error


def _may_be_utf8(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError as error:
        return error.start > len(piece) - 4  # cut within a letter
    return True


def root_element(path: Path) -> str:
    """Return the name of an XML file's outermost element, "" if its first 4 KiB do not show it."""
    try:
        head = read_up_to(path, 4096)
    except OSError:
        return ""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", errors="replace").encode()
    for piece in head.split(b"<")[1:]:
        if not piece.startswith((b"?", b"!")):
            words = piece.replace(b">", b" ").replace(b"/", b" ").split(maxsplit=1)
            return words[0].decode(errors="replace") if words else ""
    return ""
