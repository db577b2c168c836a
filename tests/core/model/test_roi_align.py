"""Pyramid RoIAlign: levels by hand, and our way of pooling against torchvision's."""

from __future__ import annotations

import torch

from sparsevod_core.model.roi_align import PyramidRoIAlign

STRIDES = (4, 8, 16, 32)


def pyramid_and_boxes():
    generator = torch.Generator().manual_seed(0)
    pyramid = [
        torch.randn(2, 5, 96 // stride, 128 // stride, generator=generator, requires_grad=True)
        for stride in STRIDES
    ]
    low = torch.rand(2, 40, 2, generator=generator) * 180 - 50  # many leave the image
    size = torch.rand(2, 40, 2, generator=generator) ** 3 * 600 + 0.5
    boxes = torch.cat([low, low + size], dim=-1)
    edges = torch.tensor([[-4.0, -4, 132, 100], [0, 0, 128, 96], [126, 94, 300, 200]])
    return pyramid, torch.cat([boxes, edges.expand(2, -1, -1)], dim=1)


def test_bags_are_torchvisions_operator_with_its_gradients():
    pyramid, boxes = pyramid_and_boxes()
    align = PyramidRoIAlign(strides=STRIDES)
    assert set(align.levels(boxes).flatten().tolist()) == {0, 1, 2, 3}
    ours, reference = align(pyramid, boxes), align.everywhere(pyramid, boxes)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)

    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    ours_grad = torch.autograd.grad((ours * weights).sum(), pyramid)
    reference_grad = torch.autograd.grad((reference * weights).sum(), pyramid)
    for a, b in zip(ours_grad, reference_grad, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_level_without_boxes_has_a_gradient_of_zero():
    pyramid, boxes = pyramid_and_boxes()
    align = PyramidRoIAlign(strides=STRIDES)
    small = boxes[:, :3] * 0 + torch.tensor([4.0, 4, 30, 30])
    gradients = torch.autograd.grad(align(pyramid, small).sum(), pyramid)
    assert gradients[0].any() and not any(gradient.any() for gradient in gradients[1:])


def test_bags_take_bf16_with_gradients():
    pyramid, boxes = pyramid_and_boxes()
    align = PyramidRoIAlign(strides=STRIDES)
    exact = align(pyramid, boxes)
    halves = [level.detach().bfloat16().requires_grad_() for level in pyramid]
    pooled = align(halves, boxes)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), exact, atol=0.03, rtol=0.02)
    exact_grad = torch.autograd.grad(exact.square().sum(), pyramid)
    ours_grad = torch.autograd.grad(pooled.float().square().sum(), halves)
    for a, b in zip(ours_grad, exact_grad, strict=True):
        assert (a.float() - b).norm() < 0.02 * b.norm()


def test_levels_by_hand():
    align = PyramidRoIAlign(strides=STRIDES)
    sides = torch.tensor([1.0, 56, 111, 112, 223, 224, 447, 448, 5000])
    boxes = torch.stack([torch.zeros(9), torch.zeros(9), sides, sides], dim=-1)
    assert align.levels(boxes).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_a_constant_map_gives_the_constant_inside_and_zeros_outside():
    align = PyramidRoIAlign(strides=(4,))
    maps = [torch.full((1, 1, 16, 16), 3.0)]
    boxes = torch.tensor([[[8.0, 8, 40, 40], [200, 200, 240, 240]]])
    pooled = align(maps, boxes)
    torch.testing.assert_close(pooled[0, 0], torch.full((1, 7, 7), 3.0))
    assert (pooled[0, 1] == 0).all()
