"""Faster R-CNN, SELSA, Temporal RoI Align and MAMBA from frames to detections, and in training."""

from __future__ import annotations

import pytest
import torch
from small_detectors import build

from sparsevod_core.losses.two_stage import TwoStageCriterion
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames
from sparsevod_core.model.two_stage.region_proposals import Proposals
from sparsevod_core.structures import Clip, Targets

SIZE = (60, 90)
TEMPORAL = ["selsa", "troi", "mamba"]


def frames(count, size=SIZE, seed=1):
    """Return images of moving noise, padded to a multiple of 16, and their sizes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = 255 * torch.rand(count, 3, 6, 9, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size, mode="bilinear")
    images = torch.nn.functional.pad(images, (0, -size[1] % 16, 0, -size[0] % 16))
    return images, torch.tensor([size] * count)


def truth(*boxes):
    return Targets(torch.tensor(boxes).reshape(-1, 4).float(), torch.arange(len(boxes)) % 3)


def remembered(detector, images, sizes):
    """Remember support frames one by one, as at test time."""
    return detector.join(
        [
            detector.remember(detector.encode(images[i : i + 1], sizes[i : i + 1]))
            for i in range(len(images))
        ]
    )


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)
    assert torch.equal(found[2], expected[2])


@torch.no_grad()
@pytest.mark.parametrize("system", ["faster_rcnn", "selsa", "troi"])
def test_a_batch_of_targets_gives_the_detections_of_single_ones(system):
    detector = build(system)
    memory = None
    if detector.uses_supports:
        memory = remembered(detector, *frames(3, seed=2))
    images, sizes = frames(3)
    together = detector.top(detector.detect(detector.encode(images, sizes), memory))
    assert together[1][:, 0].min() > 0.1
    for i in range(3):
        target = detector.encode(images[i : i + 1], sizes[i : i + 1])
        assert_same(detector.top(detector.detect(target, memory)), [x[i : i + 1] for x in together])


@torch.no_grad()
@pytest.mark.parametrize("system", TEMPORAL)
def test_a_memory_joined_frame_by_frame_is_that_of_all_frames(system):
    detector = build(system)
    images, sizes = frames(3, seed=2)
    joined = remembered(detector, images, sizes)
    at_once = detector.remember(detector.encode(images, sizes))
    assert joined.num_supports == at_once.num_supports == 3
    assert joined.nbytes == at_once.nbytes > 0
    for one, other in zip(joined.tensors, at_once.tensors, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert detector.join([]) is None


@torch.no_grad()
@pytest.mark.parametrize("system", TEMPORAL)
def test_detections_depend_on_supports_and_exist_without(system):
    detector = build(system)
    target = detector.encode(*frames(1))
    scores = [
        detector.top(detector.advance(target, memory, None)[0])[1]
        for memory in (
            None,
            remembered(detector, *frames(2, seed=2)),
            remembered(detector, *frames(2, seed=3)),
        )
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (scores[one] - scores[other]).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("system", TEMPORAL)
def test_padded_proposals_are_neither_keys_nor_detections(system):
    detector = build(system)

    def shortened(encoded, count, junk):
        """Return the frames with `count` proposals; boxes of the padding are `junk`."""
        boxes = encoded.proposals.boxes.clone()
        boxes[:, count:] = junk
        counts = torch.full_like(encoded.proposals.counts, count)
        proposals = Proposals(boxes, encoded.proposals.scores, counts)
        return type(encoded)(encoded.maps, proposals, encoded.image_sizes)

    results = []
    for junk in (torch.zeros(4), torch.tensor([0.0, 0, 40, 50])):
        memory = detector.remember(shortened(detector.encode(*frames(1, seed=2)), 3, junk))
        state = None
        for seed in (3, 4):
            target = shortened(detector.encode(*frames(1, seed=seed)), 2, junk)
            output, state = detector.advance(target, memory, state)
        results.append(detector.top(output))
    assert_same(*results)
    assert (results[0][1] > 0).sum() <= 2 * 3  # two proposals, three classes


@torch.no_grad()
def test_supports_of_plain_faster_rcnn_play_no_role():
    detector = build("faster_rcnn")
    assert not detector.uses_supports
    target = detector.encode(*frames(1))
    output = detector.detect(target, None)
    single = detector.head(detector.head.embed(detector.pool(target)), None)
    assert torch.equal(output.logits, single[0])


@torch.no_grad()
def test_a_state_of_mamba_can_be_used_again():
    detector = build("mamba")
    images, sizes = frames(9)
    memory = remembered(detector, *frames(2, seed=2))
    state, states, outputs = None, [], []
    for i in range(len(images)):
        target = detector.encode(images[i : i + 1], sizes[i : i + 1])
        output, state = detector.advance(target, memory, state)
        states.append(state)
        outputs.append(output)
    lengths = [[len(bank) for bank in state.banks] for state in states]
    assert lengths[0] == [12, 12]  # 4 proposals of each of 2 supports and the target
    assert lengths[2:] == [[20, 20]] * 7
    again, after = detector.advance(target, memory, states[-2])
    assert torch.equal(again.logits, outputs[-1].logits)
    assert torch.equal(after.banks[1].key, states[-1].banks[1].key)


@pytest.mark.parametrize("system", ["faster_rcnn", *TEMPORAL])
@pytest.mark.parametrize("boxes", [[(4, 6, 40, 44), (30, 10, 80, 50)], []])
def test_gradients_reach_all_weights_even_without_boxes(system, boxes):
    detector = build(system).train()
    images, sizes = frames(6)
    clip = Clip(images[:2], images[2:].unflatten(0, (2, 2)), sizes[:2])
    targets = [truth(*boxes), truth()]
    losses = TwoStageCriterion(num_batches=1)(detector(clip, targets), targets, 1)
    losses.total.backward()
    assert all(loss.isfinite() for loss in losses.by_name.values())
    assert (losses["boxes"] > 0) == bool(boxes)
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    if boxes:
        zero = [name for name, p in detector.named_parameters() if not p.grad.any()]
        # A key's bias adds the same to all scores of a query, so that the softmax ignores it.
        assert all(name.endswith("key.bias") for name in zero)


@pytest.mark.parametrize("system", TEMPORAL)
def test_a_clip_without_support_frames_is_its_own(system):
    detector = build(system).train()
    images, sizes = frames(2)
    targets = [truth((4, 6, 40, 44)), truth()]
    logits = []
    for supports in (images.new_zeros(2, 0, *images.shape[1:]), images[:, None]):
        torch.manual_seed(7)
        logits.append(detector(Clip(images, supports, sizes), targets).head.logits)
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_temporal_roi_align_finds_nothing_in_the_padding_of_a_clip():
    detector = build("troi")
    supports, target = detector.encode(*frames(2, seed=2)), detector.encode(*frames(1))
    rois = detector.pool(target)
    bin_of_a_roi = rois[0, 0, :, 3, 3, None, None]
    padded = torch.nn.functional.pad(supports.maps, (0, 2, 0, 1))
    padded[:, :, :, -2:] = bin_of_a_roi
    padded[:, :, -1:] = bin_of_a_roi
    mixed = [
        detector.mixed(
            rois,
            [detector.support_maps(EncodedFrames(maps, supports.proposals, sizes), videos=1)],
        )
        for maps, sizes in (
            (supports.maps, supports.image_sizes),
            (padded, supports.image_sizes),
            (padded, supports.image_sizes + 32),
        )
    ]
    torch.testing.assert_close(mixed[0], mixed[1])
    assert (mixed[0] - mixed[2]).abs().max() > 1e-2
