"""Frames with their errors drawn, and contact sheets of such frames."""

from __future__ import annotations

import numpy as np
import pytest

from sparsevod_core.figures.contact_sheet import TILE_PX, Tile, draw_sheet, fitting_scale
from sparsevod_core.figures.error_frame import (
    CORRECT,
    FALSE_ALARM,
    MISSED,
    DrawnBox,
    draw_errors,
)

GRAY = 90
BOX = np.array([100.0, 60, 180, 120])


def frame(width: int = 320, height: int = 180) -> np.ndarray:
    return np.full((height, width, 3), GRAY, np.uint8)


def test_a_missed_box_is_filled_and_the_rest_is_unchanged() -> None:
    image = frame()
    drawn = draw_errors(image, [DrawnBox(MISSED, "missed car", BOX, None)])
    assert (image == GRAY).all()
    red, green, _ = drawn[90, 140].tolist()
    assert red > GRAY + 30 > green
    assert (drawn[130:, :] == GRAY).all() and (drawn[:, 190:] == GRAY).all()


def test_a_detected_box_is_an_outline() -> None:
    drawn = draw_errors(frame(), [DrawnBox(FALSE_ALARM, "false car 0.50", None, BOX)])
    assert (drawn[70:110, 110:170] == GRAY).all()
    red, green, blue = drawn[90, 99].astype(int).tolist()  # a thin line, blended with the gray
    assert min(red, blue) > 1.5 * GRAY > 1.3 * green
    assert FALSE_ALARM[1] < min(FALSE_ALARM[0], FALSE_ALARM[2])


def test_a_correctly_detected_ground_truth_box_is_dashed_white() -> None:
    found = BOX + np.array([20, 10, 20, 10])
    drawn = draw_errors(frame(), [DrawnBox(CORRECT, "car 0.90", BOX, found)])
    left_side = drawn[62:118, 100].min(axis=1)
    assert left_side.max() > GRAY + 50  # a dash, blended with the gray
    assert left_side.min() < GRAY  # a gap, between dark ends


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_boxes_scale_with_the_frame(scale: float) -> None:
    drawn = draw_errors(frame(), [DrawnBox(MISSED, "missed car", BOX, None)], scale=scale)
    assert drawn.shape == (180 * scale, 320 * scale, 3)
    x, y = (int(coordinate * scale) for coordinate in (140, 90))
    assert drawn[y, x, 0] > GRAY + 30


@pytest.mark.parametrize(
    "box", [(-50, -50, 400, 400), (310, 170, 500, 500), (400, 10, 420, 30), (5, 5, 5, 5)], ids=str
)
def test_boxes_that_leave_the_frame_or_have_no_area(box: tuple[int, ...]) -> None:
    corners = np.array(box, dtype=np.float64)
    for boxes in ((corners, None), (None, corners), (corners, corners)):
        drawn = draw_errors(frame(), [DrawnBox(MISSED, "missed car", *boxes)])
        assert drawn.shape == (180, 320, 3)


def test_nothing_to_draw() -> None:
    assert (draw_errors(frame(), []) == GRAY).all()


def test_the_sheet_has_every_tile_in_its_row() -> None:
    shades = [[10, 20, 30], [40]]
    rows = [
        [
            Tile(np.full((100, 200, 3), shade, np.uint8), f"{shade}  video", "1 missed")
            for shade in row
        ]
        for row in shades
    ]
    sheet = draw_sheet(rows, title="Frames with the most errors", key=[(MISSED, "missed")])
    for row in shades:
        for shade in row:
            assert (sheet == shade).all(axis=2).sum() >= 100 * 200
    tops = [np.nonzero((sheet == shade).all(axis=2))[0].min() for shade in (10, 20, 30, 40)]
    assert tops[0] == tops[1] == tops[2] < tops[3]


def test_long_captions_are_shortened_to_the_width_of_their_tile() -> None:
    tile = Tile(np.full((100, 200, 3), 255, np.uint8), "a very long name " * 20, "note " * 100)
    short = Tile(tile.image, "a", "b")
    one = draw_sheet([[tile]], title="title", key=[])
    other = draw_sheet([[short]], title="title", key=[])
    assert one.shape == other.shape


def test_a_long_key_is_wrapped() -> None:
    tile = Tile(np.full((100, 200, 3), 255, np.uint8), "a", "b")
    one = draw_sheet([[tile]], title="title", key=[(MISSED, "missed")])
    many = draw_sheet([[tile]], title="title", key=[(MISSED, "missed")] * 12)
    assert many.shape[0] > one.shape[0] and many.shape[1] == one.shape[1]


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (64, 48)])
def test_frames_of_any_shape_fit_a_tile(size: tuple[int, int]) -> None:
    scale = fitting_scale(*size)
    sides = [side * scale for side in size]
    assert sides == pytest.approx([min(TILE_PX[0], sides[0]), min(TILE_PX[1], sides[1])])
    assert sides[0] == pytest.approx(TILE_PX[0]) or sides[1] == pytest.approx(TILE_PX[1])
