"""Training with the frozen stages computed as at inference, compared with the plain model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from sparsevod_core.config import load_config
from sparsevod_core.fast import Plan, plan_for_training, trainable
from sparsevod_core.fast.frozen import FoldedFrozenStages
from sparsevod_core.model.build import build_detector

CPU = torch.device("cpu")
SYSTEMS = {  # and the parameter nearest to the frozen stages
    ("sparsevod", 2): "backbone.stages.1.conv1.weight",
    ("sparsevod", 5): "backbone.fpn.inner_blocks.0.0.weight",
    ("selsa", 3): "backbone.stages.2.conv1.weight",
    ("transvod", 4): "backbone.stages.3.conv1.weight",
}


def detector_of(preset, system, frozen, *settings):
    torch.manual_seed(0)
    overrides = ["model.num_classes=3", f"model.frozen_stages={frozen}", *settings]
    if preset == "tiny":
        overrides.append("model.norm=batch")
    config = load_config(preset, system=system, overrides=overrides)
    detector = build_detector(config.model).train()
    for part in detector.backbone.modules():
        if isinstance(part, nn.BatchNorm2d):  # statistics of a trained network
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.5)
            nn.init.normal_(part.running_mean, std=0.1)
    return detector


def maps_and_gradient(backbone, name):
    images = torch.randn(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    maps = backbone.stage_maps(images)
    if hasattr(backbone, "fpn"):
        maps = maps + backbone(images)
    sum(features.square().mean() for features in maps if features.requires_grad).backward()
    return maps, dict(backbone.named_parameters())[name].grad


@pytest.mark.parametrize(("system", "frozen"), SYSTEMS)
def test_maps_and_gradients_are_those_of_the_plain_backbone(system, frozen):
    name = SYSTEMS[system, frozen].removeprefix("backbone.")
    detector = detector_of("tiny", system, frozen)
    plain = copy.deepcopy(detector.backbone)
    trainable(detector, plan_for_training(CPU, "fp32"))
    fast = detector.backbone
    assert isinstance(fast.run_frozen, FoldedFrozenStages)
    expected, found = maps_and_gradient(plain, name), maps_and_gradient(fast, name)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    assert fast.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("frozen", [2, 5])
def test_the_region_proposals_of_mega_read_the_frozen_stages(frozen):
    detector = detector_of("tiny", "mega", frozen)
    plain = copy.deepcopy(detector.backbone)
    trainable(detector, Plan(fused="onednn"))
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(detector.backbone(images), plain(images), atol=1e-4, rtol=1e-3)
    assert detector.backbone(images).requires_grad == plain(images).requires_grad == (frozen == 2)


def test_lite0_is_packed_and_its_maps_are_not_written_over():
    detector = detector_of("lite0", "sparsevod", 5)
    plain = copy.deepcopy(detector.backbone)
    trainable(detector, Plan(fused="onednn"))
    fast = detector.backbone
    name = "fpn.inner_blocks.0.0.weight"
    expected, found = maps_and_gradient(plain, name), maps_and_gradient(fast, name)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_weights_can_be_replaced_until_the_first_pass():
    detector = detector_of("tiny", "sparsevod", 5)
    trainable(detector, Plan(fused="onednn"))
    backbone, other = detector.backbone, detector_of("tiny", "sparsevod", 5).backbone
    nn.init.normal_(other.stem.conv1.weight)
    backbone.load_state_dict(other.state_dict())
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(
        backbone.stage_maps(images), other.stage_maps(images), atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("preset", ["tiny", "lite0", "r50"])
def test_bf16_is_that_of_autocast(preset):
    detector = detector_of(preset, "sparsevod", 3)
    plain = copy.deepcopy(detector.backbone)
    trainable(detector, plan_for_training(CPU, "bf16"))
    images = torch.randn(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        expected, found = plain(images), detector.backbone(images)
        sum(level.square().mean() for level in found).backward()
    for level, of_plain in zip(found, expected, strict=True):
        assert level.dtype == of_plain.dtype
        assert (level - of_plain).norm() < 0.03 * of_plain.norm()


@pytest.mark.parametrize("network", ["swin_t", "convnext_t"])
def test_the_layer_norm_of_a_frozen_stage_is_only_for_the_detector(network):
    detector = detector_of("r50", "sparsevod", 3, f"model.backbone={network}", "model.norm=layer")
    for part in detector.backbone.modules():
        if isinstance(part, LayerNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
    plain = copy.deepcopy(detector.backbone)
    trainable(detector, Plan(fused="onednn"))
    for part in detector.backbone.stages:  # stochastic depth differs from pass to pass
        part.eval()
    images = torch.randn(1, 3, 64, 64)
    expected = plain.eval().stage_maps(images)
    found = detector.backbone.stage_maps(images)
    assert detector.backbone.training
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_weights_can_be_replaced_moved_and_copied_after_a_pass():
    detector = detector_of("tiny", "sparsevod", 5)
    trainable(detector, Plan(fused="onednn"))
    backbone, other = detector.backbone, detector_of("tiny", "sparsevod", 5).backbone
    images = torch.randn(1, 3, 64, 64)
    before = backbone.stage_maps(images)
    nn.init.normal_(other.stem.conv1.weight)
    backbone.load_state_dict(other.state_dict())
    expected = other.stage_maps(images)
    assert (expected[0] - before[0]).abs().max() > 0.1
    torch.testing.assert_close(backbone.stage_maps(images), expected, atol=1e-3, rtol=1e-3)
    moved = copy.deepcopy(detector).double().float().backbone
    nn.init.normal_(moved.stem.conv1.weight)
    assert (moved.stage_maps(images)[0] - expected[0]).abs().max() > 0.1
    torch.testing.assert_close(backbone.stage_maps(images), expected, atol=1e-3, rtol=1e-3)
    moved.eval()
    with torch.no_grad():
        torch.testing.assert_close(moved(images), copy.deepcopy(moved)(images))


def test_another_plan_replaces_the_first():
    detector = detector_of("tiny", "sparsevod", 5)
    trainable(detector, Plan(fused="onednn"))
    trainable(detector, Plan())
    assert detector.backbone.run_frozen is None


@pytest.mark.parametrize("frozen", [0, 1])
def test_without_a_whole_frozen_stage_nothing_changes(frozen):
    detector = detector_of("tiny", "sparsevod", frozen)
    trainable(detector, Plan(fused="onednn"))
    assert detector.backbone.run_frozen is None
