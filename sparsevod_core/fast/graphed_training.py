"""Training's forward and backward as CUDA graphs, one pair for each shape of clips.

A step at one clip is some thousand small kernels, which a host launches more slowly than a large
GPU runs them. The graphs replay the same kernels. Matching, which needs the host, stays outside.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.structures import Clip, DetectorOutput

_log = logging.getLogger(__name__)

MOST_SHAPES = 8  # each holds the activations of a step
FREE_SHARE = 0.25  # of the GPU's memory that has to be free for one more


class GraphedTraining(nn.Module):
    """`SparseVOD.forward`, recorded when clips of a shape come for the second time.

    Where a recording fails, clips are launched, and a warning says so.

    Args:
        detector: its parameters keep their memory from now on: load weights in place.
    """

    def __init__(self, detector: SparseVOD) -> None:
        super().__init__()
        self.detector = detector
        self._seen: set[tuple[torch.Size, ...]] = set()
        self._recorded: dict[tuple[torch.Size, ...], Any] = {}
        self._is_usable = True

    def forward(self, clip: Clip) -> DetectorOutput:
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
        free, whole = torch.cuda.mem_get_info()
        reusable = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        is_free = free + reusable > FREE_SHARE * whole
        return self._is_usable and len(self._recorded) < MOST_SHAPES and is_free

    def _record(self, shape: tuple[torch.Size, ...], tensors: tuple[Tensor, ...]) -> None:
        sample = tuple(tensor.clone() for tensor in tensors)
        device = tensors[0].device.type
        try:
            with torch.autocast(
                device,
                torch.get_autocast_dtype(device),
                enabled=torch.is_autocast_enabled(device),
                cache_enabled=False,  # what it keeps would not be there when a graph is replayed
            ):
                self._recorded[shape] = torch.cuda.make_graphed_callables(
                    _Outputs(self.detector).train(), sample
                )
        except RuntimeError as error:
            self._is_usable = False
            reason = str(error).splitlines()[0]
            _log.warning("training steps are launched, not recorded: %s", reason)


class _Outputs(nn.Module):
    """Tensors in, tensors out: what can be recorded."""

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
