"""What the model found in a batch, on its way to the host: one tensor, one copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparsevod_core.errors import CheckpointError
from sparsevod_core.structures import Detections


def packed(
    boxes_xyxy: Float[Tensor, "B N 4"], scores: Float[Tensor, "B N"], labels: Int[Tensor, "B N"]
) -> Float[Tensor, "B N 6"]:
    """All in float32, which holds labels below 2^24 exactly."""
    columns = [boxes_xyxy.float(), scores.float()[..., None], labels.float()[..., None]]
    return torch.cat(columns, dim=-1)


def unpacked(
    found: Float[Tensor, "B N 6"],
    resized: Sequence[Sequence[int]],
    sources: Sequence[Sequence[int]],
    *,
    clip: bool,
) -> list[Detections]:
    """Detections in the pixels of the source frames.

    Args:
        found: what `packed` gave, on the host; boxes in pixels of the resized frames.
        resized, sources: of each frame height and width, as the model saw it and as it was given.
        clip: cut boxes at the frame's border; boxes that are empty then are dropped.

    Raises:
        CheckpointError: scores that are not finite.
    """
    values = found.numpy()
    if not np.isfinite(values[..., 4]).all():
        raise CheckpointError(
            "the model's scores are not finite numbers",
            hint="training has diverged: look at the loss in the run's metrics.jsonl",
        )
    return [
        _in_source_pixels(of_frame, size, source, clip=clip)
        for of_frame, size, source in zip(values, resized, sources, strict=True)
    ]


def _in_source_pixels(
    found: Float[np.ndarray, "N 6"], resized: Sequence[int], source: Sequence[int], *, clip: bool
) -> Detections:
    (height, width), (resized_height, resized_width) = source, resized
    ratios = np.array([width / resized_width, height / resized_height] * 2, dtype=np.float32)
    boxes = found[:, :4] * ratios
    if clip:
        boxes = boxes.clip(0, np.array([width, height] * 2, dtype=np.float32))
    is_box = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes, found[:, 4], found[:, 5].astype(np.int64))[is_box]
