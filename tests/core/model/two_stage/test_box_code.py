"""Box code: values worked by hand, the inverse, the clamp, and clipping."""

from __future__ import annotations

import math

import torch

from sparsevod_core.model.two_stage.box_code import clip, decode, encode

ONES = (1.0, 1.0, 1.0, 1.0)


def test_deltas_match_values_computed_by_hand():
    box = torch.tensor([10.0, 20, 30, 60])  # center (20, 40), size 20 × 40
    target = torch.tensor([20.0, 10, 60, 30])  # center (40, 20), size 40 × 20
    expected = torch.tensor([1.0, -0.5, math.log(2), -math.log(2)])
    torch.testing.assert_close(encode(box, target, ONES), expected)
    stds = (0.1, 0.1, 0.2, 0.4)
    scaled = torch.tensor([10.0, -5.0, 5 * math.log(2), -2.5 * math.log(2)])
    torch.testing.assert_close(encode(box, target, stds), scaled)
    torch.testing.assert_close(decode(box, scaled, stds), target)


def test_decoding_inverts_encoding_for_all_pairs():
    torch.manual_seed(0)
    corners = 100 * torch.rand(2, 9, 2)
    boxes = torch.cat([corners, corners + 5 + 40 * torch.rand(2, 9, 2)], dim=-1)
    targets = boxes[:, :4]
    deltas = encode(boxes[:, :, None], targets[:, None], (0.2,) * 4)
    decoded = decode(boxes[:, :, None], deltas, (0.2,) * 4)
    torch.testing.assert_close(decoded, targets[:, None].expand_as(decoded))


def test_log_sizes_are_clamped_on_both_sides():
    box = torch.tensor([0.0, 0, 16, 16])
    decoded = decode(box, torch.tensor([0.0, 0, 50, -50]), ONES)
    size = decoded[2:] - decoded[:2]
    torch.testing.assert_close(size, torch.tensor([1000.0, 0.256]))


def test_each_image_clips_its_own_boxes():
    boxes = torch.tensor([[-5.0, 5, 200, 300]]).expand(2, 3, 4)
    sizes = torch.tensor([[50, 100], [400, 150]])
    assert clip(boxes, sizes)[:, 0].tolist() == [[0, 5, 100, 50], [0, 5, 150, 300]]
    per_class = decode(boxes[:, :, None], torch.zeros(2, 3, 7, 4), ONES, sizes)
    torch.testing.assert_close(per_class[:, :, 6], clip(boxes, sizes))
    assert clip(boxes[0, 0], sizes[0]).tolist() == [0, 5, 100, 50]
