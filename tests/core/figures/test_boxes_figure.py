"""Detections on frames: colors, positions of lines, and labels that do not overlap."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevod_core.figures.boxes import draw_detections
from sparsevod_core.figures.labels import place_labels
from sparsevod_core.figures.style import BoxStyle, class_color, text_color
from sparsevod_core.structures import Detections

NAMES = ["car", "red_panda", "Fußgänger", "x"]
GRAY = 90


def frame(width: int = 320, height: int = 180) -> np.ndarray:
    return np.full((height, width, 3), GRAY, np.uint8)


def detections(*boxes: tuple[float, ...], labels: list[int] | None = None) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.4, count).astype(np.float32),
        np.array(labels or [0] * count, dtype=np.int64),
    )


def changed(image: np.ndarray) -> np.ndarray:
    return (image != GRAY).any(axis=-1)


# --- drawing -------------------------------------------------------------------------------------


def test_the_frame_is_not_modified() -> None:
    image = frame()
    drawn = draw_detections(image, detections((50, 50, 100, 100)), NAMES)
    assert (image == GRAY).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert not np.shares_memory(drawn, image)


def test_nothing_to_draw() -> None:
    assert (draw_detections(frame(), detections(), NAMES) == GRAY).all()


def test_the_line_is_outside_the_box() -> None:
    drawn = draw_detections(frame(), detections((50, 60, 200, 150), labels=[1]), NAMES)
    color = np.array(class_color(1)) * 255
    for y, x in ((100, 49), (100, 200), (150, 120)):  # just outside left, right and bottom
        assert np.abs(drawn[y, x] - color).max() < 60, (y, x)
    assert (drawn[64:146, 54:196] == GRAY).all()
    assert (drawn[:, 210:] == GRAY).all()


def test_a_tiny_object_stays_visible() -> None:
    drawn = draw_detections(frame(), detections((100, 100, 106, 105)), NAMES)
    assert (drawn[102:103, 102:104] == GRAY).all()


def test_a_box_as_large_as_the_frame_shows_on_all_sides() -> None:
    drawn = draw_detections(frame(), detections((0, 0, 320, 180)), NAMES)
    assert changed(drawn)[:, 0].all()
    assert changed(drawn)[:, -1].all()
    assert changed(drawn)[0].all()
    assert changed(drawn)[-1].all()


def test_lines_are_antialiased() -> None:
    columns = [
        draw_detections(frame(), detections((50.0 + shift, 60, 200, 150)), NAMES)[120, 44:56]
        for shift in (0.0, 0.25, 0.5)
    ]
    assert not np.array_equal(columns[0], columns[1])
    assert not np.array_equal(columns[1], columns[2])


def test_the_better_detection_is_on_top() -> None:
    both = detections((50, 60, 200, 150), (50, 60, 200, 150), labels=[0, 1])
    drawn = draw_detections(frame(), both, NAMES)
    assert np.abs(drawn[149:152, 120] - np.array(class_color(0)) * 255).max(axis=1).min() < 60


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 40), (7, 5), (33, 17), (64, 64), (3000, 8)])
def test_any_frame_size(size: tuple[int, int]) -> None:
    width, height = size
    box = (0.2 * width, 0.1 * height, 0.9 * width, 0.95 * height)
    drawn = draw_detections(frame(width, height), detections(box, box), NAMES)
    assert drawn.shape == (height, width, 3)
    assert changed(drawn).any()


@settings(max_examples=60)
@given(st.data())
def test_any_boxes(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    corner = st.tuples(st.floats(0, width, width=32), st.floats(0, height, width=32))
    pairs = data.draw(st.lists(st.tuples(corner, corner), max_size=12))
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for (a, b), (c, d) in pairs]
    labels = [number % 4 for number in range(len(boxes))]
    drawn = draw_detections(frame(width, height), detections(*boxes, labels=labels), NAMES)
    assert drawn.shape == (height, width, 3)


def test_the_label_has_name_and_score() -> None:
    """The plate has the color of the class; name and score both change the label."""
    box = (50, 60, 200, 150)
    drawn = draw_detections(frame(), detections(box), NAMES)
    plate = drawn[48:58, 50:80]
    color = np.array(class_color(0)) * 255
    assert (np.abs(plate - color).max(axis=-1) < 40).mean() > 0.3
    ink = np.array(text_color(class_color(0))) * 255
    assert (np.abs(plate - ink).max(axis=-1) < 60).any()
    one = detections(box)
    other_score = Detections(one.boxes_xyxy, one.scores - 0.3, one.labels)
    assert not np.array_equal(draw_detections(frame(), other_score, NAMES), drawn)
    assert not np.array_equal(draw_detections(frame(), one, ["cat"]), drawn)


# --- placement of labels -------------------------------------------------------------------------

IMAGE_SIZE = (640, 360)


def place(boxes: np.ndarray, size: tuple[int, int] = (70, 14)) -> list[tuple[int, int] | None]:
    return place_labels(boxes, [size] * len(boxes), IMAGE_SIZE)


def test_a_label_is_on_top_of_the_upper_left_corner() -> None:
    assert place(np.array([[100.0, 100.0, 200.0, 200.0]])) == [(100, 86)]


@pytest.mark.parametrize(
    "box", [(0, 0, 50, 40), (600, 0, 640, 360), (0, 340, 640, 360), (0, 0, 640, 360)]
)
def test_labels_stay_inside_the_picture(box: tuple[float, ...]) -> None:
    ((x, y),) = place(np.array([box], dtype=float))  # type: ignore[misc]
    assert 0 <= x <= IMAGE_SIZE[0] - 70
    assert 0 <= y <= IMAGE_SIZE[1] - 14


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_labels_never_overlap(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 1, (count, 2)) * IMAGE_SIZE
    high = np.minimum(low + generator.uniform(0, 200, (count, 2)), IMAGE_SIZE)
    sizes = [(int(w), 14) for w in generator.integers(20, 120, count)]
    corners = place_labels(np.concatenate([low, high], axis=1), sizes, IMAGE_SIZE)
    placed = [(*xy, *wh) for xy, wh in zip(corners, sizes, strict=True) if xy is not None]
    for (x, y, w, h), (u, v, p, q) in itertools.combinations(placed, 2):
        assert x + w <= u or u + p <= x or y + h <= v or v + q <= y
    for x, y, w, h in placed:
        assert x >= 0
        assert y >= 0
        assert x + w <= IMAGE_SIZE[0]
        assert y + h <= IMAGE_SIZE[1]


def test_identical_boxes_get_two_labels_beside_them() -> None:
    box = np.array([[100.0, 100.0, 200.0, 200.0]] * 2)
    first, second = place(box)
    assert first is not None
    assert second is not None
    assert first != second
    assert 80 <= second[0] <= 200
    assert 80 <= second[1] <= 206


def test_without_room_for_all_the_best_have_labels() -> None:
    box = np.array([[300.0, 100.0, 340.0, 140.0]] * 200)
    corners = place(box)
    has_label = [corner is not None for corner in corners]
    assert all(has_label[:10])
    assert not all(has_label)
    assert has_label == sorted(has_label, reverse=True)


def test_a_label_larger_than_the_image_is_omitted() -> None:
    assert place_labels(np.array([[0.0, 0.0, 5.0, 5.0]]), [(70, 14)], (20, 20)) == [None]


# --- style ---------------------------------------------------------------------------------------


def test_classes_have_different_colors() -> None:
    colors = [class_color(label) for label in range(80)]
    assert colors == [class_color(label) for label in range(80)]
    assert len(set(colors)) == 80
    assert all(0 <= value <= 1 for color in colors for value in color)
    near = [np.abs(np.subtract(a, b)).sum() for a, b in itertools.combinations(colors[:12], 2)]
    assert min(near) > 0.2


def test_text_is_readable_on_every_class_color() -> None:
    def luminance(color: tuple[float, ...]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for label in range(100):
        color = class_color(label)
        low, high = sorted([luminance(color), luminance(text_color(color))])
        assert (high + 0.05) / (low + 0.05) >= 4.0, label  # WCAG asks for 3 for large bold text


def test_sizes_grow_with_the_image() -> None:
    sizes = [(200, 200), (640, 360), (1280, 720), (1920, 1080), (3840, 2160)]
    styles = [BoxStyle.for_size(*size) for size in sizes]
    fonts = [style.font_px for style in styles]
    assert fonts == sorted(fonts)
    assert fonts[0] >= 9
    assert 20 <= fonts[3] <= 34
    assert fonts[4] == pytest.approx(2 * fonts[3], abs=1)
    turned = BoxStyle.for_size(1080, 1920)
    assert turned == styles[3]
