"""MEGA as a whole: a video frame by frame, states as values, training, and single frames."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.errors import SparseVodError
from sparsevod_core.losses.box_head import head_losses
from sparsevod_core.losses.region_proposals import proposal_losses
from sparsevod_core.model.backbone import group_norm, tiny_parts
from sparsevod_core.model.mega.backbone import C4Backbone
from sparsevod_core.model.mega.boxes import CELL_PX, PIXEL_CORNERS, pixel_anchors
from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.mega.stages import RelationHead
from sparsevod_core.model.two_stage.detections import DetectionSelector
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import RegionProposals
from sparsevod_core.structures import Clip, Targets

STDS = (0.1, 0.1, 0.2, 0.2)
REACH = 2  # frames of the local window on each side
SIZE = torch.tensor([[60, 90]])  # the frames are padded to 64 × 96


def tiny_mega(num_global: int = 2, reduction: int = 8) -> MEGA:
    torch.manual_seed(0)
    stem, stages, widths = tiny_parts(group_norm, widths=(8, 8, 16, 16))
    backbone = C4Backbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        reduction=reduction,
        frozen_stages=0,
        freeze_norms=False,
    )
    rpn = RegionProposals(
        channels=backbone.channels,
        width=16,
        base_anchors=pixel_anchors((12, 24, 48), (0.5, 1, 2)),
        stride=CELL_PX,
        num_candidates=100,
        nms_iou=0.7,
        positive_iou=0.7,
        negative_iou=0.3,
        min_positive_iou=0,
        num_samples=32,
        positive_share=0.5,
        limits=PIXEL_CORNERS,
    )
    head = RelationHead(
        roi_channels=49 * backbone.roi_channels,
        channels=32,
        num_heads=4,
        num_stages=3,
        num_global=num_global,
        num_advanced=3,
        num_classes=4,
    )
    for parameter in head.parameters():  # so that relations have a noticeable size
        torch.nn.init.normal_(parameter, std=0.2)
    return MEGA(
        backbone=backbone,
        rpn=rpn,
        head=head,
        sampler=ProposalSampler(
            num_classes=4, num_samples=16, positive_share=0.25, positive_iou=0.5, stds=STDS
        ),
        selector=DetectionSelector(
            stds=STDS, min_score=0.001, nms_iou=0.5, max_detections=20, limits=PIXEL_CORNERS
        ),
        num_proposals=12,
        num_support_proposals=6,
        memory_frames=2 * REACH + 1,
    ).eval()


def video(length: int) -> torch.Tensor:
    return 255 * torch.rand(length, 1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def processed(detector: MEGA, frames: torch.Tensor):
    """Return encodings, memories, outputs and states of all frames of a video."""
    encoded = [detector.encode(frame, SIZE) for frame in frames]
    kept = [detector.remember(one) for one in encoded]
    memories, outputs, states = [], [], []
    for t, target in enumerate(encoded):
        window = [min(max(i, 0), len(kept) - 1) for i in range(t - REACH, t + REACH + 1)]
        memories.append(detector.join([kept[i] for i in window], kept[-3:]))
        output, state = detector.advance(target, memories[t], states[-1] if states else None)
        outputs.append(output)
        states.append(state)
    return encoded, memories, outputs, states


@torch.no_grad()
def test_a_video_frame_by_frame():
    detector = tiny_mega()
    _, memories, outputs, states = processed(detector, video(8))
    assert memories[0].num_supports == 5 + 3
    assert memories[0].nbytes == 8 * 6 * (32 * 4 + 4 * 4 + 1)  # features, box, whether it is real
    rows = [[stage.values.shape[1] for stage in state.stages] for state in states]
    assert rows[:2] == [[6, 3, 3], [12, 6, 6]]  # all proposals, then the advanced ones
    assert rows[4:] == [[30, 15, 15]] * 4  # at most five frames
    boxes, scores, labels = detector.top(outputs[-1])
    assert boxes.shape == (1, 20, 4)
    assert labels.shape == scores.shape == (1, 20)
    assert scores[0, 0] > 0
    assert (scores[0, :-1] >= scores[0, 1:]).all()
    assert boxes.amin() >= 0
    assert boxes[0, :, 2].max() <= 89
    assert boxes[0, :, 3].max() <= 59


@torch.no_grad()
def test_a_state_is_a_value():
    detector = tiny_mega()
    encoded, memories, outputs, states = processed(detector, video(4))
    before = [tensor.clone() for tensor in states[2].tensors]
    output, state = detector.advance(encoded[3], memories[3], states[2])
    assert torch.equal(output.logits, outputs[3].logits)
    assert all(map(torch.equal, state.tensors, states[3].tensors))
    assert all(map(torch.equal, states[2].tensors, before))
    first, _ = detector.advance(encoded[3], memories[3], None)
    assert not torch.allclose(first.logits, outputs[3].logits)


@torch.no_grad()
def test_memory_reaches_further_back_than_its_frames():
    """Frame 0 is in the window up to t = 2 and in the memory up to t = 7, but matters at t = 9."""
    detector, frames = tiny_mega(), video(10)
    _, _, outputs, states = processed(detector, frames)
    frames[0] = frames[0].flip(-1)
    _, _, changed, other_states = processed(detector, frames)
    assert not torch.equal(outputs[9].logits, changed[9].logits)
    equal = [
        torch.equal(ours.values, other.values)
        for ours, other in zip(states[9].stages, other_states[9].stages, strict=True)
    ]
    assert equal == [True, False, False]  # stage 0 remembers what the frames were before it


@torch.no_grad()
def test_a_frame_on_its_own_stands_for_the_others():
    detector, frames = tiny_mega(), video(2)
    both = detector.encode(frames[:, 0], SIZE.expand(2, 2))
    second = detector.encode(frames[1], SIZE)
    own = detector.remember(second)
    expected, _ = detector.advance(second, detector.join([own], [own]), None)
    alone, state = detector.advance(second, None, None)
    assert torch.equal(alone.logits, expected.logits)
    assert state is None
    logits = detector.detect(both, None).logits[1:]
    torch.testing.assert_close(logits, expected.logits, rtol=1e-4, atol=1e-4)


def test_targets_must_come_in_order():
    detector = tiny_mega()
    target = detector.encode(video(1)[0], SIZE)
    assert detector.is_ordered
    assert detector.join([]) is None
    with pytest.raises(SparseVodError, match="in order"):
        detector.detect(target, detector.remember(target))


@torch.no_grad()
def test_single_frames_need_no_order():
    detector = tiny_mega(num_global=0, reduction=0)
    assert not detector.uses_supports
    assert not detector.is_ordered
    frames = video(2)
    both = detector.detect(detector.encode(frames[:, 0], SIZE.expand(2, 2)), None)
    second, state = detector.advance(detector.encode(frames[1], SIZE), None, None)
    assert state is None
    for together, alone in zip(detector.top(both), detector.top(second), strict=True):
        torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def training_clip() -> Clip:
    images = video(2)[:, 0]
    supports = 255 * torch.rand(2, 8, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    return Clip(images=images, supports=supports, image_sizes=SIZE.expand(2, 2), groups=(3, 3, 2))


TARGETS = [
    Targets(torch.tensor([[5.0, 5, 40, 50], [30, 10, 80, 40]]), torch.tensor([1, 3])),
    Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
]


def test_training_reaches_all_weights_but_not_the_frames_to_remember():
    detector, clip = tiny_mega().train(), training_clip()
    clip.supports.requires_grad_()
    output = detector(clip, TARGETS)
    total = (
        proposal_losses(output.proposals, beta=1 / 9).total + head_losses(output.head, beta=1).total
    )
    total.backward()
    assert total.isfinite()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    reached = clip.supports.grad.abs().sum(dim=(0, 2, 3, 4)) > 0
    # The first local frame is the target, which is not encoded again.
    assert reached.tolist() == [False, True, True, False, False, False, True, True]


def test_every_support_frame_matters_in_training():
    detector, clip = tiny_mega().train(), training_clip()

    def logits() -> torch.Tensor:
        torch.manual_seed(0)
        return detector(clip, TARGETS).head.logits

    with torch.no_grad():
        before = logits()
        for frame in range(1, 8):
            clip.supports[:, frame] = clip.supports[:, frame].flip(-1)
            after = logits()
            assert not torch.allclose(before, after), frame
            before = after


def test_training_on_single_frames():
    detector, clip = tiny_mega(num_global=0).train(), training_clip()
    output = detector(clip, TARGETS)
    assert output.head.labels.unique().tolist()[-1] == 4  # background
    assert len(output.head.deltas) > 0
    (
        head_losses(output.head, beta=1).total + proposal_losses(output.proposals, beta=1 / 9).total
    ).backward()
    assert all(parameter.grad is not None for parameter in detector.parameters())


@torch.no_grad()
def test_mixed_precision():
    detector, frame = tiny_mega(), video(1)[0]
    exact, _ = detector.advance(detector.encode(frame, SIZE), None, None)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = detector.advance(detector.encode(frame, SIZE), None, None)
    assert rounded.logits.isfinite().all()
    assert rounded.logits.shape == exact.logits.shape
