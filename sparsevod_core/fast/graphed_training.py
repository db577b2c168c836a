"""Forward and backward of training as CUDA graphs, one pair per shape of clips.

A step with one clip runs about a thousand small kernels, which the host launches more slowly than a
large GPU runs them; a graph replays them at once. Matching needs the host and is not captured.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.structures import Clip, DetectorOutput, Targets

_log = logging.getLogger(__name__)

MAX_SHAPES = 8  # each holds the activations of a step
MIN_FREE = 0.25  # fraction of the GPU's memory that must be free to capture another shape


class GraphedTraining(nn.Module):
    """`SparseVOD.forward`, captured when a shape of clips occurs for the second time.

    If capture fails, a warning is logged and the kernels are launched as usual.

    Args:
        detector: the detector to train. Graphs refer to the memory of its parameters, so that
            weights must be loaded in place.
    """

    def __init__(self, detector: SparseVOD) -> None:
        super().__init__()
        self.detector = detector
        self._seen: set[tuple[torch.Size, ...]] = set()
        self._recorded: dict[tuple[torch.Size, ...], Any] = {}
        self._is_usable = True

    def forward(self, clip: Clip, targets: Sequence[Targets] = ()) -> DetectorOutput:
        """See `SparseVOD.forward`."""
        tensors = (clip.images, clip.supports, clip.image_sizes)
        shape = tuple(tensor.shape for tensor in tensors)
        if self.training and torch.is_grad_enabled():
            if shape not in self._recorded and shape in self._seen and self._has_room():
                self._record(shape, tensors)
            self._seen.add(shape)
            if shape in self._recorded:
                logits, boxes_xyxy, proposals_xyxy = self._recorded[shape](*tensors)
                return DetectorOutput(logits, boxes_xyxy, proposals_xyxy, clip.image_sizes)
        return self.detector(clip)

    def _has_room(self) -> bool:
        free, total = torch.cuda.mem_get_info()
        reusable = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        is_free = free + reusable > MIN_FREE * total
        return self._is_usable and len(self._recorded) < MAX_SHAPES and is_free

    def _record(self, shape: tuple[torch.Size, ...], tensors: tuple[Tensor, ...]) -> None:
        sample = tuple(tensor.clone() for tensor in tensors)
        device = tensors[0].device.type
        try:
            with torch.autocast(
                device,
                torch.get_autocast_dtype(device),
                enabled=torch.is_autocast_enabled(device),
                cache_enabled=False,  # cached casts would not exist when a graph is replayed
            ):
                self._recorded[shape] = torch.cuda.make_graphed_callables(
                    _Outputs(self.detector).train(), sample
                )
        except RuntimeError as error:
            self._is_usable = False
            reason = str(error).splitlines()[0]
            _log.warning("training without CUDA graphs: %s", reason)


class _Outputs(nn.Module):
    """`SparseVOD.forward` with plain tensors as inputs and outputs, as capture needs."""

    def __init__(self, detector: SparseVOD) -> None:
        super().__init__()
        self.detector = detector

    def forward(
        self,
        images: UInt8[Tensor, "B 3 H W"],
        supports: UInt8[Tensor, "B S 3 H W"],
        image_sizes: Int[Tensor, "B 2"],
    ) -> tuple[Float[Tensor, "T B N K"], Float[Tensor, "T B N 4"], Float[Tensor, "B N 4"]]:
        output = self.detector(Clip(images, supports, image_sizes))
        return output.logits, output.boxes_xyxy, output.proposals_xyxy.detach()
