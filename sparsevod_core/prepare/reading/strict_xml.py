"""Strict parsing of untrusted XML: no document types, no entities, errors with file and line."""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat

from sparsevod_core.errors import DataError

_MAX_TEXT = 1 << 16  # characters kept of one element's text


class StrictXmlParser:
    """Base class of the annotation parsers; subclasses override `start` and `end`.

    A document type is refused: without one, no entity can be declared.

    Args:
        path: Path of the file, for error messages.
        root: Expected name of the outermost element.

    Attributes:
        open_tags: Names of the open elements, outermost first.
        text: Text since the last start tag.
    """

    def __init__(self, path: str | Path, root: str) -> None:
        self.open_tags: list[str] = []
        self.text = ""
        self._path = path
        self._root = root
        self._parser = expat.ParserCreate()
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


def root_element(path: Path) -> str:
    """Return the name of an XML file's outermost element, "" if its first 4 KiB do not show it."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return ""
    for piece in head.split(b"<")[1:]:
        if not piece.startswith((b"?", b"!")):
            words = piece.replace(b">", b" ").replace(b"/", b" ").split(maxsplit=1)
            return words[0].decode(errors="replace") if words else ""
    return ""
