"""The detector as two graphs of plain tensor operations, for frames of one size.

The support graph makes of a support frame what targets need of it; the frame graph makes detections
of a target frame and of what was made of its S support frames, side by side. The layers are the
detector's own. Two parts are written for exporters: RoIAlign as a gather (torchvision's operator
does not pass PyTorch's ONNX exporter, vision#9306), and TFE's search without writing into scores.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sparsevod_core.model.detector import PADDING_MULTIPLE, SparseVOD, top_detections
from sparsevod_core.model.roi_align import MapsAsRows
from sparsevod_core.model.temporal_roi import NORM_EPS
from sparsevod_core.structures import DetectorOutput

SCORES_AT_ONCE = 2**24  # of one support frame: 64 MiB


class _Graph(nn.Module):
    """What both graphs do first: the pyramid of a frame, and RoIAlign on it."""

    image_sizes: Tensor

    def __init__(self, detector: SparseVOD, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = detector.eval()
        self.register_buffer("image_sizes", torch.tensor([image_size]), persistent=False)
        self._padding = [-side % PADDING_MULTIPLE for side in image_size]

    def pyramid(self, image: UInt8[Tensor, "1 3 H W"]) -> list[Float[Tensor, "1 C _ _"]]:
        below, right = self._padding
        padded = F.pad(image.float(), (0, right, 0, below))
        return self.detector.pyramid(padded, self.image_sizes)

    def pool(
        self, pyramid: list[Float[Tensor, "1 C _ _"]], boxes_xyxy: Float[Tensor, "1 N 4"]
    ) -> Float[Tensor, "1 N C P P"]:
        """`PyramidRoIAlign.pool` with a gather in the place of the embedding lookup."""
        align = self.detector.roi_align
        rows = torch.cat([level.permute(0, 2, 3, 1).flatten(0, 2) for level in pyramid])
        sizes = [(level.shape[2], level.shape[3]) for level in pyramid]
        samples = align.samples(sizes, boxes_xyxy)
        index, weights = align.bags(samples, MapsAsRows.dense(sizes, 1))
        gathered = rows.index_select(0, index.flatten()).unflatten(0, index.shape)
        pooled = (gathered * weights[..., None]).sum(1)
        side = align.output_size
        return pooled.view(1, boxes_xyxy.shape[1], side, side, -1).movedim(4, 2)


class SupportGraph(_Graph):
    """One support frame to what targets need of it; put side by side along the first dimension."""

    def forward(
        self, image: UInt8[Tensor, "1 3 H W"]
    ) -> tuple[Float[Tensor, "1 C h w"], Float[Tensor, "1 T N C"]]:
        """The map in which TFE looks, and the proposal features of every stage for SPFA."""
        pyramid = self.pyramid(image)
        boxes_xyxy, features = self.detector.proposals(self.image_sizes)
        stage_features = []
        for stage in self.detector.stages:
            features = stage.interact(features, self.pool(pyramid, boxes_xyxy))
            stage_features.append(features)
            boxes_xyxy = stage.refine(boxes_xyxy, features)
        return pyramid[self.detector.support_level], torch.stack(stage_features, dim=1)


class FrameGraph(_Graph):
    """A target frame and its support frames to detections."""

    def forward(
        self,
        image: UInt8[Tensor, "1 3 H W"],
        support_maps: Float[Tensor, "S C h w"],
        support_proposals: Float[Tensor, "S T N C"],
    ) -> tuple[Float[Tensor, "N 4"], Float[Tensor, " N"], Int[Tensor, " N"]]:
        """Unclipped boxes in pixels of the image, scores in 0..1, labels; best first."""
        pyramid = self.pyramid(image)
        proposals_xyxy, features = self.detector.proposals(self.image_sizes)
        boxes_xyxy = proposals_xyxy
        for number, stage in enumerate(self.detector.stages):
            roi_features = self.pool(pyramid, boxes_xyxy)
            if stage.temporal_roi is not None:
                similar = _similar(roi_features, support_maps, stage.temporal_roi.top_k)
                roi_features = stage.temporal_roi.aggregation(roi_features, similar)
            features = stage.interact(features, roi_features)
            if stage.aggregation is not None:
                known = support_proposals[:, number].flatten(0, 1)[None]
                features = stage.aggregation(features, known)
            logits = stage.classify(features)
            boxes_xyxy = stage.refine(boxes_xyxy, features)
        output = DetectorOutput(logits[None], boxes_xyxy[None], proposals_xyxy, self.image_sizes)
        boxes, scores, labels = top_detections(output)
        return boxes[0], scores[0], labels[0]


def _similar(
    roi_features: Float[Tensor, "1 N C P P"], maps: Float[Tensor, "S C h w"], top_k: int
) -> Float[Tensor, "1 S N C P P"]:
    """`TemporalRoIFeatures.similar` of one video whose maps are valid everywhere."""
    _, num, channels, side, _ = roi_features.shape
    supports, height, width = maps.shape[0], maps.shape[2], maps.shape[3]
    length = height * width
    bins = roi_features[0].flatten(2).transpose(1, 2).flatten(0, 1)  # [Q, C]
    rows = maps.flatten(2).transpose(1, 2)  # [S, L, C]
    directions = F.normalize(bins, dim=-1, eps=NORM_EPS)
    keys = F.normalize(rows, dim=-1, eps=NORM_EPS).transpose(1, 2)  # [S, C, L]
    found = [
        (part @ keys).topk(min(top_k, length), dim=-1)  # [S, q, k]
        for part in directions.split(max(1, SCORES_AT_ONCE // length))
    ]
    cosines = torch.cat([values for values, _ in found], dim=1)
    index = torch.cat([indices for _, indices in found], dim=1)
    start = length * torch.arange(supports)[:, None, None]
    chosen = rows.flatten(0, 1).index_select(0, (index + start).flatten())
    chosen = chosen.view(supports, len(bins), -1, channels)  # [S, Q, k, C]
    weights = cosines.softmax(dim=-1) * (bins != 0).any(-1)[:, None]
    mixed = (weights[..., None] * chosen).sum(2)  # [S, Q, C]
    return mixed.view(1, supports, num, side, side, channels).movedim(-1, 3)
