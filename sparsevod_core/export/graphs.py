"""A detector as two graphs of plain tensor operations, for frames of one size.

The support graph computes the memory of one support frame. The frame graph computes detections from
a target frame and the concatenated outputs of the support graph for its S support frames. Both run
the code of the detector with kernels that every exporter supports.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sparsevod_core.kernels import GATHER
from sparsevod_core.model.detector import PADDING_MULTIPLE, SparseVOD, top_detections
from sparsevod_core.model.pyramid import Pyramid
from sparsevod_core.model.support import StageMemory, SupportMaps, SupportMemory


class _Graph(nn.Module):
    """Base of both graphs, which encodes a frame."""

    image_sizes: Tensor

    def __init__(self, detector: SparseVOD, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = copy.deepcopy(detector).eval()
        self.detector.use_kernels(GATHER)
        self.register_buffer("image_sizes", torch.tensor([image_size]), persistent=False)
        self._padding = [-side % PADDING_MULTIPLE for side in image_size]

    def encode(self, image: UInt8[Tensor, "1 3 H W"]) -> Pyramid:
        below, right = self._padding
        padded = F.pad(image.float(), (0, right, 0, below))
        return self.detector.encode(padded, self.image_sizes)


class SupportGraph(_Graph):
    """Graph from a support frame to its memory; results are concatenated along dimension 0."""

    def forward(
        self, image: UInt8[Tensor, "1 3 H W"]
    ) -> tuple[Float[Tensor, "1 HW C"], Float[Tensor, "1 T projections N C"]]:
        """Return the map in which TFE searches, and SPFA's projected proposals of every stage."""
        frame = self.encode(image)
        memory = self.detector.remember(frame)
        # A detector without TFE or SPFA does not read these, but the graphs of all detectors have
        # the same inputs.
        maps = self.detector.support_maps(frame)
        projected = [
            torch.stack(stage.proposals)
            if stage.proposals
            else image.new_zeros(1, 1, 1, 1, 1).float()
            for stage in memory.stages
        ]  # [projections, 1, 1, N, C]
        return maps.rows[0], torch.stack(projected)[:, :, 0].permute(2, 0, 1, 3, 4)


class FrameGraph(_Graph):
    """Graph from a target frame and its support memory to detections."""

    def forward(
        self,
        image: UInt8[Tensor, "1 3 H W"],
        support_maps: Float[Tensor, "S HW C"],
        support_proposals: Float[Tensor, "S T projections N C"],
    ) -> tuple[Float[Tensor, "N 4"], Float[Tensor, " N"], Int[Tensor, " N"]]:
        """Return unclipped boxes in pixels of the image, scores in 0..1 and labels, best first."""
        detector = self.detector
        rows = support_maps[None]
        valid = torch.ones(1, support_maps.shape[1], dtype=torch.bool)  # all frames have one size
        maps = SupportMaps(rows, detector.kernels.keys(rows, valid), 1)
        proposals = support_proposals[None]
        stages = tuple(
            StageMemory(
                maps if detector.has_temporal_roi else None,
                None,
                proposals[:, :, number].unbind(2) if detector.has_aggregation else (),
            )
            for number in range(len(detector.stages))
        )
        memory = SupportMemory(stages, support_maps.shape[0])
        output = detector.detect(self.encode(image), memory)
        boxes, scores, labels = top_detections(output)
        return boxes[0], scores[0], labels[0]
