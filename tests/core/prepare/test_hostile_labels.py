"""Damaged label files give a data set that loads, or a one-line error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from own_sets import Studio, box_of, fractions

from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import SparseVodError

LEFT, TOP, RIGHT, BOTTOM = box_of(1)
XML_BOX = f'xtl="{LEFT}" ytl="{TOP}" xbr="{RIGHT}" ybr="{BOTTOM}"'
LABELS = {
    "yolo": ("a/1.txt", f"1 {fractions(1)} 4\n0 {fractions(1)}\n"),
    "mot": ("a/gt/gt.txt", "1,5,13,10,24,16,1,1,0.5\n1,6,13,10,24,16,0,1,0.5\n"),
    "voc": (
        "a/1.xml",
        "<annotation><size><width>96</width><height>64</height></size><object><name>dog</name>"
        f"<bndbox><xmin>{LEFT}</xmin><ymin>{TOP}</ymin><xmax>{RIGHT}</xmax><ymax>{BOTTOM}</ymax>"
        "</bndbox></object></annotation>",
    ),
    "cvat": (
        "annotations.xml",
        "<annotations><meta><task><id>1</id><size>1</size><start_frame>0</start_frame>"
        "<labels><label><name>dog</name></label></labels></task></meta>"
        f'<track id="0" label="dog"><box frame="0" outside="0" {XML_BOX}></box></track>'
        "</annotations>",
    ),
    "coco": (
        "mine.json",
        json.dumps(
            {
                "categories": [{"id": 1, "name": "dog"}],
                "videos": [{"id": 1, "name": "a"}],
                "images": [{"id": 1, "video_id": 1, "frame_id": 1, "file_name": "a/1.png"}],
                "annotations": [{"image_id": 1, "category_id": 1, "bbox": [LEFT, TOP, 24, 16]}],
            }
        ),
    ),
}
PIECES = [b"-1", b"1e999", b"nan", b"9" * 25, b"null", b'"', b"{", b"[", b"\0", b"\n", b"../", b"<"]


def damaged(text: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 2, 6])):
        place = chance.randrange(len(text) + 1)
        match chance.randrange(4):
            case 0:
                text = text[:place] + chance.choice(PIECES) + text[place:]
            case 1:
                text = text[:place] + text[place + chance.randrange(12) :]
            case 2:
                text = text[:place] + chance.randbytes(4) + text[place:]
            case 3:
                text = text[:place] if chance.random() < 0.2 else text
    return text


@pytest.mark.parametrize("label_format", LABELS)
def test_damaged_labels(label_format: str, tmp_path: Path) -> None:
    studio = Studio(tmp_path)
    images = {"mot": "a/img1/1.png", "cvat": "images/frame_000000.png"}
    studio.image(images.get(label_format, "a/1.png"), 1)
    studio.write("data.yaml", "names: [cat, dog]")
    place, text = LABELS[label_format]
    studio.write(place, text)
    (whole,) = studio.prepare(label_format)
    assert whole.num_boxes and not whole.problems
    outcomes = set()
    for seed in range(40):
        studio.write(place, damaged(text.encode(), random.Random(seed)))
        try:
            (split,) = studio.prepare(label_format)
        except SparseVodError as error:
            assert "\n" not in error.message
            outcomes.add("refused")
        else:
            VideoSet.load(studio.out / "all.json")
            outcomes.add("problems" if split.problems else "taken")
    assert len(outcomes) > 1
