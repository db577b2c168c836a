"""Choice of detections: rules by hand, and independence of the batch."""

from __future__ import annotations

import torch

from sparsevod_core.model.two_stage.detections import BoxHeadOutput, DetectionSelector
from sparsevod_core.model.two_stage.region_proposals import Proposals

SIZES = torch.tensor([[100, 200]])


def output(boxes, probabilities, counts=None, sizes=SIZES):
    """Return predictions without box deltas: boxes [B, N, 4], probabilities [B, N, K]."""
    boxes, probabilities = torch.as_tensor(boxes).float(), torch.as_tensor(probabilities).float()
    background = 1 - probabilities.sum(-1, keepdim=True)
    logits = torch.cat([probabilities, background], dim=-1).log()
    batch, num, classes = probabilities.shape
    counts = torch.tensor([num] * batch if counts is None else counts)
    return BoxHeadOutput(
        logits,
        torch.zeros(batch, num, 4 * classes),
        Proposals(boxes, torch.ones(batch, num), counts),
        sizes.expand(batch, 2),
    )


def selector(**changes):
    settings = {"stds": (0.2,) * 4, "min_score": 0.05, "nms_iou": 0.5, "max_detections": 4}
    return DetectionSelector(**settings | changes)


def test_overlapping_boxes_of_a_class_are_one_detection():
    boxes = [[[0, 0, 50, 50], [5, 0, 55, 50], [100, 50, 150, 90]]]
    probabilities = [[[0.6, 0.1], [0.7, 0.04], [0.02, 0.3]]]
    found = selector()(output(boxes, probabilities))
    torch.testing.assert_close(found[1], torch.tensor([[0.7, 0.3, 0.1, 0.0]]))
    assert found[2].tolist() == [[0, 1, 1, 0]]
    assert found[0][0].tolist() == [[5, 0, 55, 50], [100, 50, 150, 90], [0, 0, 50, 50], [0] * 4]


def test_each_class_has_its_own_box_inside_the_image():
    predicted = output([[[10, 10, 30, 50]]], [[[0.5, 0.4]]])
    predicted.deltas[0, 0] = torch.tensor([0, 0, 0, 0, 50.0, -5, 0, 0])  # in units of .2 sizes
    boxes, _, labels = selector()(predicted)
    assert labels[0, :2].tolist() == [0, 1]
    assert boxes[0, :2].tolist() == [[10, 10, 30, 50], [200, 0, 200, 10]]


def test_padding_and_low_scores_are_no_detections():
    boxes = [[[0, 0, 50, 50], [60, 0, 90, 50], [100, 50, 150, 90]]]
    probabilities = [[[0.05, 0.04], [0.06, 0.1], [0.5, 0.4]]]
    boxes, scores, labels = selector(max_detections=9)(output(boxes, probabilities, counts=[2]))
    assert boxes.shape == (1, 9, 4) and labels.shape == (1, 9)
    torch.testing.assert_close(scores[0, :3], torch.tensor([0.1, 0.06, 0.0]))
    assert not boxes[0, 2:].any() and not labels[0, 2:].any()


def test_a_frame_has_the_same_detections_in_any_batch():
    torch.manual_seed(0)
    batch, num, classes = 5, 60, 8
    corners = torch.rand(batch, num, 2) * 60
    boxes = torch.cat([corners, corners + 20 + 20 * torch.rand(batch, num, 2)], dim=-1)
    probabilities = (3 * torch.randn(batch, num, classes + 1)).softmax(-1)[..., :-1]
    choose = selector(max_detections=50, min_score=1e-4)
    together = choose(output(boxes, probabilities))
    for i in range(batch):
        alone = choose(output(boxes[i : i + 1], probabilities[i : i + 1]))
        for mine, theirs in zip(alone, together, strict=True):
            assert torch.equal(mine[0], theirs[i])
