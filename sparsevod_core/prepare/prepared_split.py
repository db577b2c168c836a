"""What a conversion found, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sparsevod_core.prepare.rendered_video import Counts


@dataclass(slots=True)
class PreparedSplit:
    """What was found of a split, and what was expected; None where nothing is known of that.

    Attributes:
        split: `train` or `val`.
        file: the JSON; None after a dry run.
        num_targets: frames that training takes as targets; of `val`, all.
        num_stills: images of DET.
        num_empty: frames and stills without a box.
        boxes_per_class: by class name, in the order of the categories.
        expected_boxes_per_class: the same, as expected.
        missing: videos and stills that are listed but not in the tree.
        unlisted: videos in the tree that the list does not have, left out.
        num_other_boxes: left out though nothing is wrong with them: boxes of DET's other classes,
            and those that MOT Challenge marks to be ignored.
        problems: one line for each broken frame or box, with file and line.
        problems_file: where all that is missing, not listed or broken is written down; None where
            nothing is, and after a dry run.
    """

    split: str
    file: Path | None = None
    num_videos: int = 0
    expected_videos: int | None = None
    num_frames: int = 0
    expected_frames: int | None = None
    num_targets: int = 0
    expected_targets: int | None = None
    num_stills: int = 0
    expected_stills: int | None = None
    num_empty: int = 0
    expected_empty: int | None = None
    boxes_per_class: dict[str, int] = field(default_factory=dict)
    expected_boxes_per_class: dict[str, int] | None = None
    missing: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    num_other_boxes: int = 0
    problems: list[str] = field(default_factory=list)
    problems_file: Path | None = None

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

    @property
    def expected_boxes(self) -> int | None:
        """Boxes of all classes."""
        expected = self.expected_boxes_per_class
        return None if expected is None else sum(expected.values())

    def write_problems(self) -> None:
        """List what is missing or broken in `NAME.problems.txt` beside the file `NAME.json`.

        One from an earlier run goes where there is nothing to list.

        Raises:
            OSError: it cannot be written.
        """
        if self.file is None:
            return
        file = self.file.with_suffix(".problems.txt")
        lines = [f"missing: {name}" for name in self.missing]
        lines += [f"not listed, left out: {name}" for name in self.unlisted]
        lines += self.problems
        if not lines:
            file.unlink(missing_ok=True)
            return
        partial = file.with_name(f"{file.name}.partial")
        with partial.open("w", encoding="utf-8", errors="surrogateescape") as out:
            out.writelines(f"{line}\n" for line in lines)
        partial.replace(file)
        self.problems_file = file
