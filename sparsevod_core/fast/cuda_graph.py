"""Target frames of one shape as one recorded CUDA graph: a thousand launches become one.

A frame at batch 1 is some thousand small kernels, which a host launches more slowly than a large
GPU runs them. Nothing in `FastDetector.detect` waits for the device, so that it can be recorded
(CUDA C++ Programming Guide, "CUDA Graphs").
"""

from __future__ import annotations

import logging

import torch
from jaxtyping import Int
from torch import Tensor

from sparsevod_core.fast.detector import FastDetector
from sparsevod_core.fast.support_bank import SupportBank
from sparsevod_core.model.detector import Images
from sparsevod_core.structures import DetectorOutput

_log = logging.getLogger(__name__)

_WARM_UPS = 3  # cuDNN and cuBLAS choose kernels and take their work space before the recording
_TOLERANCE = 1e-2  # of logits, between a frame replayed and the same frame launched


class GraphedDetector:
    """`FastDetector` on a GPU whose `detect` is recorded at the second frame of a shape and bank.

    Supports that change with every frame (`window`) are never recorded. Where a recording fails, or
    replays another result than was launched, frames are launched as before, and a warning says so.
    """

    def __init__(self, detector: FastDetector) -> None:
        self._detector = detector
        self._last: tuple[torch.Size, int] | None = None
        self._recording: _Recording | None = None
        self._is_usable = True

    def remember(self, images: Images, image_size: tuple[int, int]) -> SupportBank:
        """See `FastDetector.remember`."""
        return self._detector.remember(images, image_size)

    def detect(
        self, images: Images, image_sizes: Int[Tensor, "B 2"], bank: SupportBank | None
    ) -> DetectorOutput:
        """See `FastDetector.detect`."""
        frame = (images.shape, id(bank))
        if self._recording is not None and self._recording.frame == frame:
            return self._recording.replay(images, image_sizes)
        output = self._detector.detect(images, image_sizes, bank)
        if frame == self._last and self._is_usable:
            self._recording = self._record(images, image_sizes, bank, output)
        self._last = frame
        return output

    def _record(
        self,
        images: Images,
        image_sizes: Int[Tensor, "B 2"],
        bank: SupportBank | None,
        launched: DetectorOutput,
    ) -> _Recording | None:
        try:
            recording = _Recording(self._detector, images, image_sizes, bank)
            replayed = recording.replay(images, image_sizes)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        else:
            difference = (replayed.logits - launched.logits).abs().max().item()
            if difference < _TOLERANCE:
                return recording
            reason = f"its logits differ by {difference:.3g}"
        self._is_usable = False
        _log.warning("no CUDA graph is used: %s", reason)
        return None


class _Recording:
    """One graph with the memory that it reads and writes; holds the bank, which it reads too."""

    def __init__(
        self,
        detector: FastDetector,
        images: Images,
        image_sizes: Int[Tensor, "B 2"],
        bank: SupportBank | None,
    ) -> None:
        self.frame = (images.shape, id(bank))
        self._bank = bank
        self._images, self._sizes = images.clone(), image_sizes.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                detector.detect(self._images, self._sizes, bank)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = detector.detect(self._images, self._sizes, bank)

    def replay(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> DetectorOutput:
        """The output for other frames of that shape."""
        self._images.copy_(images, non_blocking=True)
        self._sizes.copy_(image_sizes, non_blocking=True)
        self._graph.replay()
        output = self._output
        return DetectorOutput(
            output.logits.clone(),
            output.boxes_xyxy.clone(),
            output.proposals_xyxy.clone(),
            output.image_sizes.clone(),
        )
