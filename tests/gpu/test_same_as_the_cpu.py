"""Results of a GPU compared with those of the plain model on the CPU, stage by stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_model import CUDA, ON_A_GPU, build, frames

from sparsevod_core.benchmark.accuracy import StageDifference, stage_differences
from sparsevod_core.checkpoint import load_detector
from sparsevod_core.embedded import embedded_checkpoint
from sparsevod_core.fast import Plan, computing_in, optimized, plan_for

pytestmark = ON_A_GPU
SIZE = (320, 400)


@pytest.fixture(scope="module")
def trained() -> Any:
    return load_detector(embedded_checkpoint())[0].eval()


def differences(detector: Any, plan: Plan, shared_maps: bool) -> list[StageDifference]:
    """Return the differences of every stage between the GPU and the CPU."""
    images = torch.nn.functional.pad(frames(4, SIZE)[0], (0, 8)).cpu()
    fast = optimized(detector, plan).to(CUDA)
    with computing_in(plan.precision):
        return stage_differences(
            detector, fast, images[:1], images[1:], SIZE, shared_maps=shared_maps
        )


@pytest.mark.parametrize("shared_maps", [True, False])
@pytest.mark.parametrize("kernels", ["triton", "gather", "bags"])
def test_fp32_is_fp32(trained: Any, kernels: Any, shared_maps: bool) -> None:
    fused: Any = "triton" if kernels == "triton" else "none"
    for stage in differences(trained, Plan(kernels=kernels, fused=fused), shared_maps):
        assert stage.logits_median < 1e-5
        # Noise of 1e-6 in a cosine flips a near tie of these frames, which changes one proposal.
        assert stage.logits < 5e-3
        assert stage.boxes_px < 0.05


@pytest.mark.parametrize(("precision", "most"), [("tf32", 0.2), ("bf16", 0.2)])
def test_less_precision_is_less_exact_but_close(trained: Any, precision: Any, most: float) -> None:
    plan = replace(plan_for(CUDA, precision), recorded=False)
    logits = max(stage.logits for stage in differences(trained, plan, shared_maps=True))
    assert 1e-4 < logits < most  # otherwise it would be fp32, or wrong


@torch.inference_mode()
def test_two_precisions_live_side_by_side() -> None:
    detector = build().to(CUDA)
    images, sizes = frames(4)
    found = {}
    for precision in ("fp32", "bf16", "fp32 again"):
        name: Any = precision.split()[0]
        model = optimized(detector, plan_for(CUDA, name))
        with computing_in(name):
            memory = model.remember(model.encode(images[1:], sizes[1:]))
            found[precision] = model.detect(model.encode(images[:1], sizes[:1]), memory).logits
    assert torch.equal(found["fp32"], found["fp32 again"])
    assert found["fp32"].dtype == found["bf16"].dtype == torch.float32
    assert not torch.equal(found["fp32"], found["bf16"])
