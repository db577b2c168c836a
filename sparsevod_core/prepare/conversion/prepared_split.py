"""Counts and output file of one converted split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sparsevod_core.errors import ConfigError
from sparsevod_core.prepare.reading.annotated import AnnotatedVideo


@dataclass(slots=True)
class Counts:
    """Counts that one video, or one folder of still images, adds to a `PreparedSplit`."""

    num_videos: int = 0
    num_frames: int = 0
    num_stills: int = 0
    num_targets: int = 0
    num_empty: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    boxes_per_class: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def count(video: AnnotatedVideo, class_names: Mapping[int, str]) -> Counts:
    """Count the frames and boxes of a video; `class_names` maps class ids to names."""
    frames = video.frames
    names = (class_names[box.class_id] for frame in frames for box in frame.boxes)
    return Counts(
        num_videos=int(video.is_video and bool(frames)),
        num_frames=len(frames) if video.is_video else 0,
        num_stills=0 if video.is_video else len(frames),
        num_targets=sum(frame.is_target is not False for frame in frames),
        num_empty=sum(not frame.boxes for frame in frames),
        left_out=dict(video.left_out),
        boxes_per_class=dict(Counter(names)),
        problems=video.problems,
    )


@dataclass(slots=True)
class PreparedSplit:
    """Counts found in a split, and expected counts (None if unknown).

    Attributes:
        split: Name of the split, e.g. `train` or `val`.
        file: Path of the JSON file; None after a dry run.
        num_targets: Number of frames that training uses as targets; in `val`, all frames.
        num_empty: Number of frames and still images without a box.
        boxes_per_class: Number of boxes by class name, in the order of the categories.
        missing: Listed videos and still images that are not in the folder.
        unlisted: Videos in the folder that are not listed and therefore skipped.
        left_out: Number of boxes or frames that are valid, but deliberately not used, by reason.
        problems: One line per broken frame or box, with file and line.
        problems_file: Path of the text file that lists everything missing, unlisted or broken;
            None if there is nothing to list, and after a dry run.
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
    left_out: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problems_file: Path | None = None

    def add(self, counts: Counts) -> None:
        """Add the counts of one more video or folder."""
        self.num_videos += counts.num_videos
        self.num_frames += counts.num_frames
        self.num_stills += counts.num_stills
        self.num_targets += counts.num_targets
        self.num_empty += counts.num_empty
        self.problems += counts.problems
        for name, number in counts.boxes_per_class.items():
            self.boxes_per_class[name] += number
        for reason, number in counts.left_out.items():
            self.left_out[reason] = self.left_out.get(reason, 0) + number

    @property
    def num_boxes(self) -> int:
        return sum(self.boxes_per_class.values())

    @property
    def expected_boxes(self) -> int | None:
        expected = self.expected_boxes_per_class
        return None if expected is None else sum(expected.values())

    def write_problems(self) -> None:
        """Write everything missing or broken to `NAME.problems.txt` beside `NAME.json`.

        If there is nothing to list, the file of an earlier run is removed.

        Raises:
            OSError: The file cannot be written.
        """
        if self.file is None:
            return
        file = self.file.with_suffix(".problems.txt")
        lines = [f"missing: {name}" for name in self.missing]
        lines += [f"not listed, skipped: {name}" for name in self.unlisted]
        lines += self.problems
        if not lines:
            file.unlink(missing_ok=True)
            return
        partial = file.with_name(f"{file.name}.partial")
        with partial.open("w", encoding="utf-8", errors="surrogateescape") as out:
            out.writelines(f"{line}\n" for line in lines)
        partial.replace(file)
        self.problems_file = file


def output_files(
    output: Path | None, splits: Iterable[str], *, dry_run: bool
) -> dict[str, Path | None]:
    """Return the JSON file of each split: in the folder `output`, or `output` if it is a `.json`.

    Raises:
        ConfigError: One file is given for several splits.
    """
    names = list(splits)
    is_file = output is not None and output.suffix == ".json"
    if is_file and len(names) > 1:
        raise ConfigError(
            f"{output}: one file for two splits, {' and '.join(names)}",
            hint="give a folder, or choose one split with --splits",
        )
    if output is None or dry_run:
        return dict.fromkeys(names)
    return {name: output if is_file else output / f"{name}.json" for name in names}
