"""The optimized EfficientNet-Lite0 compared with the plain one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparsevod_core.config import load_config
from sparsevod_core.fast import Plan, optimized, plan_for
from sparsevod_core.fast.backbone import FoldedStages
from sparsevod_core.fast.inverted_residual import PackedInvertedResidual
from sparsevod_core.fast.onednn import can_pack
from sparsevod_core.model.build import build_detector

CPU = torch.device("cpu")
PLANS = {
    "cpu": plan_for(CPU, "fp32"),
    "lazy pyramid": Plan(lazy_pyramid=True),
    "packed": Plan(fused="onednn"),
    "one pass after a convolution": Plan(fused="triton"),
}


@pytest.fixture(scope="module")
def detector():
    """A detector whose BatchNorms have statistics, in which ReLU6 limits many values."""
    torch.manual_seed(0)
    overrides = ["model.num_classes=3", "model.num_stages=2", "model.num_proposals=8"]
    overrides.append("model.support_level=p4")  # has no near-tie that rounding could flip
    detector = build_detector(load_config("lite0", overrides=overrides).model).eval()
    for part in detector.backbone.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.5)
            nn.init.normal_(part.running_mean, std=0.1)
    for stage in detector.stages:
        nn.init.normal_(stage.aggregation.output.weight, std=0.05)
    return detector


def frames(count):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([[64, 96]] * count)


@torch.inference_mode()
def outputs(model):
    images, sizes = frames(5)
    memory = model.remember(model.encode(images[2:], sizes[2:]))
    return model.detect(model.encode(images[:2], sizes[:2]), memory)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_in_fp32_the_numbers_are_the_same(detector, plan):
    plain, fast = outputs(detector), outputs(optimized(detector, plan))
    torch.testing.assert_close(fast.logits, plain.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.boxes_xyxy, plain.boxes_xyxy, atol=0.03, rtol=0)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@torch.inference_mode()
def test_maps_are_close_and_not_written_over(detector, dtype, limit):
    plan = Plan(fused="onednn", precision="fp32" if dtype == torch.float32 else "bf16")
    backbone = optimized(detector, plan).backbone
    assert isinstance(backbone, FoldedStages)
    packed = [part for part in backbone.modules() if isinstance(part, PackedInvertedResidual)]
    assert len(packed) == (16 if can_pack(dtype) else 0)
    for size in (64, 96):  # weights are packed for each size
        images = torch.randn(1, 3, size, 64)
        plain = detector.backbone.stage_maps(images)
        for found, expected in zip(backbone.stage_maps(images), plain, strict=True):
            assert (found.float() - expected).norm() < limit * expected.norm()


@pytest.mark.parametrize("system", ["selsa", "mega", "transvod"])
@torch.inference_mode()
def test_dilated_stages_of_other_systems_are_the_same(system):
    torch.manual_seed(0)
    overrides = ["model.backbone=lite0", "model.norm=batch"]
    detector = build_detector(load_config("tiny", system=system, overrides=overrides).model).eval()
    fast = optimized(detector, plan_for(CPU, "fp32"))
    images = torch.randn(1, 3, 64, 96)
    plain, packed = (model.backbone.stage_maps(images)[-1] for model in (detector, fast))
    torch.testing.assert_close(packed, plain, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_megas_map_of_the_rois_has_no_negative_value_without_reduction():
    # The last block of a ResNet ends with a ReLU, this one does not.
    overrides = ["model.backbone=lite0", "model.norm=batch", "model.mega.reduction=0"]
    detector = build_detector(load_config("tiny", system="mega", overrides=overrides).model).eval()
    backbones = detector.backbone, optimized(detector, plan_for(CPU, "fp32")).backbone
    images = torch.randn(1, 3, 64, 96)
    plain, packed = (backbone.roi_map(backbone(images)) for backbone in backbones)
    torch.testing.assert_close(packed, plain, atol=1e-4, rtol=1e-4)
    assert plain.min() == 0
