"""The detector of model/detector.py for use: the same numbers sooner, no gradients.

BatchNorm lies in the convolutions, maps are channels-last, everything about the support frames is
computed once (`SupportBank`), the pyramid is made where boxes look, and wide layers may be in bf16.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor, nn

from sparsevod_core.fast.backbone import FoldedStages
from sparsevod_core.fast.pyramid import LazyPyramid, PyramidLayers, WholePyramid
from sparsevod_core.fast.stage import FastStage
from sparsevod_core.fast.support_bank import SupportBank
from sparsevod_core.fast.temporal_roi import support_maps
from sparsevod_core.model.detector import Images, SparseVOD, valid_positions
from sparsevod_core.structures import DetectorOutput


class FastDetector(nn.Module):
    """`remember` and `detect` of a trained detector, whose weights are copied.

    Args:
        detector: the plain one; may be on any device.
        dtype: of the maps and the RoI features: float32, or bfloat16. Boxes, proposal features and
            class scores are in float32.
    """

    stages: Sequence[FastStage]

    def __init__(self, detector: SparseVOD, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.normalise = copy.deepcopy(detector.normalise)
        self.stem_and_stages = FoldedStages(detector.backbone, dtype)
        self.pyramid_layers = PyramidLayers(detector.backbone, dtype)
        self.roi_align = copy.deepcopy(detector.roi_align)
        self.proposals = copy.deepcopy(detector.proposals)
        stages = [FastStage(stage, dtype) for stage in detector.stages]
        self.stages = nn.ModuleList(stages)  # type: ignore[assignment]
        self.support_level = detector.support_level
        self.has_temporal_roi = detector.has_temporal_roi
        self.has_aggregation = detector.has_aggregation
        self.requires_grad_(False).eval()

    def remember(self, images: Images, image_size: tuple[int, int]) -> SupportBank:
        """Everything that the targets of one video need of its support frames.

        Args:
            images: the S support frames, RGB 0..255, padded to a multiple of 32.
            image_size: unpadded (height, width) in pixels.
        """
        sizes = torch.tensor([image_size], device=images.device)
        pyramid = self.pyramid(images, sizes.expand(len(images), 2))
        maps = None
        if self.has_temporal_roi:
            level = pyramid.level(self.support_level)
            valid = valid_positions(sizes, level.shape[-2:], self.support_level)[0]
            maps = support_maps(level, valid, [one.temporal_roi for one in self.stages])
        if not self.has_aggregation:
            return SupportBank(maps, ())
        known = []
        boxes_xyxy, features = self.proposals(sizes.expand(len(images), 2))
        for stage in self.stages:
            features = stage.inner.interact(features, pyramid.pool(boxes_xyxy))
            assert stage.aggregation is not None
            known.append(stage.aggregation.known(features))
            boxes_xyxy = stage.inner.refine(boxes_xyxy, features)
        return SupportBank(maps, tuple(known))

    def detect(
        self, images: Images, image_sizes: Int[Tensor, "B 2"], bank: SupportBank | None
    ) -> DetectorOutput:
        """Targets of one video with its supports; None: without."""
        pyramid = self.pyramid(images, image_sizes)
        return self.refine(pyramid, image_sizes, bank)

    def pyramid(
        self, images: Images, image_sizes: Int[Tensor, "B 2"]
    ) -> LazyPyramid | WholePyramid:
        """P2..P5 of the images."""
        inputs = self.normalise(images, image_sizes)
        inputs = inputs.to(dtype=self.dtype, memory_format=torch.channels_last)
        maps = self.stem_and_stages(inputs)
        kind = WholePyramid if images.is_cuda else LazyPyramid
        return kind(self.pyramid_layers, maps, self.roi_align)

    def refine(
        self,
        pyramid: LazyPyramid | WholePyramid,
        image_sizes: Int[Tensor, "B 2"],
        bank: SupportBank | None,
    ) -> DetectorOutput:
        """The temporal dynamic head on the targets."""
        proposals_xyxy, features = self.proposals(image_sizes)
        boxes_xyxy = proposals_xyxy
        stage_logits, stage_boxes = [], []
        for number, stage in enumerate(self.stages):
            roi_features = pyramid.pool(boxes_xyxy)
            logits, boxes_xyxy, features = stage(features, boxes_xyxy, roi_features, bank, number)
            stage_logits.append(logits)
            stage_boxes.append(boxes_xyxy)
        return DetectorOutput(
            torch.stack(stage_logits), torch.stack(stage_boxes), proposals_xyxy, image_sizes
        )
