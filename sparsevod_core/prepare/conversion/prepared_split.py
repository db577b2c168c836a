"""Counts and output file of one converted split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from sparsevod_core.errors import ConfigError
from sparsevod_core.files.check import check_outputs, is_own
from sparsevod_core.files.kinds import Kind
from sparsevod_core.files.names import fitted
from sparsevod_core.files.unfinished import write_text
from sparsevod_core.prepare.conversion.coco_vid import OWN_JSON
from sparsevod_core.prepare.conversion.counts import Counts, Example

GROUPING_HINT = (
    "use --group-by-folder if each folder holds the frames of one video, or name the images "
    "VIDEO_NUMBER"
)


@dataclass(slots=True)
class PreparedSplit:
    """Counts found in a split, and expected counts (None if unknown).

    Attributes:
        split: Name of the split, e.g. `train` or `val`.
        file: Path of the JSON file; None after a dry run.
        num_targets: Number of frames that training uses as targets; in `val`, all frames.
        num_empty: Number of frames and still images without a box.
        num_tracks: Number of tracks; an object in another video is another track.
        num_known_motion: Number of boxes with a motion IoU.
        num_crowd: Number of boxes that are neither trained on nor scored.
        farthest_px: Largest coordinate of a box.
        boxes_per_class: Number of boxes by class name, in the order of the categories.
        degraded_frames: Number of frames of a degraded copy by kind of degradation; None if the
            split is no copy.
        videos: One example per video.
        shared: What val has in common with train.
        first_numbers: Smallest and largest number of a video's first frame; None without videos.
        shortest, longest, stills: Examples of videos, and of still images; None without any.
        notes: How the data were interpreted where their layout leaves it open.
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
    num_tracks: int = 0
    num_known_motion: int = 0
    num_crowd: int = 0
    farthest_px: float = 0.0
    boxes_per_class: dict[str, int] = field(default_factory=dict)
    degraded_frames: dict[str, int] | None = None
    expected_boxes_per_class: dict[str, int] | None = None
    videos: list[Example] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)
    first_numbers: tuple[int, int] | None = None
    shortest: Example | None = None
    longest: Example | None = None
    stills: Example | None = None
    notes: list[str] = field(default_factory=list)
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
        self.num_tracks += counts.num_tracks
        self.num_known_motion += counts.num_known_motion
        self.num_crowd += counts.num_crowd
        self.farthest_px = max(self.farthest_px, counts.farthest_px)
        if counts.example is not None:
            self.add_example(counts.example, is_video=counts.num_videos > 0)
        self.problems += counts.problems
        for name, number in counts.boxes_per_class.items():
            self.boxes_per_class[name] += number
        for reason, number in counts.left_out.items():
            self.left_out[reason] = self.left_out.get(reason, 0) + number

    def add_example(self, example: Example, *, is_video: bool) -> None:
        """Add the frames of one more video, or a folder of still images, as an example."""
        if not is_video:
            self.stills = self.stills or example
            return
        self.videos.append(example)
        if self.shortest is None or example.num_frames < self.shortest.num_frames:
            self.shortest = example
        if self.longest is None or example.num_frames > self.longest.num_frames:
            self.longest = example
        low, high = self.first_numbers or (example.first_number, example.first_number)
        self.first_numbers = min(low, example.first_number), max(high, example.first_number)

    @property
    def frames_per_video(self) -> tuple[int, float, int] | None:
        """Smallest, median and largest number of frames of a video; None without videos."""
        lengths = [example.num_frames for example in self.videos]
        return (min(lengths), median(lengths), max(lengths)) if lengths else None

    @property
    def doubts(self) -> list[str]:
        """Return what looks wrong about the videos: not recognized as such, or also in train."""
        return [*self._doubts_on_grouping(), *(f"{self.split}: {line}" for line in self.shared)]

    def _doubts_on_grouping(self) -> list[str]:
        if self.degraded_frames is not None:
            return []  # a copy has the videos of its source
        num_single = sum(example.num_frames == 1 for example in self.videos)
        if self.shortest is not None and num_single > 1 and 2 * num_single > self.num_videos:
            return [
                f"{self.split}: {num_single:,} of {self.num_videos:,} videos have one frame, e.g. "
                f"{self.shortest.first_file}. If they are frames of longer videos, these were not "
                f"recognized: {GROUPING_HINT}"
            ]
        if self.stills is not None and self.num_stills > 1 and not self.num_videos:
            return [
                f"{self.split}: {self.num_stills:,} still images and no video. If they are frames "
                f"of videos, these were not recognized: {GROUPING_HINT}"
            ]
        return []

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
            ConfigError: There is a file of this name that is something else.
            DataError: The file cannot be written.
        """
        if self.file is None:
            return
        file = problems_file(self.file)
        lines = [f"missing: {name}" for name in self.missing]
        lines += [f"not listed, skipped: {name}" for name in self.unlisted]
        lines += self.problems
        if lines:
            write_text(file, "\n".join([*lines, ""]), OWN_PROBLEMS)
            self.problems_file = file
        elif file.is_file() and is_own(file, OWN_PROBLEMS):
            file.unlink()


def _is_own_list(path: Path) -> bool:
    """Return True for a list beside the JSON of a conversion, or with such a first line."""
    json_file = path.with_name(path.name.removesuffix(_LIST) + ".json")
    if json_file.is_file() and OWN_JSON.recognizes(json_file):
        return True
    with path.open(encoding="utf-8", errors="replace") as lines:
        line = lines.readline(2**16)
    return line.startswith(("missing: ", "not listed, skipped: ")) or "skipped" in line


_LIST = ".problems.txt"
OWN_PROBLEMS = Kind("a list of problems by prepare-vid", _is_own_list)


def problems_file(file: Path) -> Path:
    """Return the path of the list of problems of a JSON file."""
    return file.with_name(fitted(file.stem, _LIST))


def output_files(
    output: Path | None,
    splits: Iterable[str],
    *,
    dry_run: bool,
    inputs: Mapping[Path, str] | None = None,
) -> dict[str, Path | None]:
    """Return the JSON file of each split: in the folder `output`, or `output` if it is a `.json`.

    Raises:
        ConfigError: One file is given for several splits; or a file would overwrite one of
            `inputs`, see `check_outputs`, or a file of another kind.
        DataError: A file cannot be written.
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
    files = [output if is_file else output / f"{name}.json" for name in names]
    lists = [(problems_file(file), OWN_PROBLEMS) for file in files]
    check_outputs([*((file, OWN_JSON) for file in files), *lists], inputs)
    return dict(zip(names, files, strict=True))
