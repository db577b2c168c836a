"""CUDA graphs of inference: one graph per shape of batches replaces about a thousand launches.

A frame runs hundreds of small kernels, which the host launches more slowly than a large GPU runs
them. Nothing in `SparseVOD.encode` and `detect` waits for the device, so that both can be captured
(CUDA C++ Programming Guide, "CUDA Graphs").
"""

from __future__ import annotations

import copy
import functools
import logging
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from sparsevod_core.model.detector import Images, SparseVOD
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.structures import DetectorOutput

_log = logging.getLogger(__name__)

_WARM_UPS = 2  # cuDNN and cuBLAS choose kernels and allocate their workspaces before the capture
_TOLERANCE = 0.25  # of the first stage's logits against plain launches; later stages amplify
_MAX_SHAPES = 4

Shape: TypeAlias = tuple[torch.Size, torch.dtype, tuple[torch.Size, ...]]


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames that are encoded only when used, so that one graph holds encoding and detection."""

    images: Images
    image_sizes: Int[Tensor, "B 2"]


class RecordedDetector:
    """Detector whose `detect` is compiled or captured when a shape occurs for the second time.

    A batch smaller than an earlier one of the same frame size is padded with its last frame. When
    the support memory changes, it is copied into the memory of the graph. If compilation or capture
    fails, or its result differs from a plain launch, a warning is logged and batches are launched.

    Args:
        detector: used for support frames, and for shapes that occur once.
        quick: the same detector with compiled parts, or `detector` itself.
        recorded: if True, capture `quick` as CUDA graphs.
    """

    def __init__(self, detector: SparseVOD, quick: SparseVOD, *, recorded: bool) -> None:
        self._detector = detector
        self._quick = quick
        self._kind = _Graph if recorded else _Launch
        self._runs: dict[Shape, _Launch | _Graph] = {}
        self._last: tuple[Shape, int] | None = None
        self._is_usable = True

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> Frames:
        """See `SparseVOD.encode`; runs in `remember` or `detect`."""
        return Frames(images, image_sizes)

    def remember(self, supports: Frames, videos: int = 1) -> SupportMemory:
        """See `SparseVOD.remember`."""
        encoded = self._detector.encode(supports.images, supports.image_sizes)
        return self._detector.remember(encoded, videos)

    def detect(self, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
        """See `SparseVOD.detect`."""
        shape = _shape(targets, memory)
        batch = len(targets.images)
        run = self._runs.get(shape)
        if run is not None and batch <= run.batch:
            return run(_padded(targets, run.batch), memory)[:batch]
        output = _launch(self._detector, targets, memory)
        if self._is_usable and self._last == (shape, batch):
            self._prepare(shape, targets, memory, output)
        self._last = shape, batch
        return output

    def _prepare(
        self,
        shape: Shape,
        targets: Frames,
        memory: SupportMemory | None,
        launched: DetectorOutput,
    ) -> None:
        try:
            run = self._kind(self._quick, targets, memory)
            difference = run(targets, memory).logits[0] - launched.logits[0]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        else:
            largest = difference.abs().max().item()
            if largest < _TOLERANCE:
                if len(self._runs) == _MAX_SHAPES:
                    del self._runs[next(iter(self._runs))]
                self._runs[shape] = run
                return
            reason = f"the logits of the first stage differ by {largest:.3g}"
        self._is_usable = False
        _log.warning("inference without compilation and CUDA graphs: %s", reason)


class _Launch:
    """Compiled detector for batches of one shape."""

    def __init__(self, detector: SparseVOD, targets: Frames, memory: SupportMemory | None) -> None:
        self.batch = len(targets.images)
        self._detector = detector

    def __call__(self, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
        return _launch(self._detector, targets, memory)


class _Graph:
    """CUDA graph for batches of one shape, with the memory that it reads and writes."""

    def __init__(self, detector: SparseVOD, targets: Frames, memory: SupportMemory | None) -> None:
        self.batch = len(targets.images)
        self._targets = Frames(targets.images.clone(), targets.image_sizes.clone())
        self._memory = copy.deepcopy(memory)
        self._current = memory
        stream = _capture_stream(targets.images.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                _launch(detector, self._targets, self._memory)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads upload frames at the same time.
        with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
            self._output = _launch(detector, self._targets, self._memory)

    def __call__(self, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
        self._targets.images.copy_(targets.images, non_blocking=True)
        self._targets.image_sizes.copy_(targets.image_sizes, non_blocking=True)
        if memory is not None and memory is not self._current:
            assert self._memory is not None
            torch._foreach_copy_(self._memory.tensors, memory.tensors)
            self._current = memory
        self._graph.replay()
        return self._output.clone()


@functools.cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream of all captures: cuBLAS keeps 32 MiB for each stream it has run on."""
    return torch.cuda.Stream(device)


def _padded(targets: Frames, batch: int) -> Frames:
    """Return a batch of that size, padded with its last frame."""
    if len(targets.images) == batch:
        return targets
    chosen = torch.arange(batch, device=targets.images.device).clamp(max=len(targets.images) - 1)
    return Frames(targets.images[chosen], targets.image_sizes[chosen])


def _launch(detector: SparseVOD, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
    return detector.detect(detector.encode(targets.images, targets.image_sizes), memory)


def _shape(targets: Frames, memory: SupportMemory | None) -> Shape:
    shapes = () if memory is None else tuple(tensor.shape for tensor in memory.tensors)
    return targets.images.shape[1:], targets.images.dtype, shapes
