"""How image files are grouped into videos by the names that tools and cameras give them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from uuid import UUID

import pytest

from sparsevod_core.prepare.reading.frame_groups import group_frames
from sparsevod_core.prepare.reading.frame_names import split_number


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("000012", ("", 12)),
        ("frame_12", ("", 12)),
        ("IMG-0012", ("", 12)),
        ("img000012", ("", 12)),
        ("frame12_jpg", ("", 12)),
        ("cam1_000012", ("cam1", 12)),
        ("cam1_frame_000012", ("cam1", 12)),
        ("clip.mp4_000012", ("clip.mp4", 12)),
        ("clip (12)", ("clip", 12)),
        ("clip (1)_0012", ("clip (1)", 12)),
        ("[left]_12", ("[left]", 12)),
        ("2024-05-01_12", ("2024-05-01", 12)),
        ("clip_mp4-12_jpg.rf.0123abcd4567", ("clip_mp4", 12)),
        ("dataframe12", ("dataframe", 12)),
        ("clip_frame_0012_0", ("clip_0", 12)),
        ("000012_rgb", ("rgb", 12)),
        ("img_12_left", ("left", 12)),
        ("vlcsnap-00012", ("vlcsnap", 12)),
        ("VID_20240501_120000_012", ("VID_20240501_120000", 12)),
        ("clip_01-02-03.040", ("clip", 3_723_040)),
        ("clip_01:02:03", ("clip", 3_723_000)),
        ("clip_1.25s", ("clip", 1250)),
        ("cam_2024-05-01_12-00-01", ("cam", 1_714_564_801_000)),
        ("2024-05-01T12:00:01.5Z", ("", 1_714_564_801_500)),
        ("Screenshot 2024-05-01 at 12.00.01", ("Screenshot", 1_714_564_801_000)),
        ("vlcsnap-2024-05-01-12h00m01s040", ("vlcsnap", 1_714_564_801_040)),
        ("1305031102.175304", ("", 1_305_031_102_175)),
        ("1403636579763555584", ("", 1_403_636_579_763_555_584)),
        ("2024-05-01 12-00-01_0012", ("2024-05-01 12-00-01", 12)),  # a recording and its frame
        ("2024-02-30_12-00-59", ("2024-02-30_12-00", 59)),  # no such day
        ("cam-10.20.30", ("cam-10.20", 30)),
        ("cover", ("cover", None)),
        ("d41d8cd98f00b204e9800998ecf84279", ("d41d8cd98f00b204e9800998ecf84279", None)),
        ("99999999999999999999", ("99999999999999999999", None)),  # beyond 64 bits
    ],
)
def test_a_name_is_a_video_and_a_number(stem: str, expected: tuple[str, int | None]) -> None:
    assert split_number(stem) == expected


def test_frames_of_one_folder_and_name_are_one_video() -> None:
    files = ["s/a/2.jpg", "s/a/10.jpg", "s/b_1.jpg", "s/b_2.jpg", "s/c/x_1.jpg", "s/c/y_1.jpg"]
    groups = {group.name: group for group in group_frames([*files, "s/7.jpg", "s/d/top.jpg"], "s")}
    assert {name: group.files for name, group in groups.items() if group.is_video} == {
        "a": ((2, "s/a/2.jpg"), (10, "s/a/10.jpg")),
        "b": ((1, "s/b_1.jpg"), (2, "s/b_2.jpg")),
        "c/x": ((1, "s/c/x_1.jpg"),),
        "c/y": ((1, "s/c/y_1.jpg"),),
    }
    stills = {name: group.files for name, group in groups.items() if not group.is_video}
    assert stills == {"stills": ((0, "s/7.jpg"),), "d/stills": ((0, "s/d/top.jpg"),)}
    together = {group.name for group in group_frames(files, "s", by_folder=True)}
    assert together == {"a", "c", "s"}


def test_two_videos_never_have_the_same_name() -> None:
    groups = group_frames(["a_1.jpg", "a_2.jpg", "a/1.jpg", "a/2.jpg"])
    assert [group.name for group in groups] == ["a", "a_2"]


def digest(text: str, length: int = 8) -> str:
    return hashlib.md5(text.encode()).hexdigest()[:length]


def uuid(text: str) -> str:
    return str(UUID(digest(text, 32)))


FRAMES = [(video, number) for video in ("clipA", "clipB") for number in (9, 10, 11)]
WHOLE = {"clipA": [9, 10, 11], "clipB": [9, 10, 11]}


def lengths(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the frame numbers by video; stills are without numbers, in the video ""."""
    found: dict[str, list[int]] = {}
    for group in group_frames(f"{name}.jpg" for name in names):
        if group.is_video:
            found[group.name] = [number for number, _ in group.files]
        else:
            found[""] = []
    return found


