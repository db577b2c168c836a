"""Batches of one shape as one recorded CUDA graph: a thousand launches become one.

A frame is some hundred small kernels, which a host launches more slowly than a large GPU runs them.
Nothing in `SparseVOD.encode` and `detect` waits for the device, so that they can be recorded (CUDA
C++ Programming Guide, "CUDA Graphs").
"""

from __future__ import annotations

import copy
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

_WARM_UPS = 2  # cuDNN and cuBLAS choose kernels and take their work space before the recording
_TOLERANCE = 0.25  # of the first stage's logits, replayed against launched; later stages amplify
_MOST_SHAPES = 4

Shape: TypeAlias = tuple[torch.Size, torch.dtype, tuple[torch.Size, ...]]


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames that are encoded when they are used: encoding and detecting are one recording."""

    images: Images
    image_sizes: Int[Tensor, "B 2"]


class RecordedDetector:
    """A detector whose `detect` is compiled or recorded when a shape comes for the second time.

    A batch that is smaller than an earlier one of the same frame size is filled up with its last
    frame. The memory of support frames is copied into the recording's own when it changes. Where a
    recording fails, or replays another result than was launched, batches are launched, and a
    warning says so.

    Args:
        detector: what is launched: for supports, and for shapes that come once.
        compiled: the same detector with compiled parts, see `compiled.py`; or `detector` itself.
        recorded: as CUDA graphs.
    """

    def __init__(self, detector: SparseVOD, compiled: SparseVOD, *, recorded: bool) -> None:
        self._detector = detector
        self._compiled = compiled
        self._kind = _Recording if recorded else _Launched
        self._quick: dict[Shape, _Launched | _Recording] = {}
        self._last: tuple[Shape, int] | None = None
        self._is_usable = True

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> Frames:
        """See `SparseVOD.encode`; done in `remember` or `detect`."""
        return Frames(images, image_sizes)

    def remember(self, supports: Frames, videos: int = 1) -> SupportMemory:
        """See `SparseVOD.remember`."""
        encoded = self._detector.encode(supports.images, supports.image_sizes)
        return self._detector.remember(encoded, videos)

    def detect(self, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
        """See `SparseVOD.detect`."""
        shape = _shape(targets, memory)
        batch = len(targets.images)
        quick = self._quick.get(shape)
        if quick is not None and batch <= quick.batch:
            return quick.run(_filled(targets, quick.batch), memory)[:batch]
        output = _launched(self._detector, targets, memory)
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
            quick = self._kind(self._compiled, targets, memory)
            difference = quick.run(targets, memory).logits[0] - launched.logits[0]
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        else:
            largest = difference.abs().max().item()
            if largest < _TOLERANCE:
                if len(self._quick) == _MOST_SHAPES:
                    del self._quick[next(iter(self._quick))]
                self._quick[shape] = quick
                return
            reason = f"the logits of the first stage differ by {largest:.3g}"
        self._is_usable = False
        _log.warning("frames are neither compiled nor recorded: %s", reason)


class _Launched:
    """A compiled detector for batches of one shape."""

    def __init__(self, detector: SparseVOD, targets: Frames, memory: SupportMemory | None) -> None:
        self.batch = len(targets.images)
        self._detector = detector

    def run(self, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
        """The output for other frames of that shape."""
        return _launched(self._detector, targets, memory)


class _Recording:
    """One graph with the memory that it reads and writes."""

    def __init__(self, detector: SparseVOD, targets: Frames, memory: SupportMemory | None) -> None:
        self.batch = len(targets.images)
        self._targets = Frames(targets.images.clone(), targets.image_sizes.clone())
        self._memory = copy.deepcopy(memory)
        self._current = memory
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                _launched(detector, self._targets, self._memory)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads upload frames meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = _launched(detector, self._targets, self._memory)

    def run(self, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
        """The output for other frames of that shape."""
        self._targets.images.copy_(targets.images, non_blocking=True)
        self._targets.image_sizes.copy_(targets.image_sizes, non_blocking=True)
        if memory is not None and memory is not self._current:
            assert self._memory is not None
            torch._foreach_copy_(self._memory.tensors, memory.tensors)
            self._current = memory
        self._graph.replay()
        return self._output.clone()


def _filled(targets: Frames, batch: int) -> Frames:
    """A batch of that size, filled up with its last frame."""
    if len(targets.images) == batch:
        return targets
    chosen = torch.arange(batch, device=targets.images.device).clamp(max=len(targets.images) - 1)
    return Frames(targets.images[chosen], targets.image_sizes[chosen])


def _launched(detector: SparseVOD, targets: Frames, memory: SupportMemory | None) -> DetectorOutput:
    return detector.detect(detector.encode(targets.images, targets.image_sizes), memory)


def _shape(targets: Frames, memory: SupportMemory | None) -> Shape:
    kept = () if memory is None else tuple(tensor.shape for tensor in memory.tensors)
    return targets.images.shape[1:], targets.images.dtype, kept
