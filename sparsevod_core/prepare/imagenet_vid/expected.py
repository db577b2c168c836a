"""Known totals of ImageNet VID, to compare a conversion with.

The numbers were counted in the published lists and in the official validation ground truth. The
number of boxes in the training videos is not published.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsevod_core.class_lists.imagenet_vid import IMAGENET_VID_CLASSES, ImageNetClass
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.imagenet_vid.layout import Listing


@dataclass(frozen=True, slots=True)
class SplitTotals:
    """Totals of a split; None if unknown.

    Attributes:
        num_targets: Number of video frames that training uses as targets.
        num_empty: Number of frames without a box.
        num_boxes: Number of boxes of each class, in the order of `IMAGENET_VID_CLASSES`.
    """

    num_videos: int
    num_frames: int
    num_targets: int
    num_empty: int | None = None
    num_boxes: tuple[int, ...] | None = None


IMAGENET_VID = {
    "train": SplitTotals(num_videos=3_862, num_frames=1_122_397, num_targets=57_834),
    "val": SplitTotals(
        num_videos=555,
        num_frames=176_126,
        num_targets=176_126,
        num_empty=4_046,
        num_boxes=(
            26_387, 7_968, 9_780, 8_854, 9_862, 6_313, 26_690, 11_365, 20_237, 11_629,
            11_934, 9_092, 7_593, 5_476, 7_939, 2_840, 5_972, 10_654, 1_139, 5_898,
            1_149, 4_405, 6_393, 12_088, 2_614, 13_095, 5_761, 6_089, 7_379, 6_910,
        ),
    ),
}  # fmt: skip


def expected_split(
    split: str,
    file: Path | None,
    videos: Listing,
    stills: Listing,
    classes: tuple[ImageNetClass, ...],
) -> PreparedSplit:
    """Return a split without counts, but with those expected from the lists and known totals.

    ImageNet VID's totals are used only for its own classes, with its own lists or without lists.
    """
    result = PreparedSplit(
        split,
        file,
        expected_videos=videos.listed_videos,
        expected_frames=videos.listed_frames,
        expected_stills=stills.listed_frames,
        missing=videos.missing + stills.missing,
        unlisted=videos.unlisted,
        problems=videos.problems + stills.problems,
    )
    totals = IMAGENET_VID[split]
    listed = (videos.listed_videos, videos.listed_frames)
    is_official = listed in ((None, None), (totals.num_videos, totals.num_frames))
    if classes == IMAGENET_VID_CLASSES and is_official:
        result.expected_videos, result.expected_frames = totals.num_videos, totals.num_frames
        result.expected_empty = totals.num_empty
        if totals.num_boxes is not None:
            names = [item.name for item in classes]
            result.expected_boxes_per_class = dict(zip(names, totals.num_boxes, strict=True))
        if not stills.folders:
            result.expected_targets = totals.num_targets
        elif stills.listed_frames is not None:
            result.expected_targets = totals.num_targets + stills.listed_frames
    return result