@pytest.mark.parametrize(
    "name",
    [
        lambda video, n: f"{digest(f'{video}{n}')}-{video}_frame_{n:04d}",  # Label Studio
        lambda video, n: f"{uuid(f'{video}{n}')}-{video}_frame_{n:04d}",
        lambda video, n: f"{digest(f'{video}{n}', 6)}__{video}_{n}",
        lambda video, n: f"{video}_{n:04d}_{digest(f'{video}{n}')}",
        lambda video, n: f"{digest(video)}-{video}_{n}_jpg.rf.{digest(f'{video}{n}', 32)}",
        lambda video, n: f"{n:05d}_{video}",
        lambda video, n: f"{video}-frame{n}",
    ],
)
def test_tools_add_to_the_names(name: Callable[[str, int], str]) -> None:
    found = lengths(name(video, number) for video, number in FRAMES)
    assert {video.removeprefix(f"{digest(video[-5:])}-"): n for video, n in found.items()} == WHOLE


@pytest.mark.parametrize("video", [digest("a"), uuid("a"), "20240501", "facade"])
def test_what_the_frames_share_is_no_hash_of_a_file(video: str) -> None:
    assert lengths(f"{video}-{number}" for number in range(3)) == {video: [0, 1, 2]}


def test_the_frame_number_need_not_be_the_last_one() -> None:
    assert lengths(f"clip_frame_{n:04d}_{cam}" for n in (1, 2) for cam in (0, 1)) == {
        "clip_0": [1, 2],
        "clip_1": [1, 2],
    }
    assert lengths(f"frame_{n}_conf{97 - n}" for n in (1, 2)) == {"conf": [1, 2]}
    assert lengths(f"{n:06d}_1920x1080" for n in (1, 2)) == {"1920x1080": [1, 2]}
    drone = (f"DJI_202405011200{n:02d}_{n:04d}_V" for n in (7, 8, 9))
    assert lengths(drone) == {"DJI_V": [7, 8, 9]}


def test_one_frame_of_each_clip_is_not_a_video() -> None:
    assert len(lengths(f"clip{n}_0001" for n in range(4))) == 4
    assert len(lengths(f"VID_2024050{n}_120000_000{n}" for n in (1, 2))) == 2
    assert len(lengths(["facade-1", "decade-2", "accede-3"])) == 3


@pytest.mark.parametrize(
    "names",
    [
        [f"{n:06d}" for n in range(3)],
        [f"IMG_{n:04d}" for n in range(3)],
        [digest(f"{n}", 32) for n in range(3)],
        [digest(f"{n}") for n in range(30)],
        [uuid(f"{n}") for n in range(3)],
        [f"{n}_{word}" for n, word in enumerate(["cat", "dog", "cow"])],
        [f"{digest(f'{v}{n}')}-frame_{n}" for v in "ab" for n in range(4)],  # of which video?
    ],
)
def test_names_that_say_nothing_are_stills(names: list[str]) -> None:
    assert lengths(names) == {"": []}


def test_the_word_frame_makes_a_video_without_a_name() -> None:
    (group,) = group_frames([f"images/train/frame_{n:06d}.PNG" for n in range(3)], "images/train")
    assert (group.name, group.is_video, len(group.files)) == ("train", True, 3)
