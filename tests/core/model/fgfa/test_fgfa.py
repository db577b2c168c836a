"""FGFA: memory, batches and chunks, what is averaged, and training."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.model.backbone import group_norm, tiny_parts
from sparsevod_core.model.dilated_backbone import DilatedBackbone
from sparsevod_core.model.fgfa import detector as fgfa
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.fgfa.flow import FlowNetSimple
from sparsevod_core.model.fgfa.map_aggregation import MapAggregation
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.two_stage.anchors import centered_anchors
from sparsevod_core.model.two_stage.box_head import BoxHead
from sparsevod_core.model.two_stage.detections import DetectionSelector
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import RegionProposals
from sparsevod_core.structures import Clip, Targets

SIZE = (60, 90)
STDS = (0.1, 0.1, 0.2, 0.2)


def build(*, warps=True):
    torch.manual_seed(0)
    stem, stages, widths = tiny_parts(group_norm, widths=(8, 8, 8, 16))
    backbone = DilatedBackbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=8,
        frozen_stages=0,
        freeze_norms=False,
    )
    rpn = RegionProposals(
        channels=8,
        width=8,
        base_anchors=centered_anchors([16, 32], [0.5, 1, 2]),
        stride=16,
        num_candidates=60,
        nms_iou=0.7,
        positive_iou=0.7,
        negative_iou=0.3,
        min_positive_iou=0.3,
        num_samples=16,
        positive_share=0.5,
    )
    torch.nn.init.normal_(rpn.logits.weight, std=1.0)
    head = BoxHead(roi_channels=8 * 49, channels=12, num_fcs=2, aggregations=[], num_classes=3)
    torch.nn.init.normal_(head.class_logits.weight, std=1.0)
    flow = FlowNetSimple(width=2) if warps else None
    if flow is not None:
        torch.nn.init.normal_(flow.predict_flow.weight, std=0.3)
    return FGFA(
        flow=flow,
        map_aggregation=MapAggregation(channels=8),
        backbone=backbone,
        rpn=rpn,
        roi_align=PyramidRoIAlign(strides=[16]),
        head=head,
        sampler=ProposalSampler(
            num_classes=3, num_samples=8, positive_share=0.25, positive_iou=0.5, stds=STDS
        ),
        selector=DetectionSelector(stds=STDS, min_score=0.0001, nms_iou=0.5, max_detections=10),
        num_proposals=6,
        num_train_proposals=12,
    )


def frames(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)
    images[:, :, SIZE[0] :, :] = 0
    images[..., SIZE[1] :] = 0
    return images, torch.tensor([SIZE] * count)


def assert_same(found, expected):
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found.proposals.boxes, expected.proposals.boxes, atol=1e-3, rtol=1e-4
    )


@torch.inference_mode()
def test_batches_and_parts_of_the_memory_change_nothing(monkeypatch):
    detector = build().eval()
    targets, supports = detector.encode(*frames(2)), detector.encode(*frames(5, seed=2))
    memory = detector.remember(supports)
    assert memory.num_supports == 5
    assert memory.nbytes == 5 * 4 * (8 * 4 * 6 + 3 * 32 * 48)  # map and half-size frame, fp32
    whole = detector.detect(targets, memory)
    one_by_one = [
        detector.encode(*(part[i : i + 1] for part in frames(5, seed=2))) for i in range(5)
    ]
    joined = detector.join([detector.remember(one) for one in one_by_one])
    assert_same(detector.detect(targets, joined), whole)
    monkeypatch.setattr(fgfa, "PAIRS", 3)
    assert_same(detector.detect(targets, memory), whole)
    for number in range(2):
        single = detector.detect(targets[number : number + 1], memory)
        torch.testing.assert_close(single.logits[0], whole.logits[number], atol=1e-4, rtol=1e-4)
    alone = detector.detect(targets, None)
    assert not torch.allclose(alone.logits, whole.logits, atol=1e-2)
    boxes_xyxy, scores, labels = detector.top(whole)
    assert boxes_xyxy.shape == (2, 10, 4) and scores[:, 0].min() > 0 and labels.max() < 3


@torch.inference_mode()
def test_without_flow_neighbors_like_the_target_change_nothing():
    detector = build(warps=False).eval()
    target = detector.encode(*frames(1))
    assert target.halved is None
    images, sizes = frames(1)
    memory = detector.remember(detector.encode(images.repeat(3, 1, 1, 1), sizes.repeat(3, 1)))
    assert_same(detector.detect(target, memory), detector.detect(target, None))
    assert detector.join([]) is None


def test_training_averages_the_supports_only(monkeypatch):
    detector = build(warps=False)
    images, sizes = frames(4)
    supports = images[2:, None].repeat(1, 2, 1, 1, 1)
    monkeypatch.setattr(detector, "samples", lambda maps, *_: maps)
    maps = detector(Clip(images[:2], supports, sizes[:2]), [])
    expected = detector.feature_maps(images[2:], sizes[2:])
    torch.testing.assert_close(maps, expected)
    without = detector(Clip(images[:2], supports[:, :0], sizes[:2]), [])
    torch.testing.assert_close(without, detector.feature_maps(images[:2], sizes[:2]))


@pytest.mark.parametrize("warps", [True, False])
def test_a_training_step_reaches_every_parameter(warps):
    detector = build(warps=warps)
    images, sizes = frames(6)
    truth = [
        Targets(torch.tensor([[10.0, 10.0, 40.0, 44.0]]), torch.tensor([1])),
        Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
    ]
    output = detector(Clip(images[:2], images[2:].unflatten(0, (2, 2)), sizes[:2]), truth)
    parts = [
        value
        for samples in (output.proposals, output.head)
        for name in samples.__slots__
        if (value := getattr(samples, name)).is_floating_point()
    ]
    sum(value.square().sum() for value in parts if value.requires_grad).backward()
    without = [
        name
        for name, parameter in detector.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []
