"""Operations and bytes of each part of an optimized detector, counted while it computes a frame.

Bytes are those of each operator's inputs and outputs, counted once: the memory traffic without
caches. Products of 8-bit integers count like other operations.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from sparsevod_core.fast.pyramid import LazyPyramid
from sparsevod_core.model.detector import SparseVOD


class Traffic(TorchDispatchMode):
    """Counters by part: backbone, pyramid (with RoIAlign), tfe, spfa, and head (the rest)."""

    def __init__(self, fast: SparseVOD) -> None:
        super().__init__()
        self.flops: dict[str, float] = defaultdict(float)
        self.integer_flops: dict[str, float] = defaultdict(float)
        self.bytes: dict[str, float] = defaultdict(float)
        self._part = ["head"]
        self._undo: list[Callable[[], None]] = []
        self._within(fast.backbone, "forward", "backbone")
        self._within(LazyPyramid, "pool", "pyramid")
        for stage in fast.stages:
            for module, part in ((stage.temporal_roi, "tfe"), (stage.aggregation, "spfa")):
                if module is not None:
                    self._within(module, "forward", part)
        self._formulas = FlopCounterMode(display=False).flop_registry | flop_registry

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        part, packet = self._part[-1], func.overloadpacket
        if packet is torch.ops.aten._int_mm:
            operations = 2.0 * args[0].shape[0] * args[0].shape[1] * args[1].shape[1]
            self.integer_flops[part] += operations
            self.flops[part] += operations
        elif packet in self._formulas:
            self.flops[part] += self._formulas[packet](*args, **kwargs, out_val=result)
        if not func.is_view:
            tensors = [
                leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)
            ]
            self.bytes[part] += sum(
                min(leaf.nbytes, read(packet, leaf, result)) for leaf in tensors
            )
        return result

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, value, trace)
        for undo in self._undo:
            undo()

    def _within(self, owner: Any, name: str, part: str) -> None:
        """Count for `part` while `owner.name` runs."""
        original = getattr(owner, name)
        is_own = name in vars(owner)

        def counted(*inputs: Any, **options: Any) -> Any:
            self._part.append(part)
            try:
                return original(*inputs, **options)
            finally:
                self._part.pop()

        setattr(owner, name, counted)
        self._undo.append(
            lambda: setattr(owner, name, original) if is_own else delattr(owner, name)
        )


def read(packet: Any, leaf: Tensor, result: Any) -> float:
    """Return the bytes an operator reads of a tensor at most; a gather reads what it writes."""
    if packet in (torch.ops.aten.index_select, torch.ops.aten.gather):
        return 2.0 * result.nbytes
    return float("inf")
