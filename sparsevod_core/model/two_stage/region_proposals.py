"""Region proposal network (RPN) of Faster R-CNN: a feature map in, proposals out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchvision.ops import nms

from sparsevod_core.model.padding import inside
from sparsevod_core.model.two_stage.anchors import grid_anchors
from sparsevod_core.model.two_stage.assignment import assign, sample
from sparsevod_core.model.two_stage.box_code import MMDETECTION, Limits, decode, encode
from sparsevod_core.structures import ProposalSamples, Targets

STDS = (1.0, 1.0, 1.0, 1.0)  # of the box deltas


@dataclass(frozen=True, slots=True)
class Proposals:
    """Proposals of each frame, best first.

    Attributes:
        boxes: Boxes inside the unpadded image. Rows from `counts` on are zero.
        scores: Objectness, 0..1.
        counts: Number of proposals of each frame; fewer than N may remain.
    """

    boxes: Float[Tensor, "B N 4"]
    scores: Float[Tensor, "B N"]
    counts: Int[Tensor, " B"]

    @property
    def valid(self) -> Bool[Tensor, "B N"]:
        """Which rows are proposals."""
        return torch.arange(self.boxes.shape[1], device=self.counts.device) < self.counts[:, None]


class RegionProposals(nn.Module):
    """RPN (Ren et al., NeurIPS 2015) on one map, with the rules of MMDetection.

    Args:
        channels: C, number of channels of the map.
        width: number of channels of the hidden layer.
        base_anchors: A anchors of the map's first position.
        stride: pixels per position of the map.
        num_candidates: number of best anchors that enter the non-maximum suppression (NMS).
        nms_iou: a box is suppressed by a better one if their IoU is larger.
        positive_iou, negative_iou, min_positive_iou: see `assign`.
        num_samples: number of anchors of each frame for the loss.
        positive_share: the largest share of anchors of objects among them.
        limits: bounds of the proposals.
    """

    base_anchors: Tensor

    def __init__(
        self,
        *,
        channels: int,
        width: int,
        base_anchors: Float[Tensor, "A 4"],
        stride: int,
        num_candidates: int,
        nms_iou: float,
        positive_iou: float,
        negative_iou: float,
        min_positive_iou: float,
        num_samples: int,
        positive_share: float,
        limits: Limits = MMDETECTION,
    ) -> None:
        super().__init__()
        self.register_buffer("base_anchors", base_anchors, persistent=False)
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.logits = nn.Conv2d(width, len(base_anchors), 1)
        self.deltas = nn.Conv2d(width, 4 * len(base_anchors), 1)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.01)
            else:  # a bias
                nn.init.zeros_(parameter)
        self.stride = stride
        self.num_candidates = num_candidates
        self.nms_iou = nms_iou
        self.positive_iou = positive_iou
        self.negative_iou = negative_iou
        self.min_positive_iou = min_positive_iou
        self.num_samples = num_samples
        self.positive_share = positive_share
        self.limits = limits

    def forward(
        self, feature_map: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B A H W"], Float[Tensor, "B _ H W"]]:
        """Return objectness logits, and box deltas; channel 4a + k is delta k of anchor a."""
        hidden = self.conv(feature_map).relu()
        return self.logits(hidden), self.deltas(hidden)

    @torch.no_grad()
    def proposals(
        self,
        logits: Float[Tensor, "B A H W"],
        deltas: Float[Tensor, "B _ H W"],
        image_sizes: Int[Tensor, "B 2"],
        count: int,
    ) -> Proposals:
        """Return the best proposals of each frame; they carry no gradient.

        Args:
            logits, deltas: outputs of `forward`.
            image_sizes: unpadded (height, width) of each frame in pixels.
            count: N, the largest number of proposals of a frame.
        """
        boxes, scores, valid = self.candidates(logits, deltas, image_sizes)
        best = Proposals(
            boxes.new_zeros(len(boxes), count, 4),
            scores.new_zeros(len(boxes), count),
            image_sizes.new_zeros(len(boxes), dtype=torch.long),
        )
        for frame, is_valid in enumerate(valid):
            frame_boxes, frame_scores = boxes[frame, is_valid], scores[frame, is_valid]
            kept = _first_kept(frame_boxes, frame_scores, self.nms_iou, count)
            best.boxes[frame, : len(kept)] = frame_boxes[kept]
            best.scores[frame, : len(kept)] = frame_scores[kept]
            best.counts[frame] = len(kept)
        return best

    def candidates(
        self,
        logits: Float[Tensor, "B A H W"],
        deltas: Float[Tensor, "B _ H W"],
        image_sizes: Int[Tensor, "B 2"],
    ) -> tuple[Float[Tensor, "B M 4"], Float[Tensor, "B M"], Bool[Tensor, "B M"]]:
        """Return boxes and scores of the best anchors before NMS, and which of them count.

        Anchors of positions in the padding are left out, so that a frame has the same proposals in
        any batch. Of equal scores, the first anchor counts as the better one.
        """
        map_size = logits.shape[-2:]
        in_image = inside(image_sizes, map_size, self.stride).flatten(1)  # [B, HW]
        in_image = in_image.repeat_interleave(len(self.base_anchors), dim=1)
        scores = self._by_anchor(logits, 1)[..., 0].sigmoid().masked_fill(~in_image, -1)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        scores, order = scores[:, : self.num_candidates], order[:, : self.num_candidates]
        anchors = grid_anchors(self.base_anchors, map_size, self.stride)[order]
        candidate_deltas = self._by_anchor(deltas, 4).gather(1, order[..., None].expand(-1, -1, 4))
        boxes = decode(anchors, candidate_deltas, STDS, image_sizes, self.limits)
        return boxes, scores, (scores >= 0) & (boxes[..., 2:] > boxes[..., :2]).all(-1)

    def samples(
        self,
        logits: Float[Tensor, "B A H W"],
        deltas: Float[Tensor, "B _ H W"],
        image_sizes: Int[Tensor, "B 2"],
        targets: Sequence[Targets],
    ) -> ProposalSamples:
        """Draw anchors of each frame, and return predictions and targets for the loss.

        Only anchors that are entirely inside the unpadded image take part.

        Args:
            logits, deltas: outputs of `forward`.
            image_sizes: unpadded (height, width) of each frame in pixels.
            targets: ground truth of each frame; may have no boxes.
        """
        anchors = grid_anchors(self.base_anchors, logits.shape[-2:], self.stride)
        width_height = image_sizes.flip(-1)[:, None] + self.limits.corner_px  # [B, 1, 2]
        in_image = (anchors[:, :2] >= 0).all(-1) & (anchors[:, 2:] < width_height).all(-1)
        rows = []
        for frame, (frame_logits, frame_deltas) in enumerate(
            zip(self._by_anchor(logits, 1)[..., 0], self._by_anchor(deltas, 4), strict=True)
        ):
            candidates = in_image[frame].nonzero()[:, 0]
            truth = targets[frame].boxes_xyxy
            assigned = assign(
                anchors[candidates],
                truth,
                self.positive_iou,
                self.negative_iou,
                self.min_positive_iou,
            )
            positives, negatives = sample(assigned, self.num_samples, self.positive_share)
            objects = candidates[positives]
            drawn = torch.cat([objects, candidates[negatives]])
            labels = torch.arange(len(drawn), device=drawn.device) < len(objects)
            delta_targets = encode(anchors[objects], truth[assigned[positives]], STDS)
            rows.append(
                (
                    frame_logits[drawn],
                    labels.to(frame_logits.dtype),
                    frame_deltas[objects],
                    delta_targets,
                )
            )
        return ProposalSamples(*(torch.cat(parts) for parts in zip(*rows, strict=True)))

    def _by_anchor(
        self, values: Float[Tensor, "B channels H W"], per_anchor: int
    ) -> Float[Tensor, "B HWA per_anchor"]:
        """Return values in the order of `grid_anchors` and in the dtype of the anchors."""
        values = values.permute(0, 2, 3, 1).reshape(len(values), -1, per_anchor)
        return values.to(self.base_anchors.dtype)


def _first_kept(
    boxes_xyxy: Float[Tensor, "M 4"], scores: Float[Tensor, " M"], iou: float, count: int
) -> Int[Tensor, " kept"]:
    """Return the first `count` boxes that NMS keeps of boxes in descending order of their scores.

    They depend only on boxes before them, so that the best boxes are mostly enough. Of 6,000
    candidates, this spares the CPU most of the time of the NMS.
    """
    enough = 4 * count
    kept = nms(boxes_xyxy[:enough], scores[:enough], iou)
    if len(kept) < count and enough < len(scores):
        kept = nms(boxes_xyxy, scores, iou)
    return kept[:count]
