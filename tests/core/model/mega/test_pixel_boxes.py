"""Boxes with corners that are pixels: conversion, and py-faster-rcnn's anchors."""

from __future__ import annotations

import torch

from sparsevod_core.model.mega.boxes import PIXEL_CORNERS, pixel_anchors, to_edges, to_pixels
from sparsevod_core.model.two_stage.box_code import clip, decode


def test_a_box_of_one_pixel_has_an_area():
    pixel = torch.tensor([3.0, 5, 3, 5])
    assert to_edges(pixel).tolist() == [3, 5, 4, 6]
    assert to_pixels(to_edges(pixel)).tolist() == pixel.tolist()


def test_anchors_are_those_of_py_faster_rcnn():
    """The table is in the comments of its generate_anchors.py (1-based there)."""
    anchors = to_pixels(pixel_anchors((128, 256, 512), (0.5, 1, 2)))
    assert anchors.int().tolist() == [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]


def test_clipping_keeps_both_corner_pixels_in_the_image():
    outside = to_edges(torch.tensor([[-9.0, 2, 120, 60], [200, 200, 300, 300], [-8, -8, -2, -2]]))
    clipped = to_pixels(clip(outside, torch.tensor([50, 100]), PIXEL_CORNERS.corner_px))
    assert clipped.tolist() == [[0, 2, 99, 49], [99, 49, 99, 49], [0, 0, 0, 0]]


def test_a_box_may_shrink_without_limit():
    box = torch.tensor([0.0, 0, 1000, 1000])
    deltas = torch.tensor([0.0, 0, -6, 99])
    decoded = decode(box, deltas, (1, 1, 1, 1), limits=PIXEL_CORNERS)
    size = decoded[2:] - decoded[:2]
    torch.testing.assert_close(size, torch.tensor([1000 * 2.718281828**-6, 62_500.0]))
