"""Encodings of text files that people write labels and class names in."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.class_names import read_class_list, similar_names
from sparsevod_core.prepare.reading.text_file import open_lines, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_of_common_editors(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(f"汽车{end}café{end}".encode(encoding))
    assert read_text(path) == "汽车\ncafé\n"
    assert read_class_list(path, first_id=0) == {0: "汽车", 1: "café"}
    with open_lines(path) as lines:
        assert list(lines) == ["汽车\n", "café\n"]


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        ("car\n汽车\n".encode("gb18030"), 2, "got the byte 0x"),
        ("car\ncafé\n".encode("latin-1"), 2, "got the byte 0xe9"),
        ("car\n".encode("utf-16-le"), 1, "got a null byte"),
        (b"\xff\xfe\x00", 1, "got the byte 0x00"),
    ],
)
def test_other_encodings_are_refused(tmp_path: Path, data: bytes, line: int, words: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_class_list(path, first_id=0)
    assert caught.value.message.startswith(f"{path}:{line}: expected UTF-8 text, {words}")
    assert "save it as UTF-8" in (caught.value.hint or "")


def test_names_that_look_alike() -> None:
    assert similar_names(["car", "bus", "van", "vans"]) == []
    (case,) = similar_names(["car", "bus", "Car "])
    assert case.startswith("classes 'car' and 'Car ' are different classes here")
    (form,) = similar_names(["caf\u00e9", "cafe\u0301"])
    assert form.startswith("classes 'caf\\xe9' and 'cafe\\u0301' are different")
