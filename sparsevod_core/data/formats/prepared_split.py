"""What a conversion found, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sparsevod_core.data.formats.rendered_video import Counts


@dataclass(slots=True)
class PreparedSplit:
    """What was found of a split. Expected numbers are those of its list, None without one.

    Attributes:
        split: `train` or `val`.
        file: the JSON; None after a dry run.
        num_targets: frames that training takes as targets; of `val`, all.
        num_stills: images of DET.
        num_empty: frames and stills without a box.
        boxes_per_class: by class name, in the order of the categories.
        missing: videos and stills that are listed but not in the tree.
        unlisted: videos in the tree that the list does not have, left out.
        num_other_boxes: left out though nothing is wrong with them: boxes of DET's other classes,
            and those that MOT Challenge marks to be ignored.
        problems: one line for each broken frame or box, with file and line.
    """

    split: str
    file: Path | None = None
    num_videos: int = 0
    expected_videos: int | None = None
    num_frames: int = 0
    expected_frames: int | None = None
    num_targets: int = 0
    num_stills: int = 0
    expected_stills: int | None = None
    num_empty: int = 0
    boxes_per_class: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    num_other_boxes: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, counts: Counts) -> None:
        """Count one more video or folder."""
        self.num_videos += counts.num_videos
        self.num_frames += counts.num_frames
        self.num_stills += counts.num_stills
        self.num_targets += counts.num_targets
        self.num_empty += counts.num_empty
        self.num_other_boxes += counts.num_other_boxes
        self.problems += counts.problems
        for name, number in counts.boxes_per_class.items():
            self.boxes_per_class[name] += number

    @property
    def num_boxes(self) -> int:
        """Boxes of all classes."""
        return sum(self.boxes_per_class.values())
