"""Number of times that a training step makes the host wait for the device.

On a CPU nothing waits, so the test counts operations that would on a GPU: those whose result has a
size or value that the host must know, and copies to the host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from sparsevod_core.config import Config
from sparsevod_core.fast import plan_for_training
from sparsevod_core.training import trainer as trainer_module
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

WAITING = (
    "_local_scalar_dense",  # item(), float(), bool()
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
    "is_nonzero",
    "repeat_interleave.Tensor",
)


class Waits(TorchDispatchMode):
    """Counter of operations that would make the host wait, by name."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        if name.startswith(WAITING):
            self._counts[name] += 1
        is_mask = func is torch.ops.aten.index.Tensor or func is torch.ops.aten.index_put_.default
        if is_mask and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self._counts["boolean index"] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_host_waits_only_for_the_matching_once_per_batch(
    accumulate: int,
    precision: str,
    settings: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = settings(
        "train.max_steps=3",
        "train.log_every=100",
        "train.ema=0.9",
        "model.num_stages=3",
        f"train.accumulate={accumulate}",
        f"train.precision={precision}",
    )
    waits: Counter[str] = Counter()

    def counting(name: str) -> Callable[..., torch.Tensor]:
        method = getattr(torch.Tensor, name)

        def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
            waits[name] += 1
            return method(*args, **kwargs)

        return counted

    step, adam_step = Trainer._step, torch.optim.AdamW.step

    def watched(*args: Any) -> None:
        with monkeypatch.context() as patch, Waits(waits):
            patch.setattr(torch.Tensor, "cpu", counting("cpu"))
            # It copies Python numbers to the device and waits for the copy.
            patch.setattr(torch.Tensor, "new_tensor", counting("new_tensor"))
            step(*args)

    def unwatched(*args: Any) -> None:
        with _disable_current_modes():  # it waits on CPUs; the fused kernel for GPUs does not
            adam_step(*args)

    monkeypatch.setattr(Trainer, "_step", watched)
    monkeypatch.setattr(torch.optim.AdamW, "step", unwatched)
    # The plan for a GPU, without CUDA graphs, which need one.
    plan = replace(plan_for_training(torch.device("cuda"), config.train.precision), recorded=False)
    if plan.kernels == "triton":  # its wrappers do not wait, and its interpreter takes minutes
        plan = replace(plan, kernels="gather")
    monkeypatch.setattr(trainer_module, "plan_for_training", lambda *_, **__: plan)
    Trainer(config, tmp_path / "run", device="cpu").fit()
    assert waits == {"cpu": 3 * accumulate}
