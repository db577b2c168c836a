"""Text from untrusted files without controls of the terminal."""

from __future__ import annotations

import pytest

from sparsevod_core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mEVIL\x1b]0;pwn\x07", "?[31mEVIL?]0;pwn?"),
        ("a\nerror: b\r\tc\x7f", "a?error: b??c?"),
        ("\x9b31m\x85\x90", "?31m??"),
        ("\u202etxt.exe\u2066\u200f\ufeff", "?txt.exe???"),
        ("a\u2028b\u2029", "a?b?"),
        ("\ud800", "?"),
        *[(text, text) for text in ("नि\u200cमा", "👨\u200d👩", "全角\u3000a\u00a0b")],
    ],
)
def test_controls_are_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown
