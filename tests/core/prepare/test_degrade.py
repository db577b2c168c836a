"""A degraded copy of real videos: its schedule, its frames and its annotations."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import SparseVodError
from sparsevod_core.evaluation.score import evaluate_predictions
from sparsevod_core.prepare.degradations import CLEAR_FRAMES, Burst, Scale, degrade
from sparsevod_core.prepare.degrade import copy
from sparsevod_core.prepare.degrade.copy import degrade_set
from sparsevod_core.prepare.degrade.frames import FrameCopier
from sparsevod_core.prepare.degrade.plan import (
    KINDS,
    burst_frames,
    clear_bursts,
    object_scale,
    plan_video,
)
from sparsevod_core.reporting import SilentReporter

RENDERED = [
    ("motion_blur", 0.9, 0.27722, 0.23494),
    ("defocus", 0.8, 0.27714, 0.24626),
    ("low_light", 0.85, 0.04072, 0.08202),
    ("noise", 0.95, 0.27952, 0.73535),
]
"""Kind, severity, mean and standard deviation of a degraded image."""


class Stopping(SilentReporter):
    """Reporter of a run that the user stops after some frames."""

    def __init__(self, after: int) -> None:
        self.left, self.messages = after, []

    def progress(self, *_: object) -> Any:
        return self

    def __enter__(self) -> Stopping:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.left -= steps
        if self.left <= 0:
            raise KeyboardInterrupt

    def message(self, text: str) -> None:
        self.messages.append(text)

    warning = message


def load(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text()))


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def degraded_images(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [image for image in content["images"] if image["degradation"]]


@st.composite
def tracked_videos(draw: st.DrawFn) -> tuple[int, list[range]]:
    num_frames = draw(st.integers(1, 400))
    spans = st.tuples(st.integers(0, num_frames - 1), st.integers(1, num_frames))
    tracks = draw(st.lists(spans, max_size=12))
    return num_frames, [range(a, min(a + n, num_frames)) for a, n in tracks]


@settings(deadline=None, max_examples=25)
@given(tracked_videos(), st.integers(0, 2**32))
def test_a_schedule_keeps_its_share_and_shows_every_object(
    video: tuple[int, list[range]], seed: int
) -> None:
    num_frames, tracks = video
    bursts = clear_bursts(np.random.default_rng(seed), num_frames, tracks)
    hit = [frame for burst in bursts for frame in range(num_frames) if burst.severity(frame)]
    assert len(hit) == len(set(hit)) <= 0.4 * num_frames
    assert {burst.kind for burst in bursts} <= set(KINDS)
    assert all(0.3 < severity <= 0.75 for burst in bursts for severity in burst.severities)
    for track in tracks:
        assert len(set(track) - set(hit)) >= max(1, CLEAR_FRAMES * len(track))


@pytest.mark.parametrize("num_frames", [10, 25, 300, 3000])
def test_bursts_are_as_long_as_the_video_asks(num_frames: int) -> None:
    low, high = burst_frames(num_frames)
    assert (low, high) == {10: (2, 5), 25: (2, 5), 300: (6, 18), 3000: (15, 45)}[num_frames]
    degraded = []
    for seed in range(20):
        bursts = clear_bursts(np.random.default_rng(seed), num_frames, [range(num_frames)])
        degraded.append(sum(len(burst.severities) for burst in bursts))
        assert all(low <= len(burst.severities) <= high for burst in bursts)
        for one, other in pairwise(bursts):
            assert other.start - (one.start + len(one.severities)) >= low
    assert np.mean(degraded) > 0.3 * num_frames


def test_many_short_tracks_get_shorter_bursts() -> None:
    # Tracks of 6 frames, one after the other: a burst of 6 to 18 frames hides at least one.
    tracks = [range(start, start + 6) for start in range(0, 300, 6)]
    bursts = clear_bursts(np.random.default_rng(0), 300, tracks)
    assert sum(len(burst.severities) for burst in bursts) > 0.1 * 300


def test_an_object_seen_in_one_frame_is_seen_clean() -> None:
    for seed in range(30):
        bursts = clear_bursts(np.random.default_rng(seed), 5, [range(i, i + 1) for i in range(5)])
        assert bursts == []


def test_strength_follows_the_objects_within_the_frame() -> None:
    small, large = object_scale(np.full(9, 20.0), 640), object_scale(np.full(9, 120.0), 640)
    assert small.width_px == pytest.approx(large.width_px / 6)
    assert 0.15 * small.width_px < 10  # a motion blur of severity 0.7 is shorter than half of it
    assert small.grain_px == 2 <= large.grain_px and small.noise < large.noise
    assert object_scale(np.zeros(3), 640).width_px > 20  # boxes without area
    without_boxes, huge = (object_scale(np.full(n, 1e5), 640) for n in (0, 5))
    assert without_boxes == huge and huge.width_px <= 640


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [20, 100])
def test_an_object_is_harder_to_see_but_not_erased_at_half_size(kind: str, side: int) -> None:
    """Check contrast and noise of a dark square, as a detector sees it after downscaling."""
    image = np.full((256, 320, 3), 0.6, np.float32)
    x, y = (320 - side) // 2, (256 - side) // 2
    image[y : y + side, x : x + side] = 0.2
    scale = object_scale(np.array([float(side)]), 640)
    burst = Burst(kind, 0, (0.6,), 0.4)
    degraded = degrade(np.random.default_rng(0), image, burst, 0.6, scale).clip(0, 1)
    before, after = (
        cv2.resize(one, (160, 128), interpolation=cv2.INTER_AREA) for one in (image, degraded)
    )
    x, y, half = x // 2, y // 2, side // 2
    inside, outside = after[y : y + half, x : x + half], after[:20]
    assert np.abs(after - before).max() > 0.1
    assert outside.mean() - inside.mean() > 0.06
    assert outside.mean() - inside.mean() > 3 * outside.std() / half


def test_the_rendered_set_did_not_change() -> None:
    """Compare with means and deviations of an image degraded before real videos were."""
    x = np.linspace(0, 1, 150, dtype=np.float32)
    image = np.stack([np.outer(np.sin(9 * x[:101]) ** 2, np.cos(7 * x) ** 2)] * 3, axis=-1)
    for kind, severity, mean, deviation in RENDERED:
        rng = np.random.default_rng(4)
        one = degrade(rng, image, Burst(kind, 0, (severity,), 0.7), severity, Scale(150))
        assert one.mean() == pytest.approx(mean, abs=2e-4)
        assert one.std() == pytest.approx(deviation, abs=2e-4)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory, image_set: Any, video_set: Any) -> Path:
    folder = tmp_path_factory.mktemp("degraded")
    degrade_set(image_set.annotations, folder / "images", seed=3, workers=1)
    degrade_set(video_set.annotations, folder / "videos", seed=3, workers=1)
    return folder


@pytest.fixture(params=["images", "videos"])
def case(request: pytest.FixtureRequest, copies: Path, image_set: Any, video_set: Any) -> Any:
    """Return the annotations of a set, and the folder of its copy."""
    source = image_set if request.param == "images" else video_set
    return source.annotations, copies / request.param


def test_annotations_differ_only_in_files_and_degradation(case: Any) -> None:
    annotations, output = case
    before, after = load(annotations), load(output / "annotations.json")
    assert after["info"]["degraded"] == {"seed": 3, "share": 0.4, "version": copy.VERSION}
    assert after["annotations"] == before["annotations"]
    assert after["categories"] == before["categories"]
    for one, other in zip(before["images"], after["images"], strict=True):
        assert other.keys() - one.keys() <= {"degradation", "width", "height"}
        assert all(other[key] == one[key] for key in one if key != "file_name")
    for one, other in zip(before["videos"], after["videos"], strict=True):
        assert other == {key: one[key] for key in one if key != "file_name"}
    assert all(set(image["degradation"]) <= set(KINDS) for image in after["images"])
    by_video = defaultdict(list)
    for image in after["images"]:
        by_video[image.get("video_id")].append(bool(image["degradation"]))
    assert any(map(any, by_video.values())) and not any(by_video[None])  # stills stay clean
    assert all(sum(hit) <= 0.4 * len(hit) for hit in by_video.values())


def test_pixels_differ_only_in_degraded_frames(case: Any) -> None:
    annotations, output = case
    before, after = VideoSet.load(annotations), VideoSet.load(output / "annotations.json")
    degraded = {image["id"] for image in degraded_images(load(output / "annotations.json"))}
    changes: dict[bool, list[float]] = {True: [], False: []}
    with closing(FrameReader(before)) as source, closing(FrameReader(after)) as copied:
        for frame in range(before.num_frames):
            assert before.image_id(frame) == after.image_id(frame)
            change = np.abs(source.read(frame).astype(int) - copied.read(frame)).mean()
            changes[after.image_id(frame) in degraded].append(float(change))
    # JPEG changes the clean frames of video files, a little.
    assert max(changes[False]) < min(changes[True], default=99)
    assert max(changes[False]) < 8


def test_clean_image_files_are_copied_unchanged(image_set: Any, copies: Path) -> None:
    before = load(image_set.annotations)
    after = load(copies / "images" / "annotations.json")
    for one, other in zip(before["images"], after["images"], strict=True):
        if not other["degradation"]:
            copied = copies / "images" / other["file_name"]
            source = image_set.annotations.parent / one["file_name"]
            assert copied.read_bytes() == source.read_bytes()


def test_a_copy_without_degraded_frames_says_so(image_set: Any, tmp_path: Path) -> None:
    content = load(image_set.annotations)
    stills = [image for image in content["images"] if image.get("video_id") is None]
    more = [{**image, "id": image["id"] + 10**6} for image in stills]
    (tmp_path / "stills.json").write_text(
        json.dumps(content | {"videos": [], "images": stills + more, "annotations": []})
    )
    reporter = Stopping(10**6)
    copied = degrade_set(
        tmp_path / "stills.json",
        tmp_path / "out",
        seed=3,
        root=image_set.annotations.parent,
        reporter=reporter,
    )
    assert copied.degraded_frames == {} and copied.doubts == []
    (message,) = [text for text in reporter.messages if "no frame is degraded" in text]
    assert message.startswith(f"{tmp_path / 'stills.json'}: ")


def test_a_clean_image_of_an_unusual_name_becomes_a_jpeg_file(
    image_set: Any, tmp_path: Path
) -> None:
    content = load(image_set.annotations)
    (image,) = [image for image in content["images"] if image.get("video_id") is None][:1]
    pixels = np.zeros((image["height"], image["width"], 3), np.uint8)
    encoded = cv2.imencode(".png", pixels)[1].tobytes()
    (tmp_path / "frame.jfif").write_bytes(encoded)
    image["file_name"] = "frame.jfif"
    (tmp_path / "one.json").write_text(
        json.dumps(content | {"videos": [], "images": [image], "annotations": []})
    )
    degrade_set(tmp_path / "one.json", tmp_path / "out", seed=3)
    (written,) = (tmp_path / "out").rglob("*.jpg")
    assert written.read_bytes().startswith(b"\xff\xd8")


def test_eval_reports_degraded_and_clean_frames(case: Any, tmp_path: Path) -> None:
    content = load(case[1] / "annotations.json")
    keys = ("image_id", "category_id", "bbox")
    found = [{key: box[key] for key in keys} | {"score": 0.9} for box in content["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps(found))
    result = evaluate_predictions(case[1] / "annotations.json", tmp_path / "found.json").to_dict()
    num_degraded = len(degraded_images(content))
    assert result["degraded"]["num_frames"] == num_degraded > 0
    assert result["clean"]["num_frames"] == len(content["images"]) - num_degraded
    assert result["degraded"]["AP"] == result["clean"]["AP"] == 1


def test_threads_do_not_change_a_byte(case: Any, tmp_path: Path) -> None:
    annotations, output = case
    degrade_set(annotations, tmp_path / "out", seed=3, workers=3)
    assert files(tmp_path / "out") == files(output)
    degrade_set(annotations, tmp_path / "other", seed=4, workers=3)
    assert files(tmp_path / "other") != files(output)


def test_a_video_is_degraded_alike_in_any_set(video_set: Any, tmp_path: Path) -> None:
    content = load(video_set.annotations)
    content["videos"].reverse()
    (tmp_path / "reversed.json").write_text(json.dumps(content))
    forward = VideoSet.load(video_set.annotations)
    backward = VideoSet.load(tmp_path / "reversed.json", video_set.annotations.parent)
    for video in range(forward.num_videos):
        one, other = plan_video(forward, video, 3), plan_video(backward, ~video % 3, 3)
        assert forward.video_name(video) == backward.video_name(~video % 3)
        assert (one.bursts, one.scale, one.seed) == (other.bursts, other.scale, other.seed)


def test_a_stopped_run_resumes_to_the_same_bytes(case: Any, tmp_path: Path) -> None:
    annotations, output = case
    videos = VideoSet.load(annotations)
    num_frames = len(videos.video_frames(0)) + 2  # stops in the second video
    reporter = Stopping(num_frames)
    with pytest.raises(KeyboardInterrupt):
        degrade_set(annotations, tmp_path / "out", seed=3, workers=2, reporter=reporter)
    assert "run the same command to resume" in reporter.messages[0]
    kept = files(tmp_path / "out")
    assert "annotations.json" not in kept and len(kept) == len(videos.video_frames(0)) + 1
    degrade_set(annotations, tmp_path / "out", seed=3, workers=2)
    assert files(tmp_path / "out") == files(output)


def test_finished_videos_are_not_made_again(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(case[1], tmp_path / "out")
    monkeypatch.setattr(FrameCopier, "write", lambda *_: 1 / 0)
    degrade_set(case[0], tmp_path / "out", seed=3)
    assert files(tmp_path / "out") == files(case[1])


def test_a_dry_run_counts_and_writes_nothing(case: Any, tmp_path: Path) -> None:
    planned = degrade_set(case[0], tmp_path / "out", seed=3, dry_run=True)
    assert not (tmp_path / "out").exists() and planned.file is None
    degraded = degraded_images(load(case[1] / "annotations.json"))
    assert sum(planned.degraded_frames.values()) == len(degraded)
    for kind, number in planned.degraded_frames.items():
        assert number == sum(kind in image["degradation"] for image in degraded)


def test_names_cannot_leave_the_output(video_set: Any, tmp_path: Path) -> None:
    content = load(video_set.annotations)
    for video, name in zip(content["videos"], ("../../a", "/etc/b", "é" * 300), strict=True):
        video["name"] = name
    (tmp_path / "set.json").write_text(json.dumps(content))
    output = tmp_path / "x" / "y" / "out.json"
    degrade_set(tmp_path / "set.json", output, seed=0, root=video_set.annotations.parent)
    found = {path.name for path in tmp_path.rglob("*") if path.is_dir()}
    assert {"x", "y", "out", "00000_______a", "00001__etc_b"} < found and len(found) == 6
    copied = VideoSet.load(output)
    assert [copied.video_name(video) for video in range(3)][:2] == ["../../a", "/etc/b"]
    assert all(copied.frame_path(frame)[0].is_file() for frame in range(copied.num_frames))


def refused(annotations: Path, output: Path | None, **options: Any) -> str:
    with pytest.raises(SparseVodError) as error:
        degrade_set(annotations, output, **{"seed": 3} | options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_seed_or_other_annotations_are_refused(case: Any, tmp_path: Path) -> None:
    shutil.copytree(case[1], tmp_path / "out")
    before = files(tmp_path / "out")
    assert "contains a degraded copy with another seed" in refused(
        case[0], tmp_path / "out", seed=5
    )
    changed = load(case[0])
    changed["images"][0]["note"] = "changed"
    (tmp_path / "annotations.json").write_text(json.dumps(changed))
    message = refused(tmp_path / "annotations.json", tmp_path / "out", root=case[0].parent)
    assert "contains a degraded copy of other annotations or frames" in message
    assert files(tmp_path / "out") == before


def test_nothing_else_is_overwritten(case: Any, tmp_path: Path) -> None:
    assert "the annotations, which is never overwritten" in refused(case[0], case[0].parent)
    (tmp_path / "mine.json").write_text('{"info": {"tool": "sparsevod 0.1.0"}}')
    assert "is not annotations of a degraded copy" in refused(case[0], tmp_path / "mine.json")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "mine.txt").write_text("mine")
    assert "contains something else" in refused(case[0], tmp_path)
    assert "a degraded copy needs a place" in refused(case[0], None)
    assert files(tmp_path).keys() == {"mine.json", "annotations/mine.txt"}


def test_a_copy_is_not_degraded_again(case: Any, tmp_path: Path) -> None:
    assert "already degraded" in refused(case[1] / "annotations.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unreadable_frame_is_named(image_set: Any, video_set: Any, tmp_path: Path) -> None:
    assert "missing.json" in refused(tmp_path / "missing.json", tmp_path / "out")
    for kind, source in (("image", image_set), ("video", video_set)):
        root = tmp_path / kind
        shutil.copytree(source.annotations.parent, root)
        target = root / load(source.annotations)["images"][3]["file_name"]
        if kind == "image":
            target.write_bytes(b"no image")
            assert str(target) in refused(root / "annotations.json", tmp_path / "out")
            target.unlink()
            assert str(target) in refused(root / "annotations.json", tmp_path / "out")
        else:
            (root / "long.mp4").write_bytes((root / "long.mp4").read_bytes()[:200])
            assert "long.mp4" in refused(root / "annotations.json", tmp_path / "out2")
