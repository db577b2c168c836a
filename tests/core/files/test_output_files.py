"""Output files: names, temporary files, checks and locks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.files.check import check_outputs
from sparsevod_core.files.kinds import MARKED, json_with
from sparsevod_core.files.lock import lock_file, locked
from sparsevod_core.files.names import beside, fitted
from sparsevod_core.files.new_folder import NewFolder
from sparsevod_core.files.unfinished import Unfinished, write_text, writing

OURS = json_with("sparsevod.eval/1")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- names ----------------------------------------------------------------------------------------


def test_long_names_are_shortened_and_stay_different() -> None:
    assert fitted("car", ".mp4") == "car.mp4"
    long = "車" * 84  # 252 bytes
    shortened = {fitted(long + end, "_detections.mp4") for end in "ab"}
    assert len(shortened) == 2
    for name in shortened:
        assert len(name.encode()) <= 255 and name.endswith("_detections.mp4")
    assert beside(Path("a") / long, ".journal.jsonl").parent == Path("a")


# --- files ----------------------------------------------------------------------------------------


def test_a_file_appears_complete_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with writing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.parent == path.parent
        temporary.write_text("whole")
    assert names(path.parent) == ["a.txt"] and path.read_text() == "whole"
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), writing(path) as temporary:
            temporary.write_text("half")
            raise error
    says = r"a\.txt: cannot write: No space left on device"
    with pytest.raises(DataError, match=says), writing(path):
        raise OSError(28, "No space left on device")
    assert names(path.parent) == ["a.txt"] and path.read_text() == "whole"


def test_remains_are_removed_but_neither_others_nor_those_in_use(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    others = [
        "a.txt.partial",
        "a.txt.0123.partial",
        "b.txt.01234567.partial",
        "a.txt.0123456g.partial",
    ]
    for name in (*others, "a.txt.01234567.partial"):
        (tmp_path / name).write_text(name)
    (tmp_path / "a.txt.89abcdef.partial").mkdir()
    in_use = Unfinished(path)
    write_text(path, "done")
    assert names(tmp_path) == sorted([*others, in_use.temporary.name, "a.txt"])
    in_use.discard()
    assert in_use.temporary.name not in names(tmp_path)


def test_a_file_that_is_given_up_is_removed(tmp_path: Path) -> None:
    Unfinished(tmp_path / "a.txt")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "is_own"),
    [
        (None, True),
        ("", True),
        ('{\n  "schema": "sparsevod.eval/1",\n', True),
        ('{"schema": "sparsevod.eval/2"}', True),
        ('{"schema": "sparsevod.evals/1"}', False),
        ('{"note": "sparsevod.eval/1"}', False),
        ("mine", False),
    ],
)
def test_only_results_of_the_same_kind_are_replaced(
    tmp_path: Path, content: str | None, is_own: bool
) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    if is_own:
        check_outputs([(path, OURS)])
        write_text(path, "new", OURS)
        assert path.read_text() == "new"
        return
    for write in (lambda: check_outputs([(path, OURS)]), lambda: write_text(path, "new", OURS)):
        with pytest.raises(ConfigError, match="already exists, and is not") as refused:
            write()
        assert refused.value.hint
    assert path.read_text() == content


def test_a_mark_is_found_at_both_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for content in (b"made by sparsevod" + bytes(10**6), bytes(10**6) + b"made by sparsevod"):
        path.write_bytes(content)
        check_outputs([(path, MARKED)])
    path.write_bytes(bytes(10**6))
    with pytest.raises(ConfigError):
        check_outputs([(path, MARKED)])


@pytest.mark.parametrize("name", ["x/../in.json", "link.json", "hard.json", "here/in.json"])
def test_an_input_is_found_however_it_is_spelled(tmp_path: Path, name: str) -> None:
    source = tmp_path / "in.json"
    source.write_text('{"schema": "sparsevod.eval/1"}')
    (tmp_path / "link.json").symlink_to(source)
    (tmp_path / "here").symlink_to(tmp_path)
    os.link(source, tmp_path / "hard.json")
    with pytest.raises(ConfigError, match="this is the source, which is never overwritten"):
        check_outputs([(tmp_path / name, OURS)], {source: "the source"})


def test_what_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file/a.json", "a" * 256, f"{'a' * 256}/b"):
        with pytest.raises(DataError, match="cannot write: "):
            check_outputs([(tmp_path / name, OURS)])
        with pytest.raises(DataError, match="cannot write: "):
            write_text(tmp_path / name, "")
    assert names(tmp_path) == ["file"]


def test_a_folder_of_the_same_run_is_replaced_if_no_file_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "crops"
    with NewFolder(path) as folder:
        folder.write("a/1.jpg", b"one")
    with pytest.raises(ConfigError, match="already exists"):
        NewFolder(path)
    (path / "mine.txt").write_text("precious")
    says = r"mine\.txt: was not written by this run"
    with pytest.raises(ConfigError, match=says), NewFolder(path, is_own=True) as folder:
        folder.write("a/1.jpg", b"one")
    assert names(tmp_path) == ["crops"] and names(path) == ["a", "mine.txt"]
    (path / "mine.txt").unlink()
    with NewFolder(path, is_own=True) as folder:
        folder.write("a/1.jpg", b"one")
        folder.write("a/2.jpg", b"two")
    assert names(tmp_path) == ["crops"] and names(path / "a") == ["1.jpg", "2.jpg"]


# --- locks ----------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from sparsevod_core.files.lock import locked
with locked([Path(sys.argv[1])]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_says_who_holds_it_and_ends_with_the_process(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        says = rf"a\.mp4: .* by process {other.pid} on .*, since 20"
        paths = [tmp_path / "b.mp4", tmp_path / "x" / ".." / "a.mp4"]
        with pytest.raises(DataError, match=says), locked(paths):
            pass
        other.kill()
    assert names(tmp_path) == ["a.mp4.lock"]
    with locked([path]), pytest.raises(DataError, match="by this process"), locked([path]):
        pass
    assert names(tmp_path) == []


def test_a_file_with_the_name_of_a_lock_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.mp4.lock").write_text("mine")
    says = r"a\.mp4\.lock: not a lock of sparsevod"
    with pytest.raises(DataError, match=says) as refused, locked([tmp_path / "a.mp4"]):
        pass
    assert refused.value.hint and (tmp_path / "a.mp4.lock").read_text() == "mine"


def test_a_folder_made_for_a_lock_is_removed_with_it(tmp_path: Path) -> None:
    with lock_file(tmp_path / "run" / "run.lock", tmp_path / "run"):
        assert names(tmp_path / "run") == ["run.lock"]
    assert names(tmp_path) == []
