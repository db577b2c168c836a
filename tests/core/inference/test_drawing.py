"""Drawing on frames: selection, scale, blur, comparison."""

from __future__ import annotations

import numpy as np
import pytest

from sparsevod_core.errors import ConfigError
from sparsevod_core.inference.drawing import Drawing, Painter
from sparsevod_core.structures import Category, Detections

CATEGORIES = (Category(7, "car"), Category(3, "person"), Category(9, "dog"))
FOUND = Detections(
    np.array([[10, 10, 40, 40], [50, 20, 90, 60], [100, 50, 140, 90]], np.float32),
    np.array([0.9, 0.6, 0.4], np.float32),
    np.array([0, 1, 0], np.int64),
)


def painter(width: int = 160, height: int = 120, **how: object) -> Painter:
    return Painter(Drawing(**how), CATEGORIES, width, height, 6)  # type: ignore[arg-type]


def grey(width: int = 160, height: int = 120) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("how", "scores"),
    [
        ({}, [0.9, 0.6, 0.4]),
        ({"score": 0.6}, [0.9]),
        ({"classes": ("car",)}, [0.9, 0.4]),
        ({"classes": ("3", "dog")}, [0.6]),
        ({"max_boxes": 2}, [0.9, 0.6]),
        ({"classes": ("car",), "max_boxes": 1}, [0.9]),
        ({"max_boxes": 0}, []),
    ],
)
def test_what_is_shown(how: dict[str, object], scores: list[float]) -> None:
    assert painter(**how).shown(FOUND).scores == pytest.approx(scores)


def test_unknown_class() -> None:
    with pytest.raises(ConfigError, match="class cat") as error:
        painter(classes=("car", "cat"))
    assert error.value.hint == "use one of car, person, dog"


def test_labels_can_be_left_out() -> None:
    """Without labels, nothing is drawn far from a box."""
    image = grey()
    with_labels, without = (
        painter().paint(image, FOUND),
        painter(has_labels=False).paint(image, FOUND),
    )
    far = np.ones(image.shape[:2], bool)
    for x1, y1, x2, y2 in FOUND.boxes_xyxy.astype(int):
        far[y1 - 4 : y2 + 4, x1 - 4 : x2 + 4] = False
    assert (without[far] == 90).all()
    assert (with_labels[far] != 90).any()
    assert (without != 90).any()
    assert (image == 90).all()


@pytest.mark.parametrize(
    ("scale", "size"),
    [(None, (160, 120)), ("0.5", (80, 60)), ("2", (320, 240)), ("x40", (40, 30)),
     ("60x", (80, 60)), ("50x200", (200, 50))],
)  # fmt: skip
def test_scale(scale: str | None, size: tuple[int, int]) -> None:
    """Boxes lie on the objects in the scaled image, with a line width for its size."""
    one = painter(scale=scale, has_labels=False, max_boxes=1)
    assert one.size == size
    image = one.paint(grey(), FOUND)
    assert image.shape == (size[1], size[0], 3)
    rows, columns = np.nonzero((image != 90).any(axis=-1))
    across, down = size[0] / 160, size[1] / 120
    assert columns.min() == pytest.approx(10 * across, abs=4)
    assert columns.max() == pytest.approx(40 * across, abs=4)
    assert rows.min() == pytest.approx(10 * down, abs=4)
    assert rows.max() == pytest.approx(40 * down, abs=4)


@pytest.mark.parametrize("scale", ["", "x", "half", "0", "-1", "nan", "inf", "0x0", "1e9", "0.001"])
def test_invalid_scales(scale: str) -> None:
    with pytest.raises(ConfigError, match="expected a factor"):
        painter(scale=scale)


def test_blur_leaves_averages_inside_and_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    image = painter(blurs=True, score=0.5).paint(image, FOUND)
    x1, y1, x2, y2 = 10, 10, 40, 40
    inside = image[y1:y2, x1:x2].astype(float)
    assert inside.std() < 0.25 * image.std()
    assert inside.mean() == pytest.approx(image[y1:y2, x1:x2].mean(), abs=8)
    assert (image[:, 145:] == image[:, 145:]).all()
    # Not blurred, because its score is lower.
    assert (image[60:80, 110:130] == image[60:80, 110:130]).all()


def test_text_cannot_be_read_through_the_blur() -> None:
    """Two different images with equal averages become the same."""
    stripes = np.zeros((120, 160, 3), np.uint8)
    stripes[::2] = 200
    shifted = np.roll(stripes, 1, axis=0)
    box = Detections(
        np.array([[20, 20, 140, 100]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)
    )
    one, other = (painter(blurs=True).paint(image, box) for image in (stripes, shifted))
    difference = np.abs(one[25:95, 25:135].astype(int) - other[25:95, 25:135])
    assert difference.max() <= 12


def test_a_box_at_the_border_and_one_of_no_size() -> None:
    boxes = np.array([[-5, -5, 3, 3], [160, 120, 160, 120], [159.5, 0, 160, 1]], np.float32)
    odd = Detections(boxes, np.ones(3, np.float32), np.zeros(3, np.int64))
    assert painter(blurs=True).paint(grey(), odd).shape == (120, 160, 3)


def test_side_by_side() -> None:
    alone = FOUND[:0]
    compare = painter(compares=True, scale="0.5", has_labels=False)
    image = compare.paint(grey(), FOUND, alone)
    height, width = image.shape[:2]
    assert (width, height) == compare.size
    left, right = image[-60:, :80], image[-60:, -80:]
    assert (left == 90).all()  # nothing was found without supports
    assert (right != 90).any()
    title = image[:-60, :80]
    assert title.max() > 180 > 90 > title.min()


def test_nothing_to_compare() -> None:
    with pytest.raises(ConfigError, match="no support frames"):
        Painter(Drawing(compares=True), CATEGORIES, 160, 120, 0)
