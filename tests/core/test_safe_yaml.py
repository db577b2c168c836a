"""YAML files of strangers: plain values within limits, or a one-line error."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from sparsevod_core.config import load_config
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.safe_yaml import MAX_BYTES, read_yaml

_BOMB = "a: &a [x, x, x]\n" + "".join(
    f"k{i}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)
)
_MERGE_BOMB = "a: &a {x: y}\n" + "".join(
    f"k{i}: &{chr(98 + i)} {{<<: [{', '.join([f'*{chr(97 + i)}'] * 9)}]}}\n" for i in range(12)
)


def read(folder: Path, content: str | bytes) -> object:
    path = folder / "a.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_yaml(path, DataError)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2001-99-99", {"a": "2001-99-99"}),
        ("[NO, 010, 1:30, 1e5, null, 'off']", ["NO", "010", "1:30", "1e5", "null", "off"]),
        ("{0: ~, 1: '', x: !!int y}", {"0": None, "1": "", "x": "y"}),
        (
            "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}",
            {"a": {"x": "1", "y": "2"}} | {"b": {"x": "1", "y": "3"}},
        ),
        ("# nothing", None),
    ],
)
def test_scalars_are_text(text: str, value: object, tmp_path: Path) -> None:
    assert read(tmp_path, text) == value
    assert read(tmp_path, f"\ufeff{text}".encode("utf-16-le")) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 20_000, "1: not valid YAML: more than 20 levels"),
        ("- " * 20_000, "more than 20 levels"),
        ("? " * 20_000, "more than 20 levels"),
        (_BOMB, "50,000 values"),
        (_MERGE_BOMB, "50,000 values"),
        ("a: &a [*a]", "more than 20 levels"),
        ("a: 1\nb: 2\na: 3", ":3: not valid YAML: 'a' is repeated"),
        ("a: !!python/object/apply:os.getcwd []", "unknown tag"),
        ("a: !!binary x", "unknown tag"),
        ("[a]: b", "expected text as a key"),
        ('a: "\\U0011FFFF"', "not valid YAML"),
        ('a: "\\ud800"', "not valid YAML"),
        (b"a: \xe4b", "not valid YAML"),
        (b"\0", "not valid YAML"),
        ("#" * (MAX_BYTES + 1), "expected at most 1,048,576 bytes"),
    ],
)
def test_hostile_files_are_refused(text: str | bytes, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, text)
    assert expected in caught.value.message
    assert "\n" not in caught.value.message


def test_damaged_files_raise_no_other_error(tmp_path: Path) -> None:
    pieces = [*b"[{&*!<\n:?-'\"\\|>%#\t", 0, 0xE4]
    whole = b"model: {tfe: off, x: &a *a}\n- !!int 3\n<<: {a: 1}\n'x': \"y\\n\"\n"
    for seed in range(300):
        chance, text = random.Random(seed), bytearray(whole)
        for _ in range(chance.choice([1, 4, 10])):
            place = chance.randrange(len(text))
            text[place : place + chance.randrange(3)] = bytes([chance.choice(pieces)])
        try:
            read(tmp_path, bytes(text))
        except DataError as error:
            assert "\n" not in error.message


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=r"a\.yaml: expected a file, got a (named|folder|device)"):
        load_config(file=path)
