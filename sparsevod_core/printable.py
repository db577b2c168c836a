"""Text from untrusted files, such as class names, without what controls a terminal."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # parts of words in Persian and Indian scripts, and of emoji


def printable(text: str) -> str:
    """Return the text with `?` for every control character.

    These are the control characters of ASCII and Latin-1, such as escapes, line breaks and tabs;
    invisible format characters, which can reverse the order of the letters; and half surrogates.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(letter: str) -> str:
    is_safe = letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs"
    return letter if is_safe else "?"
