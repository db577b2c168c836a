"""What an inspector told of a frame, as arrays in pixels of the video, for figures and JSON."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.figures.stage_view import LayerAttention, StageView, SupportFrame
from sparsevod_core.inference.inspectors.inspector import OWN, Inspector, Layer
from sparsevod_core.inference.inspectors.visit import Look
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.structures import Frame
from sparsevod_core.video.opening import OpenVideo

MAX_PAST = 32  # frames of a detector that has a memory of the past


class Viewer:
    """Views of the frames of one video.

    Args:
        predictor: Detector.
        inspector: Its inspector.
        video: The video, from which support frames are read.
    """

    def __init__(self, predictor: Predictor, inspector: Inspector, video: OpenVideo) -> None:
        self._predictor = predictor
        self._inspector = inspector
        self._video = video
        self._images: dict[int, SupportFrame] = {}
        self._boxes: dict[int, Float[Tensor, "T n 4"]] = {}

    def view(self, look: Look) -> StageView:
        """Return the view of a frame, with its attention to support frames."""
        image, stages = look.frame.image, look.stages
        height, width = image.shape[:2]
        resized_height, resized_width = self._predictor.intake.resized_size(height, width)
        ratio = torch.tensor([width / resized_width, height / resized_height])
        numbers = self._support_numbers(look)
        self._read(numbers, any(not layer.is_map for layer in look.layers))
        scores = stages.proposal_scores
        return StageView(
            image=image,
            proposals_xyxy=_array(stages.proposals_xyxy.cpu() * ratio.repeat(2)),
            stage_boxes=_array(stages.boxes_xyxy.cpu() * ratio.repeat(2)),
            stage_scores=_array(stages.scores),
            stage_labels=stages.labels.cpu().numpy(),
            title=_title(look.frame),
            supports=tuple(self._images[number] for number in numbers),
            attention=tuple(self._attention(layer, numbers, ratio) for layer in look.layers),
            proposal_scores=None if scores is None else _array(scores),
        )

    def _support_numbers(self, look: Look) -> list[int]:
        """Return the numbers of the frames to show, each once."""
        if not look.layers:
            return []
        if not self._predictor.detector.is_ordered:
            return list(dict.fromkeys(look.step.supports))
        # Layers read frames of the past too. Those that inform likely objects are shown.
        scores = look.stages.scores[-1].float().cpu()
        shares: dict[int, float] = {}
        for layer in look.layers:
            of_keys = (scores @ layer.weights.float().cpu()).tolist()
            for number, share in zip(layer.keys.frames.tolist(), of_keys, strict=True):
                shares[number] = shares.get(number, 0.0) + share
        shares.pop(OWN, None)
        return sorted(sorted(shares, key=lambda number: -shares[number])[:MAX_PAST])

    def _read(self, numbers: Sequence[int], has_boxes: bool) -> None:
        """Read support frames, and compute the boxes of their proposals if needed."""
        missing = sorted({number for number in numbers if number not in self._images})
        for frame in self._video.frames_at(missing):  # one by one, to bound the memory
            self._images[frame.index] = SupportFrame(frame.index, frame.image)
            if has_boxes:
                encoded = self._predictor.encode_frame(frame.image)
                with self._predictor.computing():
                    boxes_xyxy = self._inspector.support_boxes(encoded)
                self._boxes[frame.index] = boxes_xyxy.float().cpu()

    def _attention(
        self, layer: Layer, numbers: Sequence[int], ratio: Float[Tensor, " 2"]
    ) -> LayerAttention:
        """Return a layer's weights by support frame; a frame that was read twice counts once."""
        weights, count = layer.weights.float().cpu(), len(numbers)
        slots = {OWN: count, **{number: slot for slot, number in enumerate(numbers)}}
        slot = torch.tensor([slots.get(n, count + 1) for n in layer.keys.frames.tolist()])
        by_frame = weights.new_zeros(len(weights), count + 2).index_add_(1, slot, weights)
        shares = _array(by_frame[:, : count + 1])
        if layer.is_map:
            # Support frames in the order of the memory, where a window may repeat one.
            order = [number for number in layer.keys.frames.tolist() if number != OWN]
            first = [order.index(number) for number in numbers]
            points, at_points = layer.points, layer.point_weights
            return LayerAttention(
                name=layer.name,
                stage=layer.stage,
                weights=shares,
                points=None if points is None else _array(points[:, first].cpu() * ratio),
                point_weights=None if at_points is None else _array(at_points[:, first]),
            )
        boxes_xyxy = torch.stack([self._boxes[number][layer.stage - 1] for number in numbers])
        rows = boxes_xyxy.shape[1]
        place = slot * rows + layer.keys.rows
        by_row = weights.new_zeros(len(weights), (count + 2) * rows).index_add_(1, place, weights)
        return LayerAttention(
            name=layer.name,
            stage=layer.stage,
            weights=shares,
            boxes_xyxy=_array(boxes_xyxy * ratio.repeat(2)),
            proposals=_array(by_row.unflatten(1, (count + 2, rows))[:, :count]),
        )


def _title(frame: Frame) -> str:
    time = "" if frame.time_s is None else f"\n{float(frame.time_s):.2f} s"
    return f"frame {frame.index}{time}"


def _array(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
