"""Inference and a training step with fake CUDA tensors, which have no data.

Mixing them with a tensor on the host fails, as on a GPU. Only tests/gpu can detect problems of the
computation, such as a kernel that does not support a dtype.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sparsevod_core.config import load_config
from sparsevod_core.fast import Plan, optimized, plan_for
from sparsevod_core.inference.intake import Intake
from sparsevod_core.inference.readout import packed
from sparsevod_core.kernels import GATHER, triton_kernels
from sparsevod_core.losses import criterion, matcher
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.structures import Clip, Targets

pytest.importorskip("triton", reason="Triton comes with PyTorch's builds for GPUs on Linux")

CUDA = torch.device("cuda")
OVERRIDES = ["data.short_side=64", "data.long_side=96", "model.num_classes=4"]
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {},
    "averages": {"tfe": "average", "spfa": "average"},
    "neither": {"tfe": "off", "spfa": "off"},
}
PLANS = {
    "bf16": plan_for(CUDA, "bf16"),
    "fp32": plan_for(CUDA, "fp32"),
    "without Triton": Plan(precision="bf16", kernels="gather"),
}


class Uploads:
    """Stand-in for uploads, with frames that are already on the device."""

    def host_buffer(self, shape: Any, dtype: torch.dtype) -> Tensor:
        return torch.empty(tuple(shape), dtype=dtype, device=CUDA)

    def up(self, tensors: Any) -> list[Tensor]:
        return list(tensors)

    def down(self, tensor: Tensor) -> Any:
        return lambda: tensor


def build(**changes: Any) -> SparseVOD:
    small = {"num_classes": 4, "num_stages": 2, "num_proposals": 5} | changes
    return build_detector(dataclasses.replace(load_config("tiny").model, **small)).eval()


def moved(model: SparseVOD) -> SparseVOD:
    """Move weights and buffers of the model to the device, but no other tensors."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(there(parameter), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = there(buffer)
    return model


def there(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=CUDA)


@torch.inference_mode()
def detect(detector: SparseVOD, plan: Plan, supports: int = 3) -> list[Tensor]:
    """Run inference from source frames to the tensors that are copied to the host."""
    fast = optimized(detector, dataclasses.replace(plan, recorded=False))
    with FakeTensorMode(allow_non_fake_inputs=False):
        return detect_with(moved(fast), supports)


def detect_with(fast: SparseVOD, supports: int) -> list[Tensor]:
    data = load_config("tiny", overrides=OVERRIDES).data
    intake = Intake(data, Uploads(), where="device", ahead=1)
    inputs = intake.batch([np.zeros((120, 180, 3), np.uint8)] * (2 + supports))
    images, sizes = inputs.load()
    assert images.device.type == sizes.device.type == "cuda"
    memory = None
    if supports:
        memory = fast.remember(fast.encode(images[2:], sizes[2:]))
    output = fast.detect(fast.encode(images[:2], sizes[:2]), memory)
    found = packed(*top_detections(output))
    kept = [] if memory is None else memory.tensors
    return [
        output.logits,
        output.boxes_xyxy,
        output.proposals_xyxy,
        output.image_sizes,
        found,
        *kept,
    ]


@pytest.mark.parametrize("supports", [3, 0])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_frame_stays_on_the_device(changes: dict[str, Any], plan: Plan, supports: int) -> None:
    found = detect(build(**changes), plan, supports)
    assert {tensor.device.type for tensor in found} == {"cuda"}
    logits, boxes, *_, rows = found[:5]
    assert logits.shape == (2, 2, 5, 4) and rows.shape == (2, 5, 6)
    assert logits.dtype == boxes.dtype == rows.dtype == torch.float32


def pairs(output: Any, targets: Any, *_: Any) -> list[list[tuple[Tensor, Tensor]]]:
    """Replace the host part of the matching, which would read the costs."""
    costs = matcher.matching_cost(output, targets, *_)
    assert costs.device.type == "cuda"
    return [[(torch.arange(len(one.labels), device="cpu"),) * 2 for one in targets] for _ in costs]


def train(detector: SparseVOD, kernels: Any, precision: str) -> list[Tensor]:
    """Return the losses of a step and, if there is a GPU, the gradients."""
    detector.train().use_kernels(kernels)
    with FakeTensorMode(allow_non_fake_inputs=False):
        return train_with(moved(detector), precision)


def train_with(detector: SparseVOD, precision: str) -> list[Tensor]:
    clip = Clip(
        torch.zeros(2, 3, 64, 96, dtype=torch.uint8, device=CUDA),
        torch.zeros(2, 2, 3, 64, 96, dtype=torch.uint8, device=CUDA),
        torch.zeros(2, 2, dtype=torch.int64, device=CUDA),
    )
    targets = [
        Targets(
            torch.zeros(count, 4, device=CUDA), torch.zeros(count, dtype=torch.int64, device=CUDA)
        )
        for count in (2, 1)
    ]
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        output = detector(clip)
    losses = SetCriterion(load_config("tiny").loss)(output, targets, 3.0)
    found = [losses.total, losses["class"], losses["l1"], losses["giou"], output.logits]
    if torch.cuda.is_available():  # the autograd engine needs a real device
        losses.total.backward()
        found += [one.grad for one in detector.parameters() if one.grad is not None]
    return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kernels", ["triton", "gather"])
def test_a_training_step_stays_on_the_device(
    monkeypatch: pytest.MonkeyPatch, kernels: str, precision: str
) -> None:
    monkeypatch.setattr(criterion, "match", pairs)
    # Without a GPU, CUDA autocast is disabled.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    chosen = triton_kernels(trains=True) if kernels == "triton" else GATHER
    found = train(build(), chosen, precision)
    assert {tensor.device.type for tensor in found} == {"cuda"}


def on_the_host(function: Any) -> Any:
    def wrapped(*inputs: Any) -> Any:
        return function(*inputs).cpu()

    return wrapped


def test_a_tensor_that_is_left_on_the_host_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build()
    planted = dataclasses.replace(GATHER, weighted_rows=on_the_host(GATHER.weighted_rows))
    monkeypatch.setattr(Plan, "chosen_kernels", lambda self: planted)
    with pytest.raises(RuntimeError, match=r"device|found two different"):
        detect(detector, PLANS["without Triton"])
    monkeypatch.setattr(criterion, "match", pairs)
    with pytest.raises(RuntimeError, match=r"device|found two different"):
        train(build(), planted, "fp32")
