"""Streamed JSON equals `json.load`, wherever the buffer is cut, and errors give the place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsevod_core.data import json_stream
from sparsevod_core.data.json_stream import parse_json, stream_sections
from sparsevod_core.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def read(path: Path) -> dict[str, list[Any]]:
    return {key: list(entries) for key, entries in stream_sections(path)}


@given(
    content=st.dictionaries(st.text(), VALUES, max_size=5),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 3),
    ascii_only=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_object_cut_anywhere(
    content: dict[str, Any],
    chunk: int,
    indent: int | None,
    ascii_only: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", chunk)
    path = tmp_path / "any.json"
    text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    if not ascii_only and any(0xD800 <= ord(character) < 0xE000 for character in text):
        return  # not a text file that anything could read
    assert read(path) == {
        key: value if isinstance(value, list) else [value] for key, value in content.items()
    }


def test_entries_left_unread_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{"a": [1, {"b": [2]}, 3], "c": "last"}')
    seen = []
    for key, entries in stream_sections(path):
        seen.append((key, next(entries)))
    assert seen == [("a", 1), ("c", "last")]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "character 0: expected an object"),
        ("[1, 2]", "character 0: expected an object"),
        ('{"a": [1, 2', "character 11: expected ',' or ']'"),
        ('{"a": [1, {"b": 2], "c": 3}', "character 10: Expecting ',' delimiter"),
        ('{"a": [1,]}', "character 9: Expecting value"),
        ('{"a": 1} {', "character 9: expected the end"),
        ('{"a" 1}', "character 5: expected ':'"),
        ("{1: 2}", "expected a name in quotes"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 10_000 + "}", "character 6: Exceeds the limit"),
    ],
)
def test_broken_json_is_located(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in caught.value.message and place in caught.value.message


def test_a_late_error_is_located_in_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK_CHARACTERS", 16)
    text = '{"a": [' + "1," * 500 + "x]}"
    (tmp_path / "late.json").write_text(text)
    with pytest.raises(DataError, match=f"character {text.index('x'):,}: "):
        read(tmp_path / "late.json")


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read(tmp_path / "absent.json")
    with pytest.raises(DataError, match="got a folder"):
        read(tmp_path)
    (tmp_path / "picture.json").write_bytes(b'{"a": "\xff\xd8\xff"}')
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path / "picture.json")


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox": [409.7826232910156, 0.1, 1e-7, 5e-324], "score": 0.8522434830665588}',
        '{"id": 18446744073709551615, "other": -9223372036854775808}',
        '{"a": 1, "a": 2}',
        '["\\ud800", "\\u00e9", 1E5, -0.0]',
    ],
)
@pytest.mark.parametrize("encode", [str, str.encode])
def test_values_are_those_of_the_standard_library(text, encode) -> None:
    assert repr(parse_json(encode(text))) == repr(json.loads(text))


def test_a_whole_number_beyond_64_bits_is_no_whole_number() -> None:
    assert parse_json("123456789012345678901234567890") == 1.2345678901234568e29


def test_nan_is_taken_as_the_standard_library_takes_it() -> None:
    assert math.isnan(parse_json("[NaN]")[0])


@pytest.mark.parametrize("text", ["", "[1,]", '{"a": 01}', "[1] 2", "{'a': 1}", '"\t"'])
def test_what_is_not_json_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)
    with pytest.raises(ValueError, match=r".+"):
        json.loads(text)
