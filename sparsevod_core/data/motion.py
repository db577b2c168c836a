"""Motion IoU, ImageNet VID's measure of speed: overlap with itself in nearby frames."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, Num

WINDOW_FRAMES = 10
"""Number of frames before and after that count (Zhu et al., FGFA, ICCV 2017)."""

LARGEST_STEP = 4
"""Greatest number of frames from one label of a track to the next at which its motion is known.

The boxes within ±10 frames are 5.5 frames away on average. With labels in every 4th frame, this is
still 6. Beyond, it is up to 10, and every object would seem faster than it is.
"""


def motion_iou(
    boxes_xyxy: Num[np.ndarray, "M 4"],
    frames: Int[np.ndarray, " M"],
    tracks: Int[np.ndarray, " M"],
    window: int = WINDOW_FRAMES,
) -> Float[np.ndarray, " M"]:
    """Return the mean IoU of each box with the other boxes of its track in nearby frames.

    Fast is below 0.7, slow above 0.9. IoU counts pixels inclusively (width = xmax - xmin + 1), as
    in FGFA's published values.

    Args:
        boxes_xyxy: Boxes of one video, in pixels.
        frames: Frame number of each box.
        tracks: Track of each box.
        window: Greatest distance in frames, before and after.

    Returns:
        Values in 0..1. NaN, as the motion is unknown, if the track has no other box within the
        window (FGFA has 1), or no two boxes within `LARGEST_STEP`.
    """
    order = np.lexsort((frames, tracks))
    boxes, frames, tracks = boxes_xyxy[order].astype(np.float64), frames[order], tracks[order]
    left, top, right, bottom = boxes.T.copy()
    area = (right - left + 1) * (bottom - top + 1)
    total, count = np.zeros(len(order)), np.zeros(len(order))
    is_dense = np.zeros(len(order), bool)
    # Sorted by track and frame, neighbors in time are neighbors in the arrays. So compare each box
    # with the one `shift` places later until no pair is close enough.
    for shift in range(1, len(order)):
        a, b = slice(None, -shift), slice(shift, None)
        apart = frames[b] - frames[a]
        near = (tracks[b] == tracks[a]) & (apart <= window)
        if not near.any():
            break
        near &= apart > 0
        across = np.minimum(right[a], right[b]) - np.maximum(left[a], left[b]) + 1
        along = np.minimum(bottom[a], bottom[b]) - np.maximum(top[a], top[b]) + 1
        overlap = across.clip(min=0) * along.clip(min=0)
        iou = np.where(near, overlap / (area[a] + area[b] - overlap), 0)
        for side in (a, b):
            total[side] += iou
            count[side] += near
            is_dense[side] |= near & (apart <= LARGEST_STEP)
    if len(order):  # a track is dense if any of its boxes is near another
        starts = np.flatnonzero(np.diff(tracks, prepend=tracks[0] - 1))
        of_track = np.logical_or.reduceat(is_dense, starts)
        is_dense = np.repeat(of_track, np.diff(starts, append=len(order)))
    mean = np.full(len(order), np.nan)
    np.divide(total, count, out=mean, where=(count > 0) & is_dense)
    unsorted = np.empty_like(mean)
    unsorted[order] = mean
    return unsorted
