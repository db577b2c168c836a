"""Recomputing the stages in the backward pass: identical gradients, less memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.config import Config
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Clip
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]


class PeakMemory(TorchDispatchMode):
    """Peak of the bytes in live storages that operations have allocated."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        self.peak = max(self.peak, self.live)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        if address in self._seen or not address:
            return
        self._seen[address] = storage.nbytes()
        self.live += storage.nbytes()
        weakref.finalize(storage, self._remove, address)

    def _remove(self, address: int) -> None:
        self.live -= self._seen.pop(address)


def clip(supports: int) -> Clip:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(2, 1 + supports, 3, 64, 96, generator=generator) * 255
    return Clip(images[:, 0], images[:, 1:], torch.tensor([[64, 96], [60, 90]]))


def gradients(config: Config, *, recompute: bool, supports: int) -> tuple[list[Any], int]:
    torch.manual_seed(0)
    detector = build_detector(config.model).train()
    detector.recompute_stages = recompute
    with PeakMemory() as memory:
        output = detector(clip(supports))
        (output.logits.sigmoid().sum() + output.boxes_xyxy.square().mean()).backward()
    return [parameter.grad for parameter in detector.parameters()], memory.peak


@pytest.mark.parametrize("supports", [0, 2])
def test_gradients_are_identical_and_take_less_memory(
    supports: int, settings: Callable[..., Config]
) -> None:
    config = settings("model.num_stages=4", "model.num_proposals=40")
    kept, kept_peak = gradients(config, recompute=False, supports=supports)
    recomputed, recomputed_peak = gradients(config, recompute=True, supports=supports)
    for one, other in zip(kept, recomputed, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.equal(one, other)
    assert recomputed_peak < 0.8 * kept_peak, (recomputed_peak, kept_peak)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_ends_with_the_same_weights(
    precision: str, settings: Callable[..., Config], tmp_path: Path
) -> None:
    weights = []
    for recompute in ("false", "true"):
        config = settings(
            "train.max_steps=2",
            f"train.precision={precision}",
            f"train.recompute_stages={recompute}",
        )
        result = Trainer(config, tmp_path / recompute, device="cpu").fit()
        weights.append(load_checkpoint(result.checkpoint).model)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
