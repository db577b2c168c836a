"""What ImageNet VID holds, for comparison with what is found.

Counted in the published lists and in the official validation ground truth. How many boxes the
training videos have is published nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """Totals of a split; None where they are not known.

    Attributes:
        num_targets: frames of videos that training takes as targets.
        num_empty: frames without a box.
        boxes_per_class: by class name.
    """

    num_videos: int
    num_frames: int
    num_targets: int
    num_empty: int | None = None
    boxes_per_class: Mapping[str, int] | None = None


TRAIN = SplitFacts(num_videos=3_862, num_frames=1_122_397, num_targets=57_834)
VAL = SplitFacts(
    num_videos=555,
    num_frames=176_126,
    num_targets=176_126,
    num_empty=4_046,
    boxes_per_class={
        "airplane": 26_387,
        "antelope": 7_968,
        "bear": 9_780,
        "bicycle": 8_854,
        "bird": 9_862,
        "bus": 6_313,
        "car": 26_690,
        "cattle": 11_365,
        "dog": 20_237,
        "domestic_cat": 11_629,
        "elephant": 11_934,
        "fox": 9_092,
        "giant_panda": 7_593,
        "hamster": 5_476,
        "horse": 7_939,
        "lion": 2_840,
        "lizard": 5_972,
        "monkey": 10_654,
        "motorcycle": 1_139,
        "rabbit": 5_898,
        "red_panda": 1_149,
        "sheep": 4_405,
        "snake": 6_393,
        "squirrel": 12_088,
        "tiger": 2_614,
        "train": 13_095,
        "turtle": 5_761,
        "watercraft": 6_089,
        "whale": 7_379,
        "zebra": 6_910,
    },
)
IMAGENET_VID = {"train": TRAIN, "val": VAL}
