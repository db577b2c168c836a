"""CVAT XML for videos: frames, tracks, interpolation, projects, and hostile files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from own_sets import HEIGHT, WIDTH, Studio, box_of

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.cvat.parser import CvatBox
from sparsevod_core.prepare.cvat.tracks import fill_track
from sparsevod_core.prepare.reading.label_set import Hints


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def box(number: int, more: str = 'outside="0" occluded="0" keyframe="1"', offset: int = 0) -> str:
    left, top, right, bottom = box_of(number)
    sides = f'xtl="{left}.00" ytl="{top}.00" xbr="{right}.00" ybr="{bottom}.00"'
    return f'<box frame="{number + offset}" {more} {sides} z_order="0">\n</box>'


def task(start: int = 0, stop: int = 5, step: int = 1, more: str = "", identity: int = 1) -> str:
    size = len(range(start, stop + 1, step))
    filter_ = f"<frame_filter>step={step}</frame_filter>" if step > 1 else "<frame_filter/>"
    return (
        f"<task><id>{identity}</id><name>my task</name><size>{size}</size>"
        f"<start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>{filter_}"
        "<labels><label><name>cat</name><type>any</type><attributes/></label>"
        "<label><name>dog</name><attributes><attribute><name>age</name></attribute></attributes>"
        f"</label><label><name>path</name><type>polyline</type></label></labels>{more}"
        f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size></task>"
    )


def xml(tracks: Sequence[str], tasks: str | None = None, source: str = "") -> str:
    named = f"<source>{source}</source>" if source else ""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta>{tasks or task()}<dumped>now</dumped>{named}</meta>\n"
        + "\n".join(tracks)
        + "\n</annotations>\n"
    )


def track(boxes: Sequence[str], label: str = "dog", more: str = "") -> str:
    return (
        f'<track id="0" label="{label}" source="manual" {more}>\n' + "\n".join(boxes) + "</track>"
    )


@pytest.mark.parametrize("place", ["clip.mp4", "videos/clip.mp4"])
def test_every_frame_exported_beside_a_video(studio: Studio, place: str) -> None:
    studio.video(place, 6)
    end = box(4, 'outside="1" occluded="0" keyframe="1"')
    boxes = [box(number, 'outside="0" keyframe="0"') for number in range(4)]
    studio.write("job.xml", xml([track([*boxes, end])], source="clip.mp4"))
    assert studio.problems("cvat") == []
    assert studio.shown().popitem()[1] == [(number, [2], [0]) for number in range(4)]
    content = json.loads((studio.out / "all.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert len(content["images"]) == 6
    assert all(box["generated"] for box in content["annotations"])


def test_boxes_between_keyframes_are_interpolated(studio: Studio) -> None:
    """The drawn rectangle moves evenly, so interpolated boxes must match it exactly."""
    studio.video("clip.mp4", 6)
    boxes = [box(0), box(4), box(5, 'outside="1" keyframe="1"')]
    studio.write("clip.xml", xml([track(boxes)]))
    assert studio.problems("cvat") == []
    assert [number for number, _, _ in studio.shown()["clip"]] == [0, 1, 2, 3, 4]
    content = json.loads((studio.out / "all.json").read_text())
    assert [box["generated"] for box in content["annotations"]] == [False, *[True] * 3, False]


def test_a_track_continues_until_it_is_outside(studio: Studio) -> None:
    first = CvatBox(1, 2, (0, 0, 10, 10), 0, False, True, True)
    gone = CvatBox(2, 6, (8, 0, 18, 10), 0, True, False, True)
    again = CvatBox(3, 8, (20, 0, 30, 10), 0, False, False, True)
    filled = list(fill_track([again, first, gone], range(0, 12, 2)))
    assert [number for _, number in fill_track([again, gone], [1, 3, 8])] == [
        8
    ]  # frames that exist
    assert [(number, box.box_xyxy, box.is_keyframe) for box, number in filled] == [
        (2, (0, 0, 10, 10), True),
        (4, (4, 0, 14, 10), False),
        (8, (20, 0, 30, 10), True),
        (10, (20, 0, 30, 10), False),
    ]
    assert filled[1][0].is_occluded and not filled[3][0].is_occluded


def test_a_task_of_every_second_frame(studio: Studio) -> None:
    studio.video("clip.mp4", 10)
    tasks = task(1, 7, 2)
    studio.write("clip.xml", xml([track([box(1), box(7)])], tasks))
    (split,) = studio.prepare("cvat")
    assert split.problems == [] and split.num_frames == 4
    assert [number for number, _, _ in studio.shown()["clip"]] == [1, 3, 5, 7]


@pytest.mark.parametrize("name", ["frame_{:06d}.png", "{}.jpg"])
def test_an_export_with_images(studio: Studio, name: str) -> None:
    for number in range(6):
        studio.image("images/" + name.format(number), number)
    studio.write("annotations.xml", xml([track([box(0), box(5)], "cat")]))
    assert studio.problems("cvat") == []
    assert studio.shown() == {"images": [(number, [1], [0]) for number in range(6)]}


def test_frame_numbers_continue_across_tasks_of_a_project(studio: Studio) -> None:
    """See CVAT's ProjectData: numbering continues after earlier tasks of the same subset."""
    for name in ("a", "b", "c"):
        studio.video(f"{name}.mp4", 6)
    tasks = [
        task(identity=7, more="<subset>Train</subset><source>a.mp4</source>"),
        task(1, 5, 2, identity=8, more="<subset>Train</subset><source>b.mp4</source>"),
        task(identity=9, more="<subset>Validation</subset><source>c.mp4</source>"),
    ]
    tracks = [
        track([box(5)], more='task_id="7"'),
        track([box(3, offset=6), box(5, 'outside="1"', offset=6)], more='task_id="8"'),
        track([box(2), box(3, 'outside="1"')], more='task_id="9"'),
    ]
    text = xml(tracks, f"<project><id>3</id><tasks>{''.join(tasks)}</tasks></project>")
    studio.write("annotations.xml", text)
    train, val = studio.prepare("cvat", output=studio.out)
    assert train.problems == val.problems == []
    assert studio.shown(studio.out / "train.json") == {"a": [(5, [2], [0])], "b": [(3, [2], [0])]}
    assert studio.shown(studio.out / "val.json") == {"c": [(2, [2], [0])]}


