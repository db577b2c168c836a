"""TransVOD (He et al., ACM MM 2021): Deformable DETR whose queries attend to those of other frames.

Frame detector and temporal part are trained one after the other: first the frame detector on its
own, then, with the frame detector frozen, the temporal part.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.boxes import cxcywh_to_xyxy
from sparsevod_core.model.backbone import ResNetStages
from sparsevod_core.model.detector import Normalize
from sparsevod_core.model.transvod.image_map import ImageMap, positions_inside
from sparsevod_core.model.transvod.temporal_queries import (
    QueryMemory,
    TemporalQueries,
    best_entries,
)
from sparsevod_core.model.transvod.transformer import DeformableDecoder, DeformableEncoder
from sparsevod_core.model.video_detector import Found, Images, VideoDetector
from sparsevod_core.structures import Clip, DetectorOutput, Targets

TEMPORAL = "temporal."  # how the names of the temporal part's parameters begin


@dataclass(frozen=True, slots=True)
class EncodedFrames:
    """What the frame detector computes of frames.

    Attributes:
        image_map: maps after the encoder.
        queries: queries after the last decoder layer.
        boxes_cxcywh: their boxes, as shares of the image.
        output: the frame detector's predictions.
    """

    image_map: ImageMap
    queries: Float[Tensor, "B N C"]
    boxes_cxcywh: Float[Tensor, "B N 4"]
    output: DetectorOutput

    @property
    def nbytes(self) -> int:
        """Total size of the large tensors in bytes."""
        return self.image_map.rows.nbytes + self.queries.nbytes

    def __getitem__(self, frames: slice) -> EncodedFrames:
        """Return some of the frames."""
        return EncodedFrames(
            self.image_map[frames],
            self.queries[frames],
            self.boxes_cxcywh[frames],
            self.output[frames],
        )


class TransVOD(VideoDetector):
    """Deformable DETR on each frame, and the temporal part.

    Images are cut to the largest of the batch, as in DETR. So frames of one size have no padding,
    and their detections do not depend on it. In a batch of several sizes they do, as in DETR: the
    backbone and the norm of the projection see the padding of smaller images.

    Args:
        backbone: normalized images to maps, the last of which is used. In the reference its stride
            is 16: layer4 is dilated (DC5), except for its first block.
        projection: channels of that map to C channels.
        encoder, decoder: the frame detector's transformer.
        temporal: the temporal part, or None for the frame detector only.
        num_detections: M, number of (box, class) pairs that are detections.
    """

    keeps_encodings = True

    def __init__(
        self,
        *,
        backbone: ResNetStages,
        projection: nn.Module,
        encoder: DeformableEncoder,
        decoder: DeformableDecoder,
        temporal: TemporalQueries | None,
        num_detections: int,
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.projection = projection
        self.encoder = encoder
        self.decoder = decoder
        self.temporal = temporal
        self.num_detections = num_detections

    @property
    def uses_supports(self) -> bool:
        """Whether there is a temporal part."""
        return self.temporal is not None

    def freeze_frame_detector(self) -> None:
        """Train only the temporal part; dropout stays on in the frame detector, as in TransVOD."""
        for name, parameter in self.named_parameters():
            if not name.startswith(TEMPORAL):
                parameter.requires_grad_(False)

    def forward(self, clip: Clip, targets: Sequence[Targets]) -> DetectorOutput:
        """Return the predictions for the target of each clip, for training.

        Without the temporal part, these are those of every decoder layer; with it, only the final
        ones.
        """
        if not self.uses_supports:
            return self.detect(self.encode(clip.images, clip.image_sizes), None)
        batch, supports = clip.supports.shape[:2]
        frames = torch.cat([clip.images, clip.supports.flatten(0, 1)])
        sizes = torch.cat([clip.image_sizes, clip.image_sizes.repeat_interleave(supports, dim=0)])
        encoded = self.encode(frames, sizes)
        memory = self.remember(encoded[batch:], videos=batch) if supports else None
        return self.detect(encoded[:batch], memory)

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> EncodedFrames:
        """Apply the frame detector; see `VideoDetector.encode`."""
        height, width = image_sizes.amax(dim=0).tolist()
        images = images[..., :height, :width]
        maps = self.projection(self.backbone.stage_maps(self.normalize(images, image_sizes))[-1])
        inside = positions_inside(image_sizes, (height, width), maps.shape[-2:])
        image_map = self.encoder(ImageMap(maps.flatten(2).transpose(1, 2), inside))
        decoded = self.decoder(image_map)
        output = DetectorOutput(
            decoded.logits,
            _in_pixels(decoded.boxes_cxcywh, image_sizes),
            _in_pixels(torch.cat([decoded.points, 0 * decoded.points], dim=-1), image_sizes),
            image_sizes,
        )
        return EncodedFrames(image_map, decoded.queries, decoded.boxes_cxcywh[-1], output)

    def remember(self, supports: EncodedFrames, videos: int = 1) -> QueryMemory:
        """Return the queries of support frames; see `VideoDetector.remember`."""
        scores = supports.output.logits[-1].float().sigmoid()
        return QueryMemory(
            supports.queries.unflatten(0, (videos, -1)), scores.unflatten(0, (videos, -1))
        )

    def join(
        self, memories: Sequence[QueryMemory], global_memories: Sequence[QueryMemory] = ()
    ) -> QueryMemory | None:
        """Return one memory of the support frames of several; see `VideoDetector.join`."""
        return QueryMemory.joined(memories) if memories else None

    def detect(self, targets: EncodedFrames, memory: QueryMemory | None) -> DetectorOutput:
        """Apply the temporal part; see `VideoDetector.detect`.

        Without it or without a memory, the output is the frame detector's.
        """
        if self.temporal is None or memory is None:
            return targets.output
        logits, boxes_cxcywh = self.temporal(
            targets.queries, targets.boxes_cxcywh, targets.image_map, memory
        )
        return replace(
            targets.output,
            logits=logits[None],
            boxes_xyxy=_in_pixels(boxes_cxcywh, targets.output.image_sizes)[None],
            proposals_xyxy=targets.output.boxes_xyxy[-1].detach(),
        )

    def top(self, output: DetectorOutput) -> Found:
        """Return the M best (box, class) pairs; a box may be found with several classes."""
        scores = output.logits[-1].float().sigmoid()
        num_classes = scores.shape[-1]
        best, index = best_entries(scores.flatten(1), self.num_detections)
        query = (index // num_classes)[..., None].expand(-1, -1, 4)
        return output.boxes_xyxy[-1].gather(1, query), best, index % num_classes


def projection(map_channels: int, channels: int, num_groups: int) -> nn.Sequential:
    """Return the 1x1 convolution and GroupNorm between backbone and encoder."""
    conv = nn.Conv2d(map_channels, channels, 1)
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.GroupNorm(num_groups, channels)))


def _in_pixels(
    boxes_cxcywh: Float[Tensor, "*T B N 4"], image_sizes: Int[Tensor, "B 2"]
) -> Float[Tensor, "*T B N 4"]:
    return cxcywh_to_xyxy(boxes_cxcywh) * image_sizes.flip(-1).repeat(1, 2)[:, None]
