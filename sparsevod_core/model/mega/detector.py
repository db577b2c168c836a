"""MEGA (Chen et al., CVPR 2020): Faster R-CNN with relations to local, global and past frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchvision.ops import roi_align

from sparsevod_core.errors import SparseVodError
from sparsevod_core.model.detector import Normalize
from sparsevod_core.model.mega.backbone import C4Backbone
from sparsevod_core.model.mega.boxes import CELL_PX, to_edges, to_pixels
from sparsevod_core.model.mega.memory import FrameMemory, RecursiveMemory
from sparsevod_core.model.mega.proposal_features import ProposalFeatures
from sparsevod_core.model.mega.stages import RelationHead
from sparsevod_core.model.two_stage.detections import BoxHeadOutput, DetectionSelector
from sparsevod_core.model.two_stage.proposal_sampling import ProposalSampler
from sparsevod_core.model.two_stage.region_proposals import Proposals, RegionProposals
from sparsevod_core.model.video_detector import Found, Images, VideoDetector
from sparsevod_core.structures import Clip, Targets, TwoStageOutput

BINS = 7  # of a RoI, per side


@dataclass(frozen=True, slots=True)
class EncodedFrames:
    """Frames as far as they can be processed without other frames.

    Attributes:
        features: embedded proposals.
        proposals: their boxes.
        image_sizes: unpadded (height, width) of each frame in pixels.
    """

    features: Float[Tensor, "B N F"]
    proposals: Proposals
    image_sizes: Int[Tensor, "B 2"]

    @property
    def rows(self) -> ProposalFeatures:
        """The proposals `[B, N]` as the head takes them."""
        return ProposalFeatures(self.features, self.proposals.boxes, self.proposals.valid)

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in (self.features, self.proposals.boxes))


class MEGA(VideoDetector):
    """Faster R-CNN whose proposals are related to those of frames nearby, anywhere, and before.

    A target's local frames are those around it, the global ones are from the entire video, and a
    recursive memory holds what was computed for frames that have left the local window.

    Boxes lie between the outer edges of their corner pixels (see `boxes`), except in `Targets` and
    in detections.

    Args:
        backbone: normalized images to the maps of the region proposals and of the RoIs.
        rpn: region proposals.
        head: RoI features to class logits and box deltas. Without relations, this is Faster R-CNN
            on single frames.
        sampler: chooses the proposals on which the head is trained.
        selector: chooses the detections.
        num_proposals: N, number of proposals of a target frame.
        num_support_proposals: number of proposals of a support frame; at most N.
        memory_frames: number of frames in the recursive memory.
    """

    keeps_encodings = True

    def __init__(
        self,
        *,
        backbone: C4Backbone,
        rpn: RegionProposals,
        head: RelationHead,
        sampler: ProposalSampler,
        selector: DetectionSelector,
        num_proposals: int,
        num_support_proposals: int,
        memory_frames: int,
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.rpn = rpn
        self.head = head
        self.sampler = sampler
        self.selector = selector
        self.num_proposals = num_proposals
        self.num_support_proposals = num_support_proposals
        self.memory_frames = memory_frames

    @property
    def uses_supports(self) -> bool:
        return self.head.has_relations

    @property
    def is_ordered(self) -> bool:  # type: ignore[override]  # not the same for all instances
        return self.head.has_relations

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> EncodedFrames:
        """Return the embedded proposals of frames.

        A support frame needs the best ones only. But nearly every frame is a target, too.
        """
        return self._encode(images, image_sizes, self.num_proposals)

    def remember(self, supports: EncodedFrames, videos: int = 1) -> FrameMemory:
        best = supports.rows.of_videos(videos).best(self.num_support_proposals)
        return FrameMemory(best.clone())  # a copy does not keep the other proposals alive

    def join(
        self, memories: Sequence[FrameMemory], global_memories: Sequence[FrameMemory] = ()
    ) -> FrameMemory | None:
        """Return one memory of local frames, oldest first, and of global ones; None for none."""
        return FrameMemory.joined(memories, global_memories) if memories else None

    def detect(self, targets: EncodedFrames, memory: FrameMemory | None) -> BoxHeadOutput:
        """Return the output for frames on their own: each stands for its local and global frames.

        Raises:
            SparseVodError: there is a memory, but relations need the frames in order.
        """
        if not self.head.has_relations:
            return self._output(self.head(targets.features), targets)
        if memory is not None:
            raise SparseVodError(
                "MEGA: expected the target frames one by one and in order",
                hint="call `advance` for each frame of the video",
            )
        own = self.remember(targets, videos=len(targets.features))
        return self._output(self._relate(targets, own, None)[0], targets)

    def advance(
        self, target: EncodedFrames, memory: FrameMemory | None, state: RecursiveMemory | None
    ) -> tuple[BoxHeadOutput, RecursiveMemory | None]:
        """Return the output for the next frame of a video, and what is remembered after it.

        Args:
            target: encoding of one frame.
            memory: local frames around the target, oldest first, and global frames; None: see
                `detect`.
            state: memory of earlier frames; None at the first frame of a video.
        """
        if memory is None or not self.head.has_relations:
            return self.detect(target, None), state
        features, local = self._relate(target, memory, state)
        oldest = self.head.project([rows.frames(slice(1)) for rows in local])
        state = RecursiveMemory.after(state, oldest, self.memory_frames)
        return self._output(features, target), state

    def top(self, output: BoxHeadOutput) -> Found:
        """Return the detections of each target frame; the corners of their boxes are pixels."""
        boxes_xyxy, scores, labels = self.selector(output)
        return to_pixels(boxes_xyxy) * (scores > 0)[..., None], scores, labels

    def forward(self, clip: Clip, targets: Sequence[Targets]) -> TwoStageOutput:
        """Return sampled anchors and proposals of the target frames, with their predictions.

        Args:
            clip: `groups` are the numbers of local support frames (the target itself, then others),
                of frames to remember, which get no gradient, and of global frames.
            targets: ground truth of the target frames.
        """
        targets = [replace(one, boxes_xyxy=to_edges(one.boxes_xyxy)) for one in targets]
        maps = self.backbone(self.normalize(clip.images, clip.image_sizes))
        roi_maps = self.backbone.roi_map(maps)
        logits, deltas = self.rpn(maps)
        proposals = self.rpn.proposals(logits, deltas, clip.image_sizes, self.num_proposals)
        sampled = self.sampler(proposals, targets)
        features = self._embed(roi_maps, sampled.boxes_xyxy)
        if self.head.has_relations:
            key = ProposalFeatures(features, sampled.boxes_xyxy, sampled.is_sampled)
            count = self.num_support_proposals
            best = proposals.boxes[:, :count]
            own = ProposalFeatures(self._embed(roi_maps, best), best, proposals.valid[:, :count])
            features = self._clip_features(key, own.of_videos(len(maps)), clip)
        else:
            features = self.head(features)
        return TwoStageOutput(
            self.rpn.samples(logits, deltas, clip.image_sizes, targets),
            sampled.with_predictions(*self.head.predict(features)),
        )

    def _relate(
        self, targets: EncodedFrames, memory: FrameMemory, state: RecursiveMemory | None
    ) -> tuple[Float[Tensor, "B N F"], list[ProposalFeatures]]:
        """See `RelationHead.relate`."""
        past = None if state is None else state.stages
        return self.head.relate(targets.rows, memory.local, memory.anywhere, past)

    def _clip_features(
        self, key: ProposalFeatures, own: ProposalFeatures, clip: Clip
    ) -> Float[Tensor, "B R F"]:
        """Return features of sampled proposals, related to the support frames of their clip.

        Args:
            key: sampled proposals of each target frame.
            own: best proposals of each target frame `[B, 1, n]`.
        """
        local, past, anywhere = clip.supports.split(clip.groups, dim=1)
        others = self._encode_supports(torch.cat([local[:, 1:], anywhere], dim=1), clip)
        count = local.shape[1] - 1
        near = ProposalFeatures.joined([own, others.frames(slice(count))])
        global_frames = others.frames(slice(count, None))
        with torch.no_grad():
            past_frames = self._encode_supports(past, clip)
            remembered = self.head.remember(past_frames, global_frames)
        return self.head.relate(key, near, global_frames, self.head.project(remembered))[0]

    def _encode_supports(
        self, frames: UInt8[Tensor, "B S 3 H W"] | Float[Tensor, "B S 3 H W"], clip: Clip
    ) -> ProposalFeatures:
        """Return the best proposals `[B, S, n]` of frames `[B, S, 3, H, W]` of a clip."""
        sizes = clip.image_sizes.repeat_interleave(frames.shape[1], dim=0)
        encoded = self._encode(frames.flatten(0, 1), sizes, self.num_support_proposals)
        return encoded.rows.of_videos(len(frames))

    def _encode(self, images: Images, image_sizes: Int[Tensor, "B 2"], count: int) -> EncodedFrames:
        """Return frames with at most `count` proposals each."""
        maps = self.backbone(self.normalize(images, image_sizes))
        with torch.no_grad():  # no loss trains the proposals of these frames
            logits, deltas = self.rpn(maps)
        proposals = self.rpn.proposals(logits, deltas, image_sizes, count)
        features = self._embed(self.backbone.roi_map(maps), proposals.boxes)
        return EncodedFrames(features, proposals, image_sizes)

    def _embed(
        self, roi_maps: Float[Tensor, "B D h w"], boxes_xyxy: Float[Tensor, "B N 4"]
    ) -> Float[Tensor, "B N F"]:
        """Return the embedded RoI features of boxes."""
        return self.head.embed(pooled(roi_maps, boxes_xyxy).flatten(2))

    def _output(self, features: Float[Tensor, "B N F"], targets: EncodedFrames) -> BoxHeadOutput:
        return BoxHeadOutput(*self.head.predict(features), targets.proposals, targets.image_sizes)


def pooled(
    maps: Float[Tensor, "B C h w"], boxes_xyxy: Float[Tensor, "B N 4"]
) -> Float[Tensor, "B N C bins bins"]:
    """Return the RoI features of boxes in at least fp32, by the first version of RoIAlign.

    It is not aligned: the value of a position counts as that at its upper left corner. A bin has as
    many samples as map positions.
    """
    dtype = torch.promote_types(maps.dtype, torch.float32)
    rois = roi_align(
        maps.to(dtype),
        list(to_pixels(boxes_xyxy).to(dtype)),
        output_size=BINS,
        spatial_scale=1 / CELL_PX,
        sampling_ratio=-1,
        aligned=False,
    )
    return rois.unflatten(0, boxes_xyxy.shape[:2]).to(maps.dtype)
