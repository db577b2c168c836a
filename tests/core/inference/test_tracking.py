"""Ids of objects: crossing, gaps, classes, scores, second boxes, frames without detections."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from sparsevod_core.config import TrackConfig
from sparsevod_core.errors import ConfigError
from sparsevod_core.inference.tracking import Tracker, track
from sparsevod_core.structures import Detections, Frame, FrameDetections

Box = tuple[float, float, float, float]
Found = tuple[Box, int, float]
"""Box, class and score."""

STILL: Box = (10, 10, 50, 50)


def frames(*content: Sequence[Found]) -> list[FrameDetections]:
    """Return a frame with these detections, best first, for each argument."""
    image = np.zeros((2, 2, 3), np.uint8)
    found = [sorted(frame, key=lambda one: -one[2]) for frame in content]
    return [
        FrameDetections(
            Frame(index, None, image),
            Detections(
                np.array([box for box, _, _ in frame], np.float32).reshape(-1, 4),
                np.array([score for _, _, score in frame], np.float32),
                np.array([label for _, label, _ in frame], np.int64),
            ),
        )
        for index, frame in enumerate(found)
    ]


def ids(content: Sequence[Sequence[Found]], **settings: float) -> list[list[int]]:
    pytest.importorskip("trackers", reason="the extra `track` is not installed")
    found = track(frames(*content), TrackConfig(**settings))  # type: ignore[arg-type]
    return [frame.track_ids.tolist() for frame in found]  # type: ignore[union-attr]


def moving(x: float, y: float, label: int = 0, score: float = 0.9) -> Found:
    return (x, y, x + 40, y + 40), label, score


def test_an_object_gets_its_id_when_it_was_seen_often_enough() -> None:
    assert ids([[(STILL, 0, 0.9)]] * 4) == [[-1], [-1], [1], [1]]
    assert ids([[(STILL, 0, 0.9)]] * 4, min_frames=2) == [[-1], [1], [1], [1]]


def test_two_objects_that_cross_keep_their_ids() -> None:
    """They pass at a speed of 6 pixels; in the middle their boxes overlap."""
    content = [
        [moving(6 * n, 10, score=0.9), moving(120 - 6 * n, 22, score=0.8)] for n in range(21)
    ]
    found = ids(content)
    assert found[2:] == [[1, 2]] * 19


def test_a_gap_is_bridged_up_to_a_length() -> None:
    seen: list[Found] = [(STILL, 0, 0.9)]
    for gap, expected in ((3, 1), (4, 2)):
        content = [*[seen] * 4, *[[]] * gap, *[seen] * 3]
        found = ids(content, max_lost=3)
        assert found[4 : 4 + gap] == [[]] * gap
        assert found[-1] == [expected]
    # The frames of a gap count, even if nothing at all is detected in them.
    assert ids([*[seen] * 4, seen, seen], max_lost=0)[-1] == [1]
    assert ids([*[seen] * 4, [], seen, seen, seen], max_lost=0)[-3:] == [[-1], [-1], [2]]


def test_an_object_never_changes_its_class() -> None:
    content = [[(STILL, 0, 0.9)]] * 4 + [[(STILL, 1, 0.9)]] * 4
    assert ids(content) == [[-1], [-1], [1], [1], [-1], [-1], [2], [2]]
    both = [[(STILL, 0, 0.9), (STILL, 1, 0.8)]] * 3
    assert ids(both)[-1] == [1, 2]


def test_ids_count_from_one_in_the_order_of_appearance_whatever_the_class() -> None:
    content = [
        [*([moving(200, 10, 5)] if n >= 4 else []), *([moving(10, 10, 7, 0.8)] if n >= 2 else [])]
        for n in range(8)
    ]
    assert ids(content)[-1] == [2, 1]


def test_low_scores_take_no_part() -> None:
    content = [[moving(10, 10, score=0.9), moving(200, 10, score=0.3)]] * 3
    assert ids(content)[-1] == [1, -1]
    assert ids(content, min_score=0.2)[-1] == [1, 2]


def test_a_second_box_of_an_object_has_no_id() -> None:
    """It would start another object, whose id the first one may take over."""
    second: Found = ((11, 11, 51, 51), 0, 0.5)
    content = [[(STILL, 0, 0.9), second]] * 4
    assert ids(content)[-1] == [1, -1]
    assert ids(content, max_overlap=1)[-1] == [1, 2]


def test_frames_and_videos_without_detections() -> None:
    assert ids([[]] * 3) == [[], [], []]
    assert ids([]) == []
    assert ids([[], [(STILL, 0, 0.9)], []]) == [[], [-1], []]


def test_the_same_detections_give_the_same_ids_and_each_video_starts_anew() -> None:
    generator = np.random.default_rng(0)
    content = [
        [
            moving(30 * k + generator.normal(0, 6), 40 * k, k % 2, generator.uniform(0.2, 1))
            for k in range(8)
        ]
        for _ in range(40)
    ]
    first = ids(content)
    assert first == ids(content)
    known = [one for frame in first for one in frame if one > 0]
    assert sorted(set(known)) == list(range(1, max(known) + 1)) and max(known) > 8


def test_lost_objects_are_forgotten() -> None:
    """Streams run for days."""
    pytest.importorskip("trackers", reason="the extra `track` is not installed")
    tracker = Tracker(TrackConfig(min_frames=2, max_lost=0))
    for frame in frames(*[[moving(200 * (n // 2), 10)] for n in range(100)]):
        found = tracker.update(frame)
    assert found.track_ids is not None and found.track_ids.tolist() == [50]
    assert len(tracker._ids) == 1


def test_detections_are_kept_and_know_their_ids() -> None:
    pytest.importorskip("trackers", reason="the extra `track` is not installed")
    before = frames(*[[moving(10, 10), moving(200, 10, score=0.1)]] * 3)
    *_, last = track(before)
    for name in ("boxes_xyxy", "scores", "labels"):
        np.testing.assert_array_equal(getattr(last, name), getattr(before[-1], name))
    assert [one.track_id for one in last] == [1, None]
    assert [one.track_id for one in last[1:]] == [None]
    assert str(last[0]) == "class 0 #1 0.90 at (10.0, 10.0, 50.0, 50.0)"
    assert [one.track_id for one in before[-1]] == [None, None]


def test_a_missing_library_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(ConfigError, match="needs the package trackers") as raised:
        track([])
    assert raised.value.hint == "pip install 'sparsevod[track]'"
