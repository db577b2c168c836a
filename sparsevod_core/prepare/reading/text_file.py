"""Text files of any editor: UTF-8 with or without a byte order mark, or UTF-16 with one.

Nothing tells other encodings apart, so they are refused instead of read as wrong names.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import IO

from sparsevod_core.errors import DataError
from sparsevod_core.input_file import read_limited, require_regular_file
from sparsevod_core.prepare.reading.file_bytes import read_up_to

MAX_BYTES = 16 << 20
"""Limit on the size of a file that is read at once: class names, settings, one frame's labels."""
ENCODING_HINT = (
    "save it as UTF-8 in the editor, or with `iconv -f OLD -t UTF-8`, OLD being e.g. GB18030 or "
    "windows-1252"
)


def read_text(path: Path) -> str:
    """Return the text of a file, with `\\n` at the end of lines.

    Raises:
        DataError: Unreadable, larger than 16 MiB, or of another encoding; with the line.
    """
    try:
        data = read_limited(path, MAX_BYTES, DataError)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    encoding = encoding_of(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: expected UTF-8 text, got the byte 0x{data[error.start]:02x}",
            hint=ENCODING_HINT,
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}:{line}: expected UTF-8 text, got a null byte", hint=ENCODING_HINT)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def open_lines(path: Path) -> IO[str]:
    """Open a file of any size to read its lines; what is not text becomes U+FFFD.

    Raises:
        DataError: It is no regular file.
        OSError: It cannot be opened.
    """
    require_regular_file(path, DataError)
    return path.open(encoding=encoding_of(read_up_to(path, 2)), errors="replace")


def encoding_of(start: bytes) -> str:
    """Return the encoding that the first two bytes of a file tell."""
    return "utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
