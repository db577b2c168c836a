"""An interrupted conversion resumes to the same bytes, or starts again if the data changed."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.prepare.conversion.convert import convert
from sparsevod_core.prepare.conversion.output import Origin
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo, LabeledBox
from sparsevod_core.reporting import SilentReporter

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]


@dataclass(frozen=True)
class Source:
    name: str


SOURCES = [Source(f"video {number}") for number in range(8)]


@dataclass
class KeptMessages(SilentReporter):
    """Reporter that keeps the messages."""

    messages: list[str] = field(default_factory=list)

    def message(self, text: str) -> None:
        self.messages.append(text)


@dataclass
class Data:
    """Reader that can be interrupted.

    Attributes:
        stop_at: Number of videos that can be read.
        changes: Time of the last change of each video, and of its files.
        problems: Problem of each video.
        read_names: Videos that were read.
    """

    stop_at: int = 100
    changes: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    read_names: list[str] = field(default_factory=list)

    def __call__(self, source: Source) -> AnnotatedVideo:
        if len(self.read_names) == self.stop_at:
            raise KeyboardInterrupt
        self.read_names.append(source.name)
        number = int(source.name.split()[1])
        video = AnnotatedVideo(source.name, is_video=number % 3 != 1)
        for index in range(1 + number % 4):
            boxes = [
                LabeledBox(3 if track else 9, (1, 2, 30 + index, 40.5), track, motion_iou=0.7)
                for track in range(index)
            ]
            frame = AnnotatedFrame(f"{number}/{index}.jpg", index, 64, 48, boxes, is_target=True)
            video.frames.append(frame)
        if source.name in self.problems:
            video.problems.append(self.problems[source.name])
        return video

    def last_change(self, source: Source, every_file: bool) -> int:
        return self.changes.get(source.name, (1, 1))[every_file]


def run(
    data: Data,
    file: Path,
    *,
    key: str = "a tree",
    sources: Sequence[Source] = SOURCES,
    strict: bool = False,
    with_origin: bool = True,
    info: dict[str, Any] | None = None,
) -> tuple[PreparedSplit, list[str]]:
    reporter = KeptMessages()
    result = convert(
        sources,
        data,
        PreparedSplit("train", file),
        categories=CATEGORIES,
        info=info or {"root": "."},
        strict=strict,
        reporter=reporter,
        origin=Origin(key, data.last_change) if with_origin else None,
    )
    return result, reporter.messages


@pytest.fixture
def expected(tmp_path: Path) -> tuple[PreparedSplit, bytes]:
    """Return counts and bytes of an uninterrupted run."""
    result, messages = run(Data(), tmp_path / "whole" / "train.json")
    assert messages == [] and [p.name for p in (tmp_path / "whole").iterdir()] == ["train.json"]
    assert result.file is not None
    return result, result.file.read_bytes()


def interrupt(file: Path, stop_at: int, **options: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Data(stop_at, **options), file)


def assert_same(found: PreparedSplit, expected: tuple[PreparedSplit, bytes]) -> None:
    assert found.file is not None and found.file.read_bytes() == expected[1]
    for name in ("num_videos", "num_frames", "num_stills", "num_empty", "boxes_per_class"):
        assert getattr(found, name) == getattr(expected[0], name)
    assert [path.name for path in found.file.parent.iterdir()] == [found.file.name]


@pytest.mark.parametrize("stops", [[1], [3], [7], [8], [2, 1, 3]])
def test_resumes_to_the_same_bytes(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes], stops: list[int]
) -> None:
    file = tmp_path / "out" / "train.json"
    for stop in stops:
        if stop < len(SOURCES):
            interrupt(file, stop)
    data = Data()
    result, messages = run(data, file)
    num_done = sum(stops) % len(SOURCES)
    assert data.read_names == [source.name for source in SOURCES[num_done:]]
    assert bool(messages) == bool(num_done)
    if messages:
        assert f"resuming after {num_done} finished folders" in messages[0]
    assert_same(result, expected)


def test_an_interruption_is_reported_and_the_old_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    old = '{"info": {"tool": "sparsevod 0.1"}}'
    file.write_text(old)
    reporter = KeptMessages()
    with pytest.raises(KeyboardInterrupt):
        convert(
            SOURCES,
            data := Data(3),
            PreparedSplit("train", file),
            categories=CATEGORIES,
            info={},
            strict=False,
            reporter=reporter,
            origin=Origin("", data.last_change),
        )
    kept = f"{file}: finished videos are kept; run the same command to resume"
    assert reporter.messages == [kept]
    assert file.read_text() == old


def test_nothing_is_kept_without_an_origin_or_a_frame(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Data(3), tmp_path / "train.json", with_origin=False)
    interrupt(tmp_path / "train.json", 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["key", "sources", "info"])
def test_another_origin_starts_again_and_says_so(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes], change: str
) -> None:
    file = tmp_path / "out" / "train.json"
    interrupt(file, 3)
    data, options = Data(), {"key": {"key": "b"}, "sources": {}, "info": {"info": {"root": ".."}}}
    sources = SOURCES[1:] if change == "sources" else SOURCES
    result, messages = run(data, file, sources=sources, **options[change])
    assert "reading 3 finished folders again" in messages[0] and len(messages) == 1
    assert data.read_names == [source.name for source in sources]
    if change == "key":
        assert_same(result, expected)


def test_a_changed_video_and_all_later_ones_are_read_again(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes]
) -> None:
    file = tmp_path / "out" / "train.json"
    interrupt(file, 5)
    data = Data(changes={"video 2": (2, 2)})
    result, messages = run(data, file)
    assert "reading 3 finished folders again" in messages[0]
    assert "resuming after 2 finished folders" in messages[1]
    assert data.read_names == [source.name for source in SOURCES[2:]]
    assert_same(result, expected)


def test_files_of_videos_with_problems_are_checked_for_changes(tmp_path: Path) -> None:
    file = tmp_path / "out" / "train.json"
    problems = {"video 1": "a.xml:3: broken"}
    interrupt(file, 5, problems=problems)
    data = Data(5, problems=problems, changes={"video 0": (1, 2)})
    assert run(data, file)[0].problems == ["a.xml:3: broken"]
    assert len(data.read_names) == 3  # the files of video 0 are not checked
    file.unlink()
    interrupt(file, 5, problems=problems)
    mended = Data(changes={"video 1": (1, 2)})
    assert run(mended, file)[0].problems == []
    assert mended.read_names == [source.name for source in SOURCES[1:]]


def test_strict_stops_keep_what_is_done_and_stop_there_again(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes]
) -> None:
    file = tmp_path / "out" / "train.json"
    problems = {"video 4": "a.xml:3: broken"}
    with pytest.raises(DataError, match=r"a\.xml:3: broken"):
        run(Data(problems=problems), file, strict=True)
    again = Data(problems=problems)
    with pytest.raises(DataError, match=r"a\.xml:3: broken"):
        run(again, file, strict=True)
    assert again.read_names == ["video 4"]
    assert_same(run(Data(), file, strict=True)[0], expected)
    interrupt(file, 6, problems=problems)  # not strict first
    with pytest.raises(DataError, match=r"a\.xml:3: broken"):
        run(Data(problems=problems), file, strict=True)


@pytest.mark.parametrize("name", ["train.json.partial", "train.json.partial.annotations"])
@pytest.mark.parametrize("damage", ["removed", "short", "long"])
def test_partial_files_that_are_damaged_do_no_harm(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes], name: str, damage: str
) -> None:
    file = tmp_path / "out" / "train.json"
    interrupt(file, 6)
    partial = file.parent / name
    content = partial.read_bytes()
    if damage == "removed":
        partial.unlink()
    else:  # an interrupted write leaves more after the last position, never less
        partial.write_bytes(content[:-300] if damage == "short" else content + b',\n{"id": ')
    data = Data()
    assert_same(run(data, file)[0], expected)
    assert (len(data.read_names) == 2) == (damage == "long")


@pytest.mark.parametrize("cut", [1, 40])
def test_a_journal_whose_last_line_is_interrupt(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes], cut: int
) -> None:
    file = tmp_path / "out" / "train.json"
    interrupt(file, 4)
    journal = file.parent / "train.json.partial.journal"
    journal.write_bytes(journal.read_bytes()[:-cut])
    data = Data()
    assert_same(run(data, file)[0], expected)
    assert len(data.read_names) == 5


@pytest.mark.parametrize("name", ["", ".partial", ".partial.annotations", ".partial.journal"])
def test_files_of_something_else_are_left_alone(tmp_path: Path, name: str) -> None:
    file = tmp_path / "train.json"
    other = tmp_path / f"train.json{name}"
    for content in (b"\xff\x00\n[]\n3\n", b'{"images": []}\n', b"mine"):
        other.write_bytes(content)
        with pytest.raises(ConfigError, match=f"{other.name}: already exists"):
            run(Data(), file)
        assert other.read_bytes() == content and list(tmp_path.iterdir()) == [other]


def test_an_empty_journal_does_no_harm(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes]
) -> None:
    file = tmp_path / "out" / "train.json"
    interrupt(file, 4)
    (file.parent / "train.json.partial.journal").write_bytes(b"")
    assert_same(run(Data(), file)[0], expected)


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    file = tmp_path / "train.json"
    hold = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sparsevod_core.files.lock import locked\n"
        f"with locked([Path({str(file)!r})]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(
            DataError, match=rf"train\.json: is being written by process {other.pid}"
        ):
            run(Data(), file)
        other.communicate()
    assert run(Data(), file)[0].num_videos == 5


def test_file_systems_without_locks_are_written_to(
    tmp_path: Path, expected: tuple[PreparedSplit, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert_same(run(Data(), tmp_path / "out" / "train.json")[0], expected)