@pytest.mark.parametrize("start", [3, 6])
def test_a_video_in_both_subsets(studio: Studio, start: int) -> None:
    studio.video("a.mp4", 10)
    tasks = [
        task(identity=7, more="<subset>Train</subset><source>a.mp4</source>"),
        task(start, 9, identity=8, more="<subset>Validation</subset><source>a.mp4</source>"),
    ]
    text = xml([], f"<project><id>3</id><tasks>{''.join(tasks)}</tasks></project>")
    studio.write("annotations.xml", text)
    _, val = studio.prepare("cvat", output=studio.out)
    assert len(val.problems) == (start == 3)
    assert all("a.mp4 is in train from frame 3 on, too" in problem for problem in val.problems)


def test_flags_as_words(studio: Studio) -> None:
    studio.video("clip.mp4", 6)
    flags = 'outside="false" occluded="true" keyframe="false"'
    studio.write("clip.xml", xml([track([box(0, flags), box(1, 'outside="true"')])]))
    assert studio.problems("cvat") == []
    (only,) = json.loads((studio.out / "all.json").read_text())["annotations"]
    assert only["occluded"] and only["generated"]


def test_many_broken_boxes_of_a_track_take_a_few_lines(studio: Studio) -> None:
    studio.video("clip.mp4", 6)
    broken = [box(1).replace('xtl="12.00"', 'xtl=""')] * 5000
    studio.write("clip.xml", xml([track([box(0), *broken, box(1, 'outside="1"')])]))
    problems = studio.problems("cvat")
    assert len(problems) == 4
    assert problems[-1] == "clip.xml:5: 4997 more boxes like these in the track, skipped"


@pytest.mark.parametrize("media", ["images", "video"])
def test_a_task_that_claims_a_billion_frames(studio: Studio, media: str) -> None:
    if media == "video":
        studio.video("clip.mp4", 3)
    for number in range(3 if media == "images" else 0):
        studio.image(f"images/frame_{number:06d}.png", number)
    studio.write("clip.xml", xml([track([box(0), box(2)])], task(stop=10**9 - 2)))
    (problem,) = studio.problems("cvat")
    assert "999999999 frames" in problem or "frame 999999998" in problem
    assert [number for number, _, _ in studio.shown().popitem()[1]] == [0, 1, 2]


def test_an_export_of_one_job(studio: Studio) -> None:
    """Frames of a job are numbered as in the entire video."""
    studio.video("clip.mp4", 10)
    job = task(4, 7).replace("task>", "job>")
    studio.write("clip.xml", xml([track([box(4), box(7)])], job))
    assert studio.problems("cvat") == []
    assert [number for number, _, _ in studio.shown()["clip"]] == [4, 5, 6, 7]


def test_a_rotated_box_is_replaced_by_its_extent(studio: Studio) -> None:
    studio.video("clip.mp4", 6)
    turned = (
        '<box frame="0" outside="0" rotation="90" xtl="20" ytl="20" xbr="40" ybr="30"></box>'
        '<box frame="1" outside="1" xtl="20" ytl="20" xbr="40" ybr="30"></box>'
    )
    studio.write("clip.xml", xml([track([turned])]))
    assert studio.problems("cvat") == []
    content = json.loads((studio.out / "all.json").read_text())
    assert [box["bbox"] for box in content["annotations"]] == [[25, 15, 10, 20]]


