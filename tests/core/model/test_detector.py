"""The detector: memory, batching, variants, gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sparsevod_core.config import ModelConfig, load_config
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import top_detections
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.structures import Clip, DetectorOutput


def small_config(**changes) -> ModelConfig:
    base = load_config("tiny").model
    return dataclasses.replace(base, num_classes=4, num_proposals=6, **changes)


def random_clip(batch=2, supports=2, size=(60, 90), padded=(64, 96)) -> Clip:
    generator = torch.Generator().manual_seed(0)

    def frames(*shape):
        images = torch.randint(0, 256, (*shape, 3, *padded), dtype=torch.uint8, generator=generator)
        images[..., size[0] :, :] = 0
        images[..., size[1] :] = 0
        return images

    return Clip(frames(batch), frames(batch, supports), torch.tensor([size] * batch))


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    detector = build_detector(small_config())
    for stage in detector.stages:  # with its zero initialization, SPFA would have no effect
        torch.nn.init.normal_(stage.aggregation.output.weight, std=0.05)
    return detector.eval()


def remember(detector, images, size=(60, 90)):
    return detector.remember(detector.encode(images, torch.tensor([size] * len(images))))


def detect(detector, clip, memory, frames=slice(None)):
    return detector.detect(detector.encode(clip.images[frames], clip.image_sizes[frames]), memory)


@torch.no_grad()
def test_memory_gives_what_the_clip_gives(detector):
    clip = random_clip()
    whole = detector(clip)
    for index in range(2):
        memory = remember(detector, clip.supports[index])
        one = detect(detector, clip, memory, slice(index, index + 1))
        torch.testing.assert_close(one.logits[:, 0], whole.logits[:, index], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(
            one.boxes_xyxy[:, 0], whole.boxes_xyxy[:, index], atol=1e-2, rtol=1e-3
        )


@torch.no_grad()
def test_batch_of_targets_equals_one_by_one(detector):
    clip = random_clip(batch=3)
    memory = remember(detector, clip.supports[0])
    together = detect(detector, clip, memory)
    for index in range(3):
        one = detect(detector, clip, memory, slice(index, index + 1))
        torch.testing.assert_close(
            one.logits[:, 0], together.logits[:, index], atol=1e-3, rtol=1e-3
        )


@torch.no_grad()
def test_memories_of_single_frames_make_one(detector):
    clip = random_clip(supports=3)
    alone = [remember(detector, clip.supports[0, [number]]) for number in range(3)]
    memory = SupportMemory.joined(alone)
    shuffled = SupportMemory.joined([alone[2], alone[0], alone[1]])
    assert memory.num_supports == shuffled.num_supports == 3
    assert memory.nbytes == sum(
        one.nbytes - one.stages[0].maps.keys.bias.nbytes for one in alone
    ) + (alone[0].stages[0].maps.keys.bias.nbytes)
    a = detect(detector, clip, memory, slice(1))
    b = detect(detector, clip, shuffled, slice(1))  # order does not matter
    torch.testing.assert_close(a.logits, b.logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_supports_matter(detector):
    clip = random_clip()
    alone = detect(detector, clip, None)
    assert not torch.allclose(alone.logits, detector(clip).logits, atol=1e-3)


@torch.no_grad()
def test_starts_exactly_as_sparse_rcnn():
    clip = random_clip(supports=2)
    torch.manual_seed(0)
    with_spfa = build_detector(small_config(tfe="off")).eval()
    plain = build_detector(small_config(tfe="off", spfa="off")).eval()
    missing, unexpected = plain.load_state_dict(with_spfa.state_dict(), strict=False)
    assert not missing
    assert all(".aggregation." in name for name in unexpected)
    torch.testing.assert_close(with_spfa(clip).logits, plain(clip).logits)


@pytest.mark.parametrize("tfe", ["off", "average", "attention"])
@pytest.mark.parametrize("spfa", ["off", "average", "attention"])
def test_every_variant_trains_every_parameter(tfe, spfa):
    torch.manual_seed(0)
    detector = build_detector(small_config(tfe=tfe, spfa=spfa, num_stages=2))
    for stage in detector.stages:
        if stage.aggregation is not None:
            torch.nn.init.normal_(stage.aggregation.output.weight)
    output = detector(random_clip())
    assert output.logits.shape == (2, 2, 6, 4)
    (output.logits.square().sum() + output.boxes_xyxy.square().sum()).backward()
    without = [name for name, p in detector.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("num_stages", [1, 2, 6])
@torch.no_grad()
def test_number_of_stages(num_stages):
    detector = build_detector(small_config(num_stages=num_stages)).eval()
    assert detector(random_clip(batch=1)).boxes_xyxy.shape == (num_stages, 1, 6, 4)


def test_boxes_far_outside_give_finite_numbers(detector):
    clip = random_clip(batch=1)
    boxes = detector.proposals.boxes_cxcywh
    moved = boxes.detach() + torch.tensor([3.0, -2.0, 0.0, 0.0])
    output = torch.func.functional_call(detector, {"proposals.boxes_cxcywh": moved}, (clip,))
    assert output.logits.isfinite().all()
    assert output.boxes_xyxy.isfinite().all()


def test_frozen_and_group_norms():
    frozen = build_detector(ModelConfig(num_classes=2, num_stages=1, norm="batch_frozen"))
    trained = {name for name, p in frozen.named_parameters() if p.requires_grad}
    assert not any(name.startswith(("backbone.stem", "backbone.stages.0")) for name in trained)
    assert "backbone.stages.1.0.conv1.weight" in trained
    assert "backbone.stages.1.0.bn1.weight" not in trained
    frozen.train()
    assert not any(m.training for m in frozen.modules() if isinstance(m, torch.nn.BatchNorm2d))
    tiny = build_detector(small_config())
    assert all(p.requires_grad for p in tiny.parameters())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in tiny.modules())


def test_top_detections_by_hand():
    logits = torch.tensor([[[[0.0, 3.0], [2.0, -1.0], [-5.0, -4.0]]]])
    boxes = torch.arange(12.0).view(1, 1, 3, 4)
    output = DetectorOutput(logits, boxes, boxes[0], torch.tensor([[10, 10]]))
    found, scores, labels = top_detections(output)
    assert labels.tolist() == [[1, 0, 0]]
    torch.testing.assert_close(scores, torch.tensor([[3.0, 2.0, 0.0]]).sigmoid())
    assert found[0, :, 0].tolist() == [0.0, 4.0, 0.0]  # the first box appears with both classes


@torch.no_grad()
@pytest.mark.parametrize("map_norm", ["none", "layer"])
def test_head_without_tfe_is_invariant_to_the_scale_of_its_maps(map_norm):
    """A LayerNorm follows each product with RoI features, so training does not bound the scale."""
    torch.manual_seed(0)
    detector = build_detector(small_config(tfe="off", map_norm=map_norm)).eval()
    clip = random_clip()
    before = detector(clip)
    scale_pyramid(detector, 50)
    torch.testing.assert_close(detector(clip).logits, before.logits, atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_normalised_maps_have_no_scale():
    torch.manual_seed(0)
    detector = build_detector(small_config(map_norm="layer")).eval()
    clip = random_clip()
    before = detector.feature_maps(clip.images, clip.image_sizes)
    scale_pyramid(detector, 50)
    after = detector.feature_maps(clip.images, clip.image_sizes)
    for level, same in zip(before, after, strict=True):
        torch.testing.assert_close(level, same, atol=1e-3, rtol=1e-3)
        # All positions have the same norm, so TFE's initial scores are within +-sqrt(C / blocks).
        torch.testing.assert_close(
            level.square().mean(1), torch.ones_like(level[:, 0]), atol=1e-2, rtol=0
        )


def scale_pyramid(detector, factor):
    for block in detector.backbone.fpn.layer_blocks:
        for parameter in block.parameters():
            parameter.mul_(factor)
