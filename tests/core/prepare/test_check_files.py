"""Files compared with the annotations: missing, broken, of another size, too few frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.prepare.checks.findings import Finding
from sparsevod_core.prepare.checks.report import DatasetReport, check_datasets


def check(path: Path, **options: Any) -> DatasetReport:
    (report,), _ = check_datasets([path], **options)
    return report


def file_findings(report: DatasetReport) -> dict[str, Finding]:
    wanted = ("missing_files", "frames_not_found", "broken_files")
    return {one.key: one for one in report.findings if one.key in wanted}


@pytest.fixture
def images(image_set: Any, tmp_path: Path) -> Path:
    """Return a copy of the dataset of PNG frames that a test may damage."""
    shutil.copytree(image_set.annotations.parent, tmp_path / "copy")
    return tmp_path / "copy" / image_set.annotations.name


@pytest.fixture
def video_files(video_set: Any, tmp_path: Path) -> Path:
    """Return a copy of the dataset of MP4 files that a test may damage."""
    shutil.copytree(video_set.annotations.parent, tmp_path / "copy")
    return tmp_path / "copy" / video_set.annotations.name


def file_names(path: Path) -> list[str]:
    return [image["file_name"] for image in json.loads(path.read_text())["images"]]


def test_valid_datasets_have_no_findings(images: Path, video_set: Any) -> None:
    for path, number in ((images, 33), (video_set.annotations, 3)):
        for decode in (False, True):
            report = check(path, decode=decode)
            assert not file_findings(report)
            assert report.files.missing == 0 and report.files.opened == number
    assert check(images).files.images == 33 and report.files.video_files == 3
    assert report.files.decoded == 3


def test_missing_files_are_reported(images: Path) -> None:
    names = file_names(images)
    (images.parent / names[3]).unlink()
    (images.parent / names[-1]).unlink()
    shutil.rmtree((images.parent / names[25]).parent)  # an entire video of 7 frames
    report = check(images)
    found = file_findings(report)["missing_files"]
    assert (found.severity, found.count) == ("error", 9)
    assert set(found.places) == {names[3], names[-1], *names[24:31]}
    assert report.files.missing == 9 and report.files.opened == 24


def test_a_dataset_whose_frames_are_elsewhere(images: Path, tmp_path: Path) -> None:
    """Without --root this is no error: training may use the right root. With it, it is one."""
    moved = tmp_path / "elsewhere" / "set.json"
    moved.parent.mkdir()
    shutil.copy(images, moved)
    (found,) = file_findings(check(moved)).values()
    assert (found.key, found.severity, found.count) == ("frames_not_found", "problem", 33)
    assert "--root" in found.advice
    assert not file_findings(check(moved, root=images.parent))
    (found,) = file_findings(check(moved, root=tmp_path)).values()
    assert (found.key, found.severity) == ("missing_files", "error")


def test_broken_images_and_images_of_another_size(images: Path) -> None:
    import cv2

    names = file_names(images)
    wrong = cv2.imencode(".png", np.zeros((10, 20, 3), np.uint8))[1].tobytes()
    (images.parent / names[0]).write_bytes(wrong)
    (images.parent / names[1]).write_bytes(b"")
    (images.parent / names[2]).write_bytes(b"not an image")
    found = file_findings(check(images))["broken_files"]
    assert (found.severity, found.count) == ("error", 3)
    assert "20x10 pixels, but" in found.places[0] and "96x64" in found.places[0]
    assert all("not an image" in place for place in found.places[1:])
    assert "--decode" in found.advice


def test_decode_opens_all_files_instead_of_a_sample(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparsevod_core.prepare.checks.files.SAMPLED_IMAGES", 5)
    (images.parent / file_names(images)[1]).write_bytes(b"")
    report = check(images)
    assert report.files.opened == 5 and not file_findings(report)
    report = check(images, decode=True)
    assert report.files.opened == 33 and file_findings(report)["broken_files"].count == 1


def test_decode_finds_a_video_with_too_few_frames(video_files: Path) -> None:
    content = json.loads(video_files.read_text())
    narrow = [image for image in content["images"] if image["video_id"] == 11]
    narrow[-1]["frame_id"] = 7  # of 7 frames, counted from 0
    video_files.write_text(json.dumps(content))
    assert "broken_files" not in file_findings(check(video_files))
    found = file_findings(check(video_files, decode=True))["broken_files"]
    (place,) = found.places
    assert "narrow.mp4: 7 frames decode, but the annotations continue to frame 7" in place


def test_videos_missing_broken_or_of_another_size(video_files: Path) -> None:
    content = json.loads(video_files.read_text())
    for image in content["images"]:
        if image["video_id"] == 10:
            image["width"] = 97
    video_files.write_text(json.dumps(content))
    (video_files.parent / "narrow.mp4").write_bytes(b"not a video")
    (video_files.parent / "single.mp4").unlink()
    found = file_findings(check(video_files))
    assert found["missing_files"].places == ("single.mp4",)
    broken = found["broken_files"]
    assert broken.count == 2
    assert "long.mp4 frame 0: 96x64 pixels, but the annotations say 97x64" in broken.places[0]
    assert "narrow.mp4" in broken.places[1]