@pytest.mark.parametrize(
    ("tracks", "words"),
    [
        ([track([box(1).replace('xtl="12.00"', 'xtl="x"')])], "clip.xml:6: expected a <box>"),
        ([track([box(1).replace('xtl="12.00"', 'xtl="nan"')])], "clip.xml:6: expected a <box>"),
        ([track([box(1), box(1), box(2, 'outside="1"')])], "has a box in frame 1 already"),
        ([track([box(9), box(10, 'outside="1"')])], "frame 9 is not in the task"),
        ([track([box(2), box(2 * 10**9, 'outside="1"')])], "frame 2000000000 is not in the task"),
        ([track([box(n) for n in range(9, 99)])], "skipped (90 such boxes in the track)"),
        ([track([box(1, 'outside="maybe"')])], "clip.xml:6: outside: expected 0, 1, true or false"),
        ([track([box(1)], "cow")], "clip.xml:5: unknown label 'cow'"),
        ([track(['<polygon frame="1" points="1,2;3,4"/>'])], "1 shapes that are not boxes (1 poly"),
    ],
)
def test_problems_of_a_track_are_reported(studio: Studio, tracks: list[str], words: str) -> None:
    studio.video("clip.mp4", 6)
    good = track([box(0), box(1, 'outside="1"')])
    studio.write("clip.xml", xml([*tracks, good]))
    problems = studio.problems("cvat")
    assert len(problems) == 1 and words in problems[0]
    with pytest.raises(DataError):
        studio.prepare("cvat", strict=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (xml([track([box(1)])])[:-60], "broken XML"),
        ('<!DOCTYPE a [<!ENTITY x "y">]>' + xml([]).partition("?>")[2], "document type"),
        ("<annotations></annotations>", "not a CVAT file"),
        (xml(['<image id="0" name="a.png"></image>']), "export the task as `CVAT for video 1.1`"),
        (xml([], task().replace("<size>6</size>", "").replace("stop_frame", "s")), "how many"),
        (xml([], task(0, 5, 2).replace("step=2", "every 2nd")), "expected step=N, got 'every 2nd'"),
        (xml([], source="../../etc/passwd.mp4", tasks=task()), "neither the video"),
        (xml([], source="..", tasks=task()), "neither the video"),
    ],
)
def test_an_invalid_file_does_not_affect_others(studio: Studio, text: str, words: str) -> None:
    for name in ("a", "b"):
        studio.video(f"{name}.mp4", 6)
    studio.write("a.xml", xml([track([box(0), box(1, 'outside="1"')])]))
    studio.write("b.xml" if "neither" not in words else "c.xml", text)
    (problem,) = studio.problems("cvat")
    assert words in problem
    assert [number for number, _, _ in studio.shown()["a"]] == [0]


def test_a_task_longer_than_its_video(studio: Studio) -> None:
    studio.video("clip.mp4", 4)
    studio.write("clip.xml", xml([track([box(0), box(1, 'outside="1"')])]))
    assert studio.problems("cvat") == [
        "clip.mp4: annotated up to frame 5 (counted from 0), but only 4 frames decode"
    ]
    assert [number for number, _, _ in studio.shown()["clip"]] == [0]


def test_videos_elsewhere_and_custom_class_ids(studio: Studio, tmp_path: Path) -> None:
    studio.video("media/clip.mp4", 6)
    names = studio.write("names.txt", "30: dog\n")
    path = studio.write("labels/clip.xml", xml([track([box(0), box(1, 'outside="1"')])]))
    with pytest.raises(DataError, match="neither the video"):
        studio.prepare("cvat", path, hints=Hints(classes=names))
    hints = Hints(classes=names, images=studio.root / "media")
    assert studio.problems("cvat", root=path, hints=hints) == []
    assert studio.shown() == {"clip": [(0, [30], [0])]}


def test_a_video_that_was_scaled_after_labeling_is_refused(studio: Studio) -> None:
    studio.video("clip.mp4", 6)
    text = xml([f'<track id="0" label="cat">{box(0)}</track>'], source="clip.mp4")
    studio.write("clip.xml", text.replace(f"<width>{WIDTH}</width>", f"<width>{2 * WIDTH}</width>"))
    with pytest.raises(DataError, match=r"96x64 pixels, but .*<original_size> is 192x64"):
        studio.prepare("cvat")


def test_cvat_for_images_is_refused_by_name(studio: Studio) -> None:
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}"></image>'
    studio.write("annotations.xml", xml([image]))
    with pytest.raises(DataError, match=r"this is `CVAT for images`.*`CVAT for video 1\.1`$"):
        studio.prepare("cvat")


def test_two_videos_that_a_name_can_mean_are_not_chosen_from(studio: Studio) -> None:
    for name in ("clip.avi", "clip.mp4", "other.mp4"):
        studio.video(name, 6)
    studio.write("clip.xml", xml([track([box(0)])], source="clip.mov"))
    studio.write("other.xml", xml([track([box(0)])]))
    (problem,) = studio.problems("cvat")
    assert "'clip.mov' can be any of clip.avi, clip.mp4" in problem
    studio.write("clip.xml", xml([track([box(0)])], source="clip.mp4"))
    assert studio.problems("cvat") == []
