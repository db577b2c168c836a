"""Pyramid RoIAlign: levels by hand, and pooling compared with torchvision's operator."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align

from sparsevod_core.kernels import BAGS, GATHER
from sparsevod_core.model.pyramid import WholePyramid
from sparsevod_core.model.roi_align import PyramidRoIAlign

STRIDES = (4, 8, 16, 32)


def pyramid_and_boxes():
    generator = torch.Generator().manual_seed(0)
    pyramid = [
        torch.randn(2, 5, 96 // stride, 128 // stride, generator=generator, requires_grad=True)
        for stride in STRIDES
    ]
    low = torch.rand(2, 40, 2, generator=generator) * 180 - 50  # many extend outside the image
    size = torch.rand(2, 40, 2, generator=generator) ** 3 * 600 + 0.5
    boxes = torch.cat([low, low + size], dim=-1)
    edges = torch.tensor([[-4.0, -4, 132, 100], [0, 0, 128, 96], [126, 94, 300, 200]])
    return pyramid, torch.cat([boxes, edges.expand(2, -1, -1)], dim=1)


def pooled(pyramid, boxes, kernels):
    align = PyramidRoIAlign(strides=STRIDES[: len(pyramid)], kernels=kernels)
    return WholePyramid(pyramid, torch.zeros(len(boxes), 2, dtype=torch.long), align).pool(boxes)


def torchvisions(pyramid, boxes):
    """Apply torchvision's operator to the level of each box."""
    levels = PyramidRoIAlign(strides=STRIDES).levels(boxes)
    out = torch.zeros(*boxes.shape[:2], pyramid[0].shape[1], 7, 7)
    for number, (level, stride) in enumerate(zip(pyramid, STRIDES, strict=True)):
        image, box = (levels == number).nonzero(as_tuple=True)
        rois = torch.cat([image[:, None], boxes[image, box]], dim=1)
        out[image, box] = roi_align(level, rois, (7, 7), 1 / stride, 2, True)
    return out


@pytest.mark.parametrize("kernels", [BAGS, GATHER], ids=["bags", "gather"])
def test_every_form_is_torchvisions_operator_with_its_gradients(kernels):
    pyramid, boxes = pyramid_and_boxes()
    assert set(PyramidRoIAlign(strides=STRIDES).levels(boxes).flatten().tolist()) == {0, 1, 2, 3}
    ours, reference = pooled(pyramid, boxes, kernels), torchvisions(pyramid, boxes)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)

    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    ours_grad = torch.autograd.grad((ours * weights).sum(), pyramid)
    reference_grad = torch.autograd.grad((reference * weights).sum(), pyramid)
    for a, b in zip(ours_grad, reference_grad, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kernels", [BAGS, GATHER], ids=["bags", "gather"])
def test_a_level_without_boxes_has_a_gradient_of_zero(kernels):
    pyramid, boxes = pyramid_and_boxes()
    small = boxes[:, :3] * 0 + torch.tensor([4.0, 4, 30, 30])
    gradients = torch.autograd.grad(pooled(pyramid, small, kernels).sum(), pyramid)
    assert gradients[0].any() and not any(gradient.any() for gradient in gradients[1:])


@pytest.mark.parametrize("kernels", [BAGS, GATHER], ids=["bags", "gather"])
def test_coordinates_and_weights_are_exact_whatever_the_maps_are(kernels):
    """With bf16 maps, only maps and result are rounded, not boxes and weights."""
    pyramid, boxes = pyramid_and_boxes()
    boxes = boxes + 0.37  # not representable in bf16
    halves = [level.detach().bfloat16().requires_grad_() for level in pyramid]
    ours = pooled(halves, boxes, kernels)
    assert ours.dtype == torch.bfloat16
    exact = torchvisions([level.detach().float() for level in halves], boxes)
    torch.testing.assert_close(ours.float(), exact, atol=1e-3, rtol=2**-8)
    exact_grad = torch.autograd.grad(torchvisions(pyramid, boxes).square().sum(), pyramid)
    ours_grad = torch.autograd.grad(ours.float().square().sum(), halves)
    for a, b in zip(ours_grad, exact_grad, strict=True):
        assert (a.float() - b).norm() < 0.02 * b.norm()


def test_levels_by_hand():
    align = PyramidRoIAlign(strides=STRIDES)
    sides = torch.tensor([1.0, 56, 111, 112, 223, 224, 447, 448, 5000])
    boxes = torch.stack([torch.zeros(9), torch.zeros(9), sides, sides], dim=-1)
    assert align.levels(boxes).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_a_constant_map_gives_the_constant_inside_and_zeros_outside():
    maps = [torch.full((1, 1, 16, 16), 3.0)]
    boxes = torch.tensor([[[8.0, 8, 40, 40], [200, 200, 240, 240]]])
    found = pooled(maps, boxes, BAGS)
    torch.testing.assert_close(found[0, 0], torch.full((1, 7, 7), 3.0))
    assert (found[0, 1] == 0).all()
