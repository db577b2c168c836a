"""Results files are exact, appear only when complete, and can be resumed from any byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.evaluation.predictions.writer import FramePredictions, PredictionsWriter

VIDEOS = [[11, 12, 13], [7], [21, 20]]
MADE_BY = {"checkpoint": "sha256 12ab", "supports": 6, "clip": True}


def frame(image_id: int) -> FramePredictions:
    """Return the detections of a frame; every third frame has none."""
    count = image_id % 3
    values = np.random.default_rng(image_id).random((count, 5))
    return FramePredictions(image_id, values[:, :4] / 3, values[:, 4], [5, 9][:count])


def writer(path: Path, rank: int = 0, **changes: Any) -> PredictionsWriter:
    return PredictionsWriter(path, VIDEOS, MADE_BY | changes, rank=rank)


def write_all(path: Path) -> bytes:
    whole = writer(path)
    assert whole.begin() == []
    with whole:
        for ids in VIDEOS:
            for id_ in ids:
                whole.write(frame(id_))
    assert not path.exists()
    whole.complete({})
    return path.read_bytes()


def ids_of(frames: list[FramePredictions]) -> list[int]:
    return [found.image_id for found in frames]


def test_a_results_file_keeps_every_digit_and_the_order_of_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "new" / "found.json"
    entries = json.loads(write_all(path))
    expected = [frame(id_) for ids in VIDEOS for id_ in ids]
    assert entries == [
        {"image_id": found.image_id, "category_id": id_, "bbox": box, "score": score}
        for found in expected
        for id_, box, score in zip(
            found.category_ids, found.boxes_xywh.tolist(), found.scores.tolist(), strict=True
        )
    ]
    assert len(path.read_text().splitlines()) == 2 + 4  # one line per frame; 12 and 21 are empty
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["found.json", "found.run.json"]
    record = json.loads((path.parent / "found.run.json").read_text())
    run = {"schema": "sparsevod.predictions/1", "predictions": "found.json", "run": {}}
    assert record == MADE_BY | run


def test_a_file_with_the_name_of_the_record_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "found.run.json").write_text("[1, 2]")
    with pytest.raises(ConfigError, match=r"found\.run\.json"):
        writer(tmp_path / "found.json").begin()


def test_no_detections_give_an_empty_list(tmp_path: Path) -> None:
    empty = PredictionsWriter(tmp_path / "found.json", [[3], [6, 9]], {})
    with empty:
        for id_ in (3, 6, 9):
            empty.write(frame(id_))
    empty.complete({})
    assert json.loads((tmp_path / "found.json").read_text()) == []


@settings(max_examples=60)
@given(st.floats(0, 1))
def test_a_journal_cut_at_any_byte_can_be_resumed(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "found.json"
    journal = path.with_name("found.json.partial")
    whole = writer(path)
    with whole:
        for ids in VIDEOS:
            for id_ in ids:
                whole.write(frame(id_))
    content = journal.read_bytes()
    journal.write_bytes(content[: round(share * len(content))])

    again = writer(path)
    done = ids_of(again.begin(resume=True))
    assert done in ([], [11, 12, 13], [11, 12, 13, 7], [11, 12, 13, 7, 21, 20])
    with again:
        for ids in VIDEOS:
            for id_ in ids:
                if ids[0] not in done:
                    again.write(frame(id_))
    assert journal.read_bytes() == content
    again.complete({})
    assert path.read_bytes() == write_all(path.with_name("other.json"))


def test_recovered_frames_are_exact(tmp_path: Path) -> None:
    first = writer(tmp_path / "found.json")
    with pytest.raises(KeyboardInterrupt), first:
        for id_ in (11, 12, 13, 21):
            first.write(frame(id_))
        raise KeyboardInterrupt
    kept = writer(tmp_path / "found.json").begin(resume=True)
    for got, expected in zip(kept, map(frame, VIDEOS[0]), strict=True):
        assert (got.image_id, list(got.category_ids)) == (expected[0], expected.category_ids)
        np.testing.assert_array_equal(got.boxes_xywh, expected.boxes_xywh)
        np.testing.assert_array_equal(got.scores, expected.scores)


def test_the_number_of_processes_may_change(tmp_path: Path) -> None:
    """Two processes are killed, three resume, then one completes the file."""
    path = tmp_path / "found.json"
    with writer(path, 0) as first, writer(path, 1) as second:
        first.write(frame(11))  # its video stays unfinished
        for id_ in (21, 20):
            second.write(frame(id_))
    main = writer(path)
    assert ids_of(main.begin(resume=True)) == [21, 20]
    with main, writer(path, 1), writer(path, 2) as third:
        third.write(frame(7))
    main = writer(path)
    assert sorted(ids_of(main.begin(resume=True))) == [7, 20, 21]
    with main:
        for id_ in VIDEOS[0]:
            main.write(frame(id_))
    main.complete({})
    assert path.read_bytes() == write_all(tmp_path / "other.json")
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["found.json", "found.run.json", "other.json", "other.run.json"]


def test_a_run_that_wrote_nothing_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such frame"), writer(tmp_path / "found.json"):
        raise DataError("no such frame")
    assert list(tmp_path.iterdir()) == []


def test_a_journal_is_not_overwritten(tmp_path: Path) -> None:
    with writer(tmp_path / "found.json") as first:
        first.write(frame(11))
    with pytest.raises(ConfigError, match=r"found\.json\.partial is from an interrupted") as caught:
        writer(tmp_path / "found.json").begin()
    assert "--resume" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supports": 2}, "made with supports 6, which is 2 now"),
        ({"checkpoint": "sha256 34cd"}, "checkpoint sha256 12ab, which is sha256 34cd now"),
        ({"stride": 1}, "stride None, which is 1 now"),
    ],
)
def test_resuming_with_other_settings_fails(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with writer(tmp_path / "found.json") as first:
        first.write(frame(11))
    with pytest.raises(ConfigError, match=message):
        writer(tmp_path / "found.json", **changes).begin(resume=True)


def test_a_complete_file_cannot_be_resumed(tmp_path: Path) -> None:
    write_all(tmp_path / "found.json")
    with pytest.raises(ConfigError, match="is already complete") as caught:
        writer(tmp_path / "found.json").begin(resume=True)
    assert "--from-predictions" in str(caught.value.hint)


@pytest.mark.parametrize("content", ["my notes", "[1, 2]\n", '{"schema": "other"}\n'])
def test_another_kind_of_file_is_not_changed(tmp_path: Path, content: str) -> None:
    (tmp_path / "found.json.partial").write_text(content)
    with pytest.raises(DataError, match=r"found\.json\.partial: not written by `sparsevod eval`"):
        writer(tmp_path / "found.json").begin(resume=True)
    assert (tmp_path / "found.json.partial").read_text() == content


def test_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"), writer(tmp_path / "file" / "x"):
        pass


@pytest.mark.parametrize(
    "damage",
    [
        b'[{"a": 1}]',
        b"[[1]]",
        b'[20, {"image_id": 20, "category_id": [1], "bbox": [1, 2, 3, 4], "score": 0.5}]',
        b'[20, {"image_id": 20, "category_id": 1, "bbox": [[1], 2, 3, 4], "score": 0.5}]',
        b'[20, {"image_id": 20, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1e999}]',
        b'[20, {"image_id": 20, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]',
        b'[20, {"image_id": 20, "category_id": 1, "bbox": [%b, 2, 3, 4], "score": 1}]'
        % (b"9" * 400),
        b"[" * 100_000 + b"]",
        b"[20, \xff]",
    ],
    ids=range(9),
)
def test_a_damaged_line_ends_a_journal(damage: bytes, tmp_path: Path) -> None:
    with writer(tmp_path / "found.json") as first:
        for id_ in VIDEOS[1]:
            first.write(frame(id_))
    journal = tmp_path / "found.json.partial"
    intact = journal.read_bytes()
    journal.write_bytes(intact + damage + b"\n")
    again = writer(tmp_path / "found.json")
    assert ids_of(again.begin(resume=True)) == list(VIDEOS[1])
    assert journal.read_bytes() == intact


def test_a_frame_twice_is_not_a_finished_video(tmp_path: Path) -> None:
    with writer(tmp_path / "found.json") as first:
        for _ in VIDEOS[0]:
            first.write(frame(VIDEOS[0][0]))
    assert writer(tmp_path / "found.json").begin(resume=True) == []
