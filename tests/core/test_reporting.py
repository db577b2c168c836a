"""Texts of messages: numbers with their units, lists of names."""

from __future__ import annotations

from pathlib import Path

from sparsevod_core.reporting import counted, listed


def test_a_number_has_its_unit_in_singular_or_plural() -> None:
    assert [counted(number, "video") for number in (0, 1, 1200)] == [
        "0 videos",
        "1 video",
        "1,200 videos",
    ]
    assert [counted(2, what) for what in ("box", "class")] == ["2 boxes", "2 classes"]


def test_names_are_listed_with_commas_and_one_and() -> None:
    assert listed(["a"]) == "a"
    assert listed([Path("a"), Path("b")]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
