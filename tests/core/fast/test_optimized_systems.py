"""Optimized detectors of all systems but SparseVOD compared with the plain ones, on a CPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from sparsevod_core.config import load_config
from sparsevod_core.fast import Plan, optimized, plan_for, troi
from sparsevod_core.fast.backbone import FoldedDilatedBackbone, FoldedStages
from sparsevod_core.fast.onednn import PackedConv2d
from sparsevod_core.fast.troi import TappedTroiMemory
from sparsevod_core.model.backbone import resnet_parts
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.dilated_backbone import DilatedBackbone
from sparsevod_core.model.two_stage.troi import TroiMemory

SIZE = (60, 90)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TWO_STAGE = ["selsa", "troi", "mamba"]
SYSTEMS = [*TWO_STAGE, "fgfa", "mega", "transvod"]
PLANS = {
    "cpu": plan_for(CPU, "fp32"),
    "packed": Plan(fused="onednn"),
    "gathers": Plan(kernels="gather"),
    "one pass after a convolution": Plan(fused="triton"),
}


def build(system: str, *, temporal: bool = True) -> Any:
    """Build a detector whose predictions differ from proposal to proposal."""
    torch.manual_seed(0)
    config = load_config("tiny", system=system).model
    detector = build_detector(dataclasses.replace(config, num_classes=4, temporal=temporal))
    for name, parameter in detector.named_parameters():
        if name.startswith(("rpn.logits", "rpn.deltas")):
            nn.init.normal_(parameter, std=0.1)
        elif name.startswith(("head.class_logits", "head.box_deltas")):
            nn.init.normal_(parameter, std=0.3)
        elif name == "flow.predict_flow.weight":
            nn.init.normal_(parameter, std=0.1)
        elif "class_logits" in name:  # TransVOD
            nn.init.normal_(parameter, std=1)
    return detector.eval()


def frames(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return smooth noise, padded to a multiple of 16, and the sizes without padding."""
    generator = torch.Generator().manual_seed(3)
    coarse = 255 * torch.rand(count, 3, 6, 9, generator=generator)
    images = nn.functional.interpolate(coarse, SIZE, mode="bilinear").byte()
    return nn.functional.pad(images, (0, 6, 0, 4)), torch.tensor([SIZE] * count)


@torch.inference_mode()
def detections(model: Any, targets: int = 2, supports: int = 3) -> list[torch.Tensor]:
    """Return boxes, scores and labels of the targets, processed in order."""
    images, sizes = frames(targets + supports)
    memory, state, found = None, None, []
    if model.uses_supports and supports:
        memories = [
            model.remember(model.encode(images[i : i + 1], sizes[:1]))
            for i in range(targets, len(images))
        ]
        memory = model.join(memories)
    for i in range(targets):
        output, state = model.advance(model.encode(images[i : i + 1], sizes[:1]), memory, state)
        found.append(model.top(output))
    return [torch.cat(part) for part in zip(*found, strict=True)]


def assert_same(
    found: list[torch.Tensor], expected: list[torch.Tensor], close: float = 1e-4
) -> None:
    """Compare detections; rounding may swap those with nearly the same score."""
    assert expected[1][:, 10].min() > 0.1  # there is something to compare
    torch.testing.assert_close(found[1], expected[1], atol=close, rtol=0)
    boxes, scores, labels = (
        (ours[:, :, None], plain[:, None]) for ours, plain in zip(found, expected, strict=True)
    )  # [targets, ours, plain]
    is_same = (boxes[0] - boxes[1]).abs().amax(-1) < 1e-2
    is_same &= ((scores[0] - scores[1]).abs() < close) & (labels[0] == labels[1])
    assert is_same.any(dim=2).all() and is_same.any(dim=1).all()


@pytest.mark.parametrize("supports", [3, 0])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("system", SYSTEMS)
def test_in_fp32_detections_are_the_same(system: str, plan: Plan, supports: int) -> None:
    if system == "mamba" and not supports:
        pytest.skip("same as selsa")
    detector = build(system)
    fast = optimized(detector, plan)
    assert isinstance(fast.backbone, FoldedStages)
    found, expected = (detections(model, supports=supports) for model in (fast, detector))
    # The logarithm in MEGA's relations amplifies rounding.
    assert_same(found, expected, close=1e-3 if system == "mega" else 1e-4)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_detections_in_single_frames_are_the_same(plan: Plan) -> None:
    detector = build("selsa", temporal=False)
    assert_same(detections(optimized(detector, plan)), detections(detector))


