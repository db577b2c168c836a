"""EXIF orientation: the upright picture is the frame, for every reader and every label format."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagenet_tree import CAR, Tree, convert_val
from imagenet_tree import HEIGHT as TREE_HEIGHT
from imagenet_tree import WIDTH as TREE_WIDTH
from own_sets import HEIGHT, WIDTH, Studio, box_of, fractions, image_of
from PIL import Image

from sparsevod_core.prepare.reading.image_size import JpegHeader, read_image_size
from sparsevod_core.video.image_folder import read_image

# How a camera stores an upright picture, by orientation.
STORED: dict[int, Any] = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


def photo(orientation: int, number: int = 1, kind: str = "JPEG") -> bytes:
    """Return the frame `number` as a camera stores it in this orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](image_of(number))))
    stored.save(out, kind, exif=exif, quality=100, subsampling=0)
    return out.getvalue()


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_reader_has_the_same_picture(studio: Studio, orientation: int, kind: str) -> None:
    path = studio.write(f"a/1.{kind.lower()}", photo(orientation, kind=kind))
    assert read_image_size(path) == read_image(path).shape[:2]
    studio.write("classes.txt", "square\n")
    studio.write("a/1.txt", f"0 {fractions(1)}\n")
    if kind == "JPEG":  # older versions of OpenCV turn no other kind
        assert read_image_size(path) == (HEIGHT, WIDTH)
        assert studio.problems("yolo") == []
        assert studio.shown() == {"a": [(1, [0], [-1])]}
        np.testing.assert_allclose(read_image(path), image_of(1), atol=40)


def test_a_tag_behind_other_segments_and_a_broken_one(studio: Studio) -> None:
    data = photo(6)
    comment = (
        b"\xff\xe1" + (5002).to_bytes(2, "big") + b"http://ns.adobe.com/xap/1.0/\0".ljust(5000)
    )
    path = studio.write("a.jpg", data[:2] + comment + data[2:])
    assert read_image_size(path) == read_image(path).shape[:2] == (HEIGHT, WIDTH)
    for place in range(data.index(b"Exif") + 8, data.index(b"Exif") + 30):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        assert read_image_size(path) == read_image(path).shape[:2]


def voc(width: int, height: int) -> str:
    left, top, right, bottom = box_of(1)
    box = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{size}<object><name>a</name><bndbox>{box}</bndbox></object></annotation>"


def test_labels_that_state_the_stored_size_are_refused(studio: Studio) -> None:
    for number, size in ((1, (WIDTH, HEIGHT)), (2, (HEIGHT, WIDTH)), (3, (WIDTH, HEIGHT + 1))):
        studio.write(f"a/{number}.jpg", photo(6))
        studio.write(f"a/{number}.xml", voc(*size))
    stored, other = studio.problems("voc")
    assert stored.startswith(
        "a/2.jpg: 96x64 pixels, but a/2.xml says 64x96, the size without its EX"
    )
    assert other == "a/3.jpg: 96x64 pixels, but a/3.xml says 96x65, frame skipped"
    assert studio.shown() == {"a": [(1, [1], [-1])]}

    left, top, right, bottom = box_of(1)
    images = [
        {"id": number, "file_name": f"a/{number}.jpg", "width": width, "height": height}
        for number, (width, height) in ((1, (WIDTH, HEIGHT)), (2, (HEIGHT, WIDTH)))
    ]
    box = [left, top, right - left, bottom - top]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": box} for n in (1, 2)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    path = studio.write("labels.json", json.dumps(content))
    (split,) = studio.prepare("coco", path)
    (problem,) = split.problems
    assert "image 2, has 64x96, the size without its EXIF orientation" in problem
    assert studio.shown() == {"a": [(1, [1], [-1])]}


@pytest.mark.parametrize("orientation", STORED)
def test_a_box_of_the_stored_image_is_turned(orientation: int) -> None:
    stored = STORED[orientation](image_of(1))
    rows, columns = np.nonzero(stored[..., 0])
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    header = JpegHeader(*stored.shape[:2], orientation)
    assert header.upright_size == (HEIGHT, WIDTH)
    assert header.upright(box) == box_of(1)


def test_boxes_of_imagenet_are_those_of_the_stored_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Image.new("RGB", (TREE_WIDTH, TREE_HEIGHT)).save(out, "JPEG", exif=exif)
    tree = Tree(tmp_path / "ILSVRC2015")
    tree.frame("VID/val/a/000000", [(CAR, 1, (10, 4, 30, 20))], jpeg=out.getvalue())
    content = convert_val(tree, tmp_path / "out")
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (48, 64)
    assert content["annotations"][0]["bbox"] == [28, 10, 16, 20]
