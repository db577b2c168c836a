"""Faster R-CNN, SELSA and Temporal RoI Align as graphs of plain tensor operations.

As in `graphs`, they run the code of the detector; only NMS is another one, see `fixed_nms`.
"""

from __future__ import annotations

import copy
from dataclasses import fields

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from sparsevod_core.export.fixed_nms import ClassByClass, best_proposals
from sparsevod_core.kernels import GATHER
from sparsevod_core.model.support import SupportMaps
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames, FasterRCNN
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.selsa_memory import SelsaMemory
from sparsevod_core.model.two_stage.troi import Troi, TroiMemory

Image = UInt8[Tensor, "1 3 H W"]
Detected = tuple[Float[Tensor, "M 4"], Float[Tensor, " M"], Int[Tensor, " M"]]
Proposals = Float[Tensor, "S layers 2 n F"]


class TwoStageGraph(nn.Module):
    """Graph of Faster R-CNN on single frames, and base of the others."""

    image_sizes: Tensor

    def __init__(self, detector: FasterRCNN, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = copy.deepcopy(detector).eval()
        self.detector.use_kernels(GATHER)
        selector = self.detector.selector
        self.detector.selector = ClassByClass(
            **{field.name: getattr(selector, field.name) for field in fields(selector)}
        )
        self.register_buffer("image_sizes", torch.tensor([image_size]), persistent=False)
        self._padding = [-side % detector.rpn.stride for side in image_size]

    def forward(self, image: Image) -> Detected:
        """Return M boxes in pixels of the image, scores in 0..1 and labels, best first.

        If there are fewer than M detections, the others are zero boxes with score 0.
        """
        return self.detected(self.encode(image), None)

    def encode(self, image: Image) -> EncodedFrames:
        """Return the encoding of a frame."""
        below, right = self._padding
        detector, rpn = self.detector, self.detector.rpn
        maps = detector.feature_maps(F.pad(image.float(), (0, right, 0, below)), self.image_sizes)
        logits, deltas = rpn(maps)
        candidates = rpn.candidates(logits, deltas, self.image_sizes)
        proposals = best_proposals(*candidates, iou=rpn.nms_iou, count=detector.num_proposals)
        return EncodedFrames(maps, proposals, self.image_sizes)

    def detected(self, frame: EncodedFrames, memory: SelsaMemory | TroiMemory | None) -> Detected:
        """Return the detections of a target frame."""
        boxes_xyxy, scores, labels = self.detector.top(self.detector.detect(frame, memory))
        return boxes_xyxy[0], scores[0], labels[0]


class SelsaSupportGraph(TwoStageGraph):
    """Graph from a support frame to its memory; results are concatenated along dimension 0."""

    detector: Selsa

    def forward(self, image: Image) -> tuple[Proposals, Bool[Tensor, "1 n"]]:  # type: ignore[override]
        """Return keys and values of the proposals at each FC, and which rows are proposals."""
        return stacked(self.detector.remember(self.encode(image)))


class SelsaFrameGraph(TwoStageGraph):
    """Graph from a target frame and its support memory to detections."""

    def forward(  # type: ignore[override]
        self, image: Image, support_proposals: Proposals, support_valid: Bool[Tensor, "S n"]
    ) -> Detected:
        """Return detections as `TwoStageGraph` does."""
        return self.detected(self.encode(image), memory_of(support_proposals, support_valid))


class TroiSupportGraph(TwoStageGraph):
    """Graph from a support frame to its memory; results are concatenated along dimension 0."""

    detector: Troi

    def forward(
        self, image: Image
    ) -> tuple[Float[Tensor, "1 HW C"], Proposals, Bool[Tensor, "1 n"]]:
        """Return the map in which TFE searches, then what SELSA's graph returns."""
        memory = self.detector.remember(self.encode(image))
        return memory.maps.rows[0], *stacked(memory.proposals)


class TroiFrameGraph(TwoStageGraph):
    """Graph from a target frame and its support memory to detections."""

    detector: Troi

    def forward(  # type: ignore[override]
        self,
        image: Image,
        support_maps: Float[Tensor, "S HW C"],
        support_proposals: Proposals,
        support_valid: Bool[Tensor, "S n"],
    ) -> Detected:
        """Return detections as `TwoStageGraph` does."""
        rows = support_maps[None]
        valid = torch.ones(1, support_maps.shape[1], dtype=torch.bool)  # all frames have one size
        keys = self.detector.temporal_roi.kernels.keys(rows, valid)
        memory = TroiMemory(memory_of(support_proposals, support_valid), SupportMaps(rows, keys, 1))
        return self.detected(self.encode(image), memory)


def stacked(memory: SelsaMemory) -> tuple[Proposals, Bool[Tensor, "1 n"]]:
    """Return the memory of one frame as two tensors."""
    layers = torch.stack([torch.stack(layer) for layer in memory.layers])  # [layers, 2, 1, n, F]
    return layers.permute(2, 0, 1, 3, 4), memory.is_valid


def memory_of(proposals: Proposals, is_valid: Bool[Tensor, "S n"]) -> SelsaMemory:
    """Return the memory of S frames from their tensors."""
    layers = [
        tuple(part.flatten(0, 1)[None] for part in layer.unbind(1)) for layer in proposals.unbind(1)
    ]
    return SelsaMemory(
        tuple((key, value) for key, value in layers), is_valid.flatten()[None], is_valid.shape[0]
    )