@torch.inference_mode()
@pytest.mark.parametrize("system", TWO_STAGE)
def test_bf16_stays_close(system: str) -> None:
    detector = build(system)
    fast = optimized(detector, plan_for(CPU, "bf16"))
    images, sizes = frames(3)
    plain = detector.encode(images[:1], sizes[:1])
    encoded = fast.encode(images[:1], sizes[:1])
    assert encoded.maps.dtype == torch.bfloat16 and encoded.proposals.boxes.dtype == torch.float32
    assert (encoded.maps.float() - plain.maps).norm() < 0.02 * plain.maps.norm()
    # Rounding reorders proposals, so that the rest is compared on the same ones.
    memories = []
    for model, dtype in ((detector, torch.float32), (fast, torch.bfloat16)):
        supports = [detector.encode(images[i : i + 1], sizes[:1]) for i in (1, 2)]
        supports = [dataclasses.replace(one, maps=one.maps.to(dtype)) for one in supports]
        memories.append(model.join([model.remember(one) for one in supports]))
    target = dataclasses.replace(plain, maps=plain.maps.to(torch.bfloat16))
    output = fast.advance(target, memories[1], None)[0]
    expected = detector.advance(plain, memories[0], None)[0]
    assert output.logits.dtype == output.deltas.dtype == torch.float32
    assert (output.logits - expected.logits).norm() < 0.03 * expected.logits.norm()
    assert (output.deltas - expected.deltas).norm() < 0.03 * expected.deltas.norm()


@torch.inference_mode()
@pytest.mark.parametrize("fuse", [None, PackedConv2d])
def test_norms_of_a_dilated_backbone_are_folded(fuse: Any) -> None:
    torch.manual_seed(0)
    stem, stages, widths = resnet_parts(ResNet(Bottleneck, [1, 1, 1, 2], width_per_group=2))
    backbone = DilatedBackbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=8,
        frozen_stages=0,
        freeze_norms=True,
    ).eval()
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.running_mean, norm.bias):
                nn.init.normal_(values, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    fast = FoldedDilatedBackbone(backbone, torch.float32, fuse=fuse)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.modules())
    images = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(fast(images), backbone(images), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_temporal_roi_align_keeps_taps_of_maps_that_are_not_too_large(
    precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast: Any = optimized(build("troi"), plan_for(CPU, precision))
    images, sizes = frames(3)
    encoded = [fast.encode(images[i : i + 1], sizes[:1]) for i in range(3)]
    memory = fast.join([fast.remember(one) for one in encoded[1:]])
    assert type(memory) is TappedTroiMemory
    assert (
        memory.taps.shape == (2, 24, 9, 64) and memory.taps.dtype == plan_for(CPU, precision).dtype
    )
    assert memory.num_supports == 2
    assert any(tensor is memory.taps for tensor in memory.tensors)
    batch = fast.encode(images[:2], sizes[:2])
    together = fast.detect(batch, memory).logits
    torch.testing.assert_close(together[:1], fast.detect(encoded[0], memory).logits)
    monkeypatch.setattr(troi, "MAX_POSITIONS", 10)
    memory = fast.join([fast.remember(one) for one in encoded[1:]])
    assert type(memory) is TroiMemory
    without = fast.detect(encoded[0], memory).logits
    close = 1e-4 if precision == "fp32" else 0.3
    torch.testing.assert_close(without, together[:1], atol=close, rtol=0)


@torch.inference_mode()
def test_maps_that_fgfa_averages_in_bf16_are_close() -> None:
    detector = build("fgfa")
    images, sizes = frames(3)
    maps = []
    for model in (detector, optimized(detector, plan_for(CPU, "bf16"))):
        encoded = [model.encode(images[i : i + 1], sizes[:1]) for i in range(3)]
        memory = model.join([model.remember(one) for one in encoded[1:]])
        warped = model.warped(encoded[0], memory)
        maps.append(model.map_aggregation(encoded[0].maps, warped, includes_targets=True))
    assert maps[1].dtype == torch.bfloat16
    assert (maps[1].float() - maps[0]).norm() < 0.03 * maps[0].norm()


@pytest.mark.parametrize("system", SYSTEMS)
def test_detections_in_bf16_are_finite(system: str) -> None:
    boxes, scores, _ = detections(optimized(build(system), plan_for(CPU, "bf16")))
    assert boxes.dtype == scores.dtype == torch.float32
    assert boxes.isfinite().all() and 0.1 < scores.max() <= 1


def test_the_trained_detector_stays_as_it_is() -> None:
    detector = build("troi").train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    fast = optimized(detector, plan_for(CPU, "bf16"))
    detections(fast)
    assert detector.training and detector.head.training and not fast.head.training
    assert all(parameter.requires_grad for parameter in detector.head.parameters())
    after = detector.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_gpu_gets_its_kernels() -> None:
    pytest.importorskip("triton", reason="Triton comes with PyTorch's builds for GPUs on Linux")
    plan = plan_for(CUDA, "fp32")
    fast: Any = optimized(build("troi"), plan)
    assert fast.roi_align.kernels == fast.temporal_roi.kernels
    assert fast.roi_align.kernels.weighted_rows is plan.chosen_kernels().weighted_rows
