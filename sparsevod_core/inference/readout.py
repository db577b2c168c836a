"""Detections of a batch on their way from the device to the host, in one tensor and one copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparsevod_core.errors import CheckpointError
from sparsevod_core.structures import Category, Detections


def packed(
    boxes_xyxy: Float[Tensor, "B N 4"], scores: Float[Tensor, "B N"], labels: Int[Tensor, "B N"]
) -> Float[Tensor, "B N 6"]:
    """Return everything in one float32 tensor, which holds labels below 2^24 exactly."""
    columns = [boxes_xyxy.float(), scores.float()[..., None], labels.float()[..., None]]
    return torch.cat(columns, dim=-1)


def unpacked(
    values: Float[Tensor, "B N 6"],
    resized: Sequence[Sequence[int]],
    sources: Sequence[Sequence[int]],
    categories: tuple[Category, ...],
    *,
    clip: bool,
) -> list[Detections]:
    """Return detections in pixels of the source frames.

    Args:
        values: Result of `packed` on the host; boxes in pixels of the resized frames.
        resized: (height, width) of each frame as the model saw it.
        sources: (height, width) of each frame as it was given.
        categories: The model's classes.
        clip: Clip boxes to the frame and drop those that are empty then.

    Raises:
        CheckpointError: Scores that are not finite.
    """
    array = values.numpy()
    require_finite(array[..., 4])
    return [
        _in_source_pixels(of_frame, size, source, categories, clip=clip)
        for of_frame, size, source in zip(array, resized, sources, strict=True)
    ]


def require_finite(scores: np.ndarray) -> None:
    """Check the scores of a model.

    Raises:
        CheckpointError: Scores that are not finite.
    """
    if not np.isfinite(scores).all():
        raise CheckpointError(
            "the model's scores are not finite numbers",
            hint="training has diverged: check the loss in metrics.jsonl in the run folder",
        )


def _in_source_pixels(
    values: Float[np.ndarray, "N 6"],
    resized: Sequence[int],
    source: Sequence[int],
    categories: tuple[Category, ...],
    *,
    clip: bool,
) -> Detections:
    (height, width), (resized_height, resized_width) = source, resized
    ratios = np.array([width / resized_width, height / resized_height] * 2, dtype=np.float32)
    boxes = values[:, :4] * ratios
    if clip:
        boxes = boxes.clip(0, np.array([width, height] * 2, dtype=np.float32))
    is_box = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes, values[:, 4], values[:, 5].astype(np.int64), categories)[is_box]
