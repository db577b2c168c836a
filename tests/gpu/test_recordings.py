"""CUDA graphs compared with plain launches of the same plan; memory does not grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_model import CUDA, ON_A_GPU, build, frames

from sparsevod_core.fast import computing_in, optimized, plan_for
from sparsevod_core.fast.graphed_training import GraphedTraining
from sparsevod_core.kernels import triton_kernels
from sparsevod_core.structures import Clip

pytestmark = ON_A_GPU


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def models(request: Any) -> Any:
    """Return the precision, and the detector with and without CUDA graphs."""
    plan = plan_for(CUDA, request.param)
    detector = build().to(CUDA)
    launched = optimized(detector, replace(plan, recorded=False))
    return request.param, optimized(detector, plan), launched


def memory_of(model: Any, seed: int) -> Any:
    images, sizes = frames(3, seed=seed)
    return model.remember(model.encode(images, sizes))


@torch.inference_mode()
def same(models: Any, images: torch.Tensor, sizes: torch.Tensor, memory: Any) -> None:
    _, recorded, launched = models
    found = recorded.detect(recorded.encode(images, sizes), memory)
    right = launched.detect(launched.encode(images, sizes), memory)
    assert len(found.image_sizes) == len(images)
    assert torch.equal(found.logits, right.logits)
    assert torch.equal(found.boxes_xyxy, right.boxes_xyxy)


@torch.inference_mode()
def test_a_recording_is_the_launches(models: Any, caplog: pytest.LogCaptureFixture) -> None:
    precision, recorded, launched = models
    with computing_in(precision):
        memory = memory_of(launched, 2)
        for seed in range(5):  # other frames
            same(models, *frames(4, seed=seed), memory)
        same(models, *frames(4), memory_of(launched, 3))  # another memory
        same(models, *frames(4), memory)
        for _ in range(3):  # no support frames
            same(models, *frames(4), None)
        for size in ((64, 96), (128, 160), (64, 96)):  # other shapes
            for _ in range(3):
                same(models, *frames(2, size), memory)
    assert recorded._runs  # otherwise everything above was launched
    assert not caplog.records


@torch.inference_mode()
def test_a_smaller_last_batch_is_filled_up(models: Any) -> None:
    precision, recorded, launched = models
    with computing_in(precision):
        memory = memory_of(launched, 2)
        for _ in range(3):
            same(models, *frames(4), memory)
        images, sizes = frames(3, seed=9)
        found = recorded.detect(recorded.encode(images, sizes), memory)
        right = launched.detect(launched.encode(images, sizes), memory)
        assert found.logits.shape == right.logits.shape
        # Another batch size uses other kernels, with other rounding.
        near = 1e-3 if precision == "fp32" else 0.2
        torch.testing.assert_close(found.logits[0], right.logits[0], atol=near, rtol=0)


@torch.inference_mode()
def test_results_stay_when_the_recording_runs_again(models: Any) -> None:
    precision, recorded, launched = models
    with computing_in(precision):
        memory = memory_of(launched, 2)
        outputs = []
        for seed in (1, 1, 1, 5):
            images, sizes = frames(4, seed=seed)
            outputs.append(recorded.detect(recorded.encode(images, sizes), memory))
        kept = outputs[2].logits.clone()
        images, sizes = frames(4, seed=7)
        recorded.detect(recorded.encode(images, sizes), memory)
        assert torch.equal(outputs[2].logits, kept)


@torch.inference_mode()
def test_memory_does_not_grow_with_the_shapes() -> None:
    detector = build().to(CUDA)
    recorded = optimized(detector, plan_for(CUDA, "bf16"))
    memory = memory_of(recorded, 1)

    def round_of_shapes() -> int:
        for height in range(64, 64 + 8 * 32, 32):
            for _ in range(3):
                images, sizes = frames(2, (height, 96))
                recorded.detect(recorded.encode(images, sizes), memory)
        del images, sizes
        return torch.cuda.memory_allocated()

    round_of_shapes()
    before = round_of_shapes()
    assert round_of_shapes() <= before + 2**20


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-3), ("bf16", 0.1)])
def test_gradients_of_recorded_training_are_the_launched(precision: Any, most: float) -> None:
    detector = build().to(CUDA).train()
    detector.use_kernels(triton_kernels(trains=True))
    graphed = GraphedTraining(detector).train()
    parameters = [one for one in detector.parameters() if one.requires_grad]

    def gradients(model: Any, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, sizes = frames(6, seed=seed)
        clip = Clip(images[:2], images[2:].unflatten(0, (2, 2)), sizes[:2])
        for parameter in parameters:
            parameter.grad = None
        with (
            computing_in(precision),
            torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"),
        ):
            output = model(clip)
            # Only boxes of the first stage: later ones amplify the order of atomic additions.
            loss = output.logits.float().sigmoid().mean() + output.boxes_xyxy[0].mean() / 100
        loss.backward()
        found = [one.grad.flatten() for one in parameters if one.grad is not None]
        return loss.detach().clone(), torch.cat(found).double()

    for seed in (1, 1, 2, 3):  # captured the second time, then replayed with other clips
        loss, found = gradients(graphed, seed)
        right_loss, right = gradients(detector, seed)
        assert abs(loss - right_loss) < most
        assert (found - right).norm() / right.norm() < most
    assert graphed._recorded
