"""Region proposals: order, NMS, padding, batches, sampling, and gradients."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou, nms

from sparsevod_core.losses.region_proposals import proposal_losses
from sparsevod_core.model.two_stage.anchors import centered_anchors, grid_anchors
from sparsevod_core.model.two_stage.box_code import decode
from sparsevod_core.model.two_stage.region_proposals import RegionProposals
from sparsevod_core.structures import Targets

NUM_ANCHORS = 4


def build(**changes):
    torch.manual_seed(0)
    settings = {
        "channels": 6,
        "width": 5,
        "base_anchors": centered_anchors([16, 32], [0.5, 2]),
        "stride": 16,
        "num_candidates": 200,
        "nms_iou": 0.7,
        "positive_iou": 0.7,
        "negative_iou": 0.3,
        "min_positive_iou": 0.3,
        "num_samples": 32,
        "positive_share": 0.5,
    }
    return RegionProposals(**settings | changes)


def outputs(batch, height, width, scale=0.3):
    generator = torch.Generator().manual_seed(height)
    logits = torch.randn(batch, NUM_ANCHORS, height, width, generator=generator)
    deltas = scale * torch.randn(batch, 4 * NUM_ANCHORS, height, width, generator=generator)
    return logits, deltas


def truth(*boxes):
    return Targets(torch.tensor(boxes).reshape(-1, 4).float(), torch.zeros(len(boxes)).long())


def rows(proposals, frame):
    count = proposals.counts[frame]
    return proposals.boxes[frame, :count], proposals.scores[frame, :count]


def test_channels_of_an_anchor_lie_together():
    rpn = build()
    logits, deltas = torch.zeros(1, NUM_ANCHORS, 3, 4), torch.zeros(1, 4 * NUM_ANCHORS, 3, 4)
    logits[0, 2, 1, 3] = 5  # anchor 2 of line 1, column 3
    deltas[0, 4 * 2 + 0, 1, 3] = -1  # its dx
    best = rpn.proposals(logits, deltas, torch.tensor([[48, 64]]), 1).boxes[0, 0]
    anchor = rpn.base_anchors[2] + torch.tensor([48.0, 16, 48, 16])
    shift = anchor[2] - anchor[0]
    expected = anchor - torch.tensor([1.0, 0, 1, 0]) * shift
    torch.testing.assert_close(best, expected.clamp(min=0))


def test_proposals_are_inside_the_image_and_do_not_overlap_much():
    found = build().proposals(*outputs(1, 6, 7), torch.tensor([[90, 100]]), 50)
    boxes, scores = rows(found, 0)
    assert 5 < len(boxes) <= 50
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 100 and boxes[:, 3].max() <= 90
    assert (scores.diff() <= 0).all()
    assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.7


@pytest.mark.parametrize("spread", [0.01, 1.0])
@pytest.mark.parametrize("nms_iou", [0.02, 0.3])  # few boxes are kept; many
@pytest.mark.parametrize("count", [3, 20, 500])
def test_proposals_are_the_first_of_the_entire_nms(count, nms_iou, spread):
    rpn = build(num_candidates=120, nms_iou=nms_iou)
    logits, deltas = outputs(1, 7, 8, spread)
    sizes = torch.tensor([[112, 128]])
    scores = logits.permute(0, 2, 3, 1).reshape(-1).sigmoid()
    order = scores.argsort(descending=True, stable=True)[:120]
    anchors = grid_anchors(rpn.base_anchors, (7, 8), 16)[order]
    boxes = decode(anchors, deltas.permute(0, 2, 3, 1).reshape(-1, 4)[order], (1.0,) * 4, sizes[0])
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(-1)
    boxes, scores = boxes[has_area], scores[order][has_area]
    kept = nms(boxes, scores, nms_iou)[:count]

    found = rpn.proposals(logits, deltas, sizes, count)
    assert found.boxes.shape == (1, count, 4)
    torch.testing.assert_close(rows(found, 0), (boxes[kept], scores[kept]))
    assert found.boxes[0, len(kept) :].abs().sum() == 0
    assert found.valid.sum() == len(kept)


def test_equal_scores_keep_the_order_of_the_anchors():
    rpn = build(base_anchors=torch.tensor([[-4.0, -4, 4, 4]]))
    logits, deltas = torch.zeros(1, 1, 20, 20), torch.zeros(1, 4, 20, 20)
    found = rpn.proposals(logits, deltas, torch.tensor([[320, 320]]), 30)
    expected = grid_anchors(rpn.base_anchors, (20, 20), 16)[:30].clamp(min=0)
    assert torch.equal(found.boxes[0], expected)


def test_a_batch_of_two_sizes_gives_what_each_frame_gives_alone():
    rpn = build()
    sizes = torch.tensor([[50, 100], [90, 40]])  # maps of 4 × 7 and 6 × 3 positions
    maps = [(4, 7), (6, 3)]
    alone = [outputs(1, *size) for size in maps]
    logits, deltas = torch.full((2, NUM_ANCHORS, 6, 7), 9.0), torch.zeros(2, 4 * NUM_ANCHORS, 6, 7)
    for frame, (height, width) in enumerate(maps):  # what the padding contains has the best scores
        logits[frame, :, :height, :width], deltas[frame, :, :height, :width] = (
            output[0] for output in alone[frame]
        )
    together = rpn.proposals(logits, deltas, sizes, 40)
    targets = [truth([3, 2, 30, 30], [60, 20, 90, 40]), truth()]
    torch.manual_seed(1)
    drawn_together = rpn.samples(logits, deltas, sizes, targets)
    torch.manual_seed(1)
    drawn = []
    for frame in range(2):
        single = rpn.proposals(*alone[frame], sizes[frame, None], 40)
        assert torch.equal(single.boxes[0], together.boxes[frame])
        assert torch.equal(single.scores[0], together.scores[frame])
        assert single.counts[0] == together.counts[frame] > 3
        drawn.append(rpn.samples(*alone[frame], sizes[frame, None], targets[frame : frame + 1]))
    for name in ("logits", "labels", "deltas", "delta_targets"):
        separate = torch.cat([getattr(one, name) for one in drawn])
        assert torch.equal(getattr(drawn_together, name), separate)


def test_padding_below_a_multiple_of_the_stride_changes_nothing():
    logits, deltas = outputs(1, 4, 5)
    size = torch.tensor([[64, 80]])
    found = build().proposals(logits, deltas, size, 30)
    padded = [torch.nn.functional.pad(output, (0, 2, 0, 3), value=2) for output in (logits, deltas)]
    again = build().proposals(*padded, size, 30)
    assert torch.equal(found.boxes, again.boxes) and torch.equal(found.counts, again.counts)


def test_samples_lead_from_anchors_inside_to_the_truth():
    rpn = build(num_samples=1000)
    logits = torch.arange(NUM_ANCHORS * 48.0).reshape(1, NUM_ANCHORS, 6, 8)
    deltas = torch.randn(1, 4 * NUM_ANCHORS, 6, 8)
    box = [40.0, 30, 60, 70]
    samples = rpn.samples(logits, deltas, torch.tensor([[90, 120]]), [truth(box)])
    anchors = grid_anchors(rpn.base_anchors, (6, 8), 16)
    by_anchor = logits.permute(0, 2, 3, 1).reshape(-1).tolist()
    drawn = anchors[[by_anchor.index(value) for value in samples.logits.tolist()]]
    assert (drawn[:, :2] >= 0).all() and (drawn[:, 2:] < torch.tensor([120, 90])).all()
    is_object = samples.labels == 1
    assert 0 < is_object.sum() < len(is_object)
    reached = decode(drawn[is_object], samples.delta_targets, (1.0,) * 4)
    torch.testing.assert_close(reached, torch.tensor([box]).expand_as(reached))
    assert box_iou(drawn[~is_object], torch.tensor([box])).max() < 0.3


def test_every_weight_learns_from_the_loss_and_none_from_the_proposals():
    rpn = build()
    feature_map = torch.randn(2, 6, 5, 6, requires_grad=True)
    logits, deltas = rpn(feature_map)
    sizes = torch.tensor([[80, 96], [70, 90]])
    assert not rpn.proposals(logits, deltas, sizes, 5).boxes.requires_grad
    targets = [truth([10, 10, 40, 50]), truth([20, 20, 45, 30])]
    proposal_losses(rpn.samples(logits, deltas, sizes, targets), 1 / 9).total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in rpn.parameters())
    assert feature_map.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [(80, 96), (8, 8)])  # in 8 × 8 pixels, there is no anchor
def test_a_frame_without_boxes_or_anchors_has_a_finite_loss(size):
    rpn = build()
    logits, deltas = rpn(torch.randn(1, 6, 5, 6))
    samples = rpn.samples(logits, deltas, torch.tensor([size]), [truth()])
    assert samples.labels.sum() == 0 and len(samples.deltas) == 0
    losses = proposal_losses(samples, 1 / 9)
    assert losses.boxes == 0 and losses.objectness.isfinite()
    losses.total.backward()
    # With several processes, each weight needs a gradient in each step.
    assert all(parameter.grad.isfinite().all() for parameter in rpn.parameters())


def test_weights_start_small_and_biases_at_zero():
    rpn = build(channels=64, width=64)
    for layer in (rpn.conv, rpn.logits, rpn.deltas):
        assert 0.008 < layer.weight.std() < 0.012
        assert layer.bias.abs().max() == 0


def test_double_precision_is_kept():
    rpn = build().double()
    logits, deltas = rpn(torch.randn(1, 6, 5, 6).double())
    sizes = torch.tensor([[80, 96]])
    assert rpn.proposals(logits, deltas, sizes, 5).boxes.dtype == torch.float64
    samples = rpn.samples(logits, deltas, sizes, [truth([10, 10, 40, 50])])
    assert proposal_losses(samples, 1 / 9).total.dtype == torch.float64
