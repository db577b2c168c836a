"""Pairing of frames and labels for formats with one label file per frame.

A frame without a label file has no box. A video without any label file is skipped.

images/train/a/000001.jpg   labels/train/a/000001.txt     parallel trees, split inside
train/images/a/000001.jpg   train/labels/a/000001.txt     split outside
a/000001.jpg                a/000001.txt                  side by side
videos/a.mp4                labels/a/000000.txt           frames inside a video file
videos/a.mp4                labels/a_000000.txt
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from sparsevod_core.data.annotation_file import is_video_file
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo
from sparsevod_core.prepare.reading.frame_groups import ImageFrames, group_frames, lone_frames
from sparsevod_core.prepare.reading.frame_names import split_number
from sparsevod_core.prepare.reading.label_set import (
    SPLIT_NAMES,
    Hints,
    Split,
    first_frame_number,
    walk_files,
)
from sparsevod_core.prepare.reading.media import (
    Media,
    VideoFrames,
    finish,
    inputs_of,
    media_inputs,
    open_media,
)
from sparsevod_core.video.kinds import IMAGE_SUFFIXES

_IMAGE_FOLDERS = ("images", "Images", "JPEGImages", "frames", "videos", "imgs")
_LABEL_FOLDERS = ("labels", "Labels", "Annotations", "annotations")
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
SplitOf = Callable[[str], str | None]
"""Returns the split of an image or video file; None skips the file."""


@dataclass(frozen=True, slots=True)
class LabeledVideo:
    """One video and its label files.

    Attributes:
        media: Frames of the video.
        labels: (frame number, path of the label file relative to the root).
    """

    media: Media
    labels: tuple[tuple[int, str], ...]

    @property
    def name(self) -> str:
        return self.media.name

    def inputs(self, every_file: bool) -> Iterator[str]:
        """See `label_set.Source`."""
        yield from media_inputs(self.media, every_file)
        yield from inputs_of((label for _, label in self.labels), every_file)


@dataclass(slots=True)
class FileTree:
    """Paths of the images, video files and label files below a root, relative to it."""

    images: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)


def list_files(root: Path, label_suffix: str) -> FileTree:
    """List the images, the video files, and the files that end in `label_suffix`."""
    tree = FileTree()
    for path in walk_files(root):
        if path.lower().endswith(IMAGE_SUFFIXES):
            tree.images.append(path)
        elif is_video_file(path):
            tree.videos.append(path)
        elif path.endswith(label_suffix):
            tree.labels.add(path)
    return tree


def split_by_folder(tree: FileTree) -> SplitOf:
    """Return a function that gives the split of a file by its folders, or `all` without splits.

    If there are folders for both splits, it gives None for files in neither.
    """
    found = {_named_split(file) for file in (*tree.images, *tree.videos)}
    return _named_split if {"train", "val"} <= found else lambda _: "all"


def _named_split(file: str) -> str | None:
    parts = PurePosixPath(file).parts[:2]
    return next((_SPLIT_OF[part] for part in parts if part in _SPLIT_OF), None)


def pair_labels(
    tree: FileTree, label_suffix: str, split_of: SplitOf, hints: Hints
) -> tuple[dict[str, Split], list[str]]:
    """Return the videos with their labels, by split, and notes for the user.

    Args:
        label_suffix: Suffix of label files, e.g. `.txt`.
        hints: How to group frames, and how labels number the frames of video files.
    """
    # By split, and by the leading folders that are not part of video names.
    files: defaultdict[tuple[str | None, str], list[str]] = defaultdict(list)
    for image in tree.images:
        files[split_of(image), _base(image)].append(image)
    paired: set[str] = set()
    videos: defaultdict[str | None, list[LabeledVideo]] = defaultdict(list)
    unlabeled: defaultdict[str | None, list[LabeledVideo]] = defaultdict(list)
    for (split, base), images in files.items():
        for group in group_frames(images, base, by_folder=hints.group_by_folder):
            labels = [
                (number, label)
                for number, image in group.files
                if (label := _label_of(image, label_suffix, tree.labels))
            ]
            paired.update(label for _, label in labels)
            video = LabeledVideo(group, tuple(labels))
            (videos if labels or not group.is_video else unlabeled)[split].append(video)
    in_files = _labels_of_video_files(tree, paired, split_of)
    first = first_frame_number([numbers for _, _, numbers, _ in in_files], hints.first_frame)
    for split, file, numbers, labels_of_file in in_files:
        paired.update(labels_of_file)
        name = PurePosixPath(file).relative_to(_base(file)).with_suffix("").as_posix()
        if any(video.name == name for video in videos[split]):
            name += PurePosixPath(file).suffix
        shifted = tuple(zip((n - first for n in numbers), labels_of_file, strict=True))
        video = LabeledVideo(VideoFrames(name, file), shifted)
        (videos if shifted else unlabeled)[split].append(video)
    shared = _remove_shared(videos)
    splits = {
        split: Split(videos[split], shared[split], _alone(videos[split]))
        for split in ("train", "val", "all")
        if videos[split] or shared[split]
    }
    _report_unpaired(tree, paired, splits)
    for split, target in splits.items():
        target.problems += map(_no_labels, unlabeled[split])
    notes = []
    if in_files and first:
        notes.append(f"labels count the frames of a video file from {first}")
    if videos[None]:
        names = ", ".join(video.name for video in videos[None][:3])
        notes.append(f"skipping {len(videos[None])} videos in neither train nor val ({names})")
    return splits, notes


def read_labeled(
    root: Path,
    source: LabeledVideo,
    add_boxes: Callable[[AnnotatedVideo, AnnotatedFrame, Path], bool],
) -> AnnotatedVideo:
    """Open the frames of a video and read their label files.

    `add_boxes` adds the boxes of a label file to a frame; it returns False to skip the frame.
    """
    video = open_media(root, source.media)
    labels = dict(source.labels)
    frames, video.frames = video.frames, []
    for frame in frames:
        label = labels.pop(frame.number, None)
        if label is None or add_boxes(video, frame, root / label):
            video.frames.append(frame)
    if isinstance(source.media, VideoFrames):
        for number, label in sorted(labels.items()):
            video.problems.append(
                f"{root / label}: frame {number} (counted from 0), but {source.media.file} has "
                f"{len(frames)} frames"
            )
    return finish(video)


def _base(file: str) -> str:
    """Return the leading folders such as `images` or `train`, which video names do not include."""
    words = {*_IMAGE_FOLDERS, *_SPLIT_OF}
    return "/".join(takewhile(words.__contains__, PurePosixPath(file).parent.parts))


def _label_of(image: str, suffix: str, labels: set[str]) -> str | None:
    stem = image.rpartition(".")[0]
    return next((stem + suffix for stem in _label_stems(stem) if stem + suffix in labels), None)


def _label_stems(stem: str) -> Iterator[str]:
    """Yield the paths without suffix where the label of `stem` may be, most likely first."""
    yield stem
    parts = stem.split("/")
    for place, part in reversed(list(enumerate(parts[:-1]))):
        if part in _IMAGE_FOLDERS:
            for name in _LABEL_FOLDERS:
                yield "/".join([*parts[:place], name, *parts[place + 1 :]])
    for place in range(min(len(parts), 2)):
        for name in _LABEL_FOLDERS:
            yield "/".join([*parts[:place], name, *parts[place:]])


def _labels_of_video_files(
    tree: FileTree, paired: set[str], split_of: SplitOf
) -> list[tuple[str | None, str, list[int], list[str]]]:
    """Return split, video file, annotated frame numbers (ascending) and their label files."""
    by_video: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for label in sorted(tree.labels - paired):
        path = PurePosixPath(label)
        prefix, number = split_number(path.stem)
        if number is not None:
            inside = prefix in ("", path.parent.name)
            by_video[str(path.parent if inside else path.parent / prefix)][number] = label
    found = []
    for file in tree.videos:
        stems = _label_stems(file.rpartition(".")[0])
        labels = next((by_video[stem] for stem in stems if stem in by_video), {})
        numbers = sorted(labels)
        found.append((split_of(file), file, numbers, [labels[number] for number in numbers]))
    return found


def _remove_shared(
    videos: Mapping[str | None, list[LabeledVideo]],
) -> defaultdict[str | None, list[str]]:
    """Remove what matches a label file together with something else: the file describes only one.

    Returns:
        The problems of each split.
    """
    problems: defaultdict[str | None, list[str]] = defaultdict(list)
    owners: dict[str, LabeledVideo] = {}
    shared: set[int] = set()
    for split, group in videos.items():
        if split is None:  # not used
            continue
        for place, video in enumerate(group):
            group[place] = video = _without_twins(video, problems[split])
            owner, label = next(
                (
                    (owner, label)
                    for _, label in video.labels
                    if (owner := owners.setdefault(label, video)) is not video
                ),
                (video, ""),
            )
            if label:
                shared |= {id(owner), id(video)}
                problems[split].append(_matches_both(label, _place(owner), _place(video)))
    for group in videos.values():
        group[:] = [video for video in group if id(video) not in shared]
    return problems


def _without_twins(video: LabeledVideo, problems: list[str]) -> LabeledVideo:
    """Return still images without those that differ only in their suffix, e.g. `a.jpg`, `a.png`."""
    media = video.media
    if isinstance(media, VideoFrames) or media.is_video:
        return video
    files = dict(media.files)
    first: dict[str, int] = {}
    twins: set[int] = set()
    for number, label in video.labels:
        other = first.setdefault(label, number)
        if other != number:
            twins |= {other, number}
            problems.append(_matches_both(label, files[other], files[number]))
    if not twins:
        return video
    kept = tuple((number, file) for number, file in media.files if number not in twins)
    labels = tuple((number, label) for number, label in video.labels if number not in twins)
    return LabeledVideo(replace(media, files=kept), labels)


def _matches_both(label: str, one: str, other: str) -> str:
    return f"{label}: matches both {one} and {other}, both skipped (rename one, and its labels)"


def _alone(videos: Iterable[LabeledVideo]) -> list[str]:
    media = (video.media for video in videos)
    return lone_frames(
        (one.name, [file for _, file in one.files])
        for one in media
        if isinstance(one, ImageFrames) and one.is_video
    )


def _place(video: LabeledVideo) -> str:
    """Return the video file, or the first image, of a video."""
    media = video.media
    return media.file if isinstance(media, VideoFrames) else media.files[0][1]


def _no_labels(video: LabeledVideo) -> str:
    """Return the problem of a video without labels, which counts as not annotated, not as empty."""
    place = _place(video)
    file = place if isinstance(video.media, VideoFrames) else place.rpartition("/")[0]
    return (
        f"{file or video.name}: video {video.name} has no label file for any frame, skipped (add "
        "an empty one if it has no objects)"
    )


def _report_unpaired(tree: FileTree, paired: set[str], splits: dict[str, Split]) -> None:
    """Report label files that belong to no frame, one line per folder."""
    folders_of_labels = {label.rpartition("/")[0] for label in paired}
    unpaired: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(tree.labels - paired):
        folder, _, name = label.rpartition("/")
        is_label = split_number(PurePosixPath(name).stem)[1] is not None
        if is_label and (folder in folders_of_labels or {*_LABEL_FOLDERS} & {*folder.split("/")}):
            unpaired[folder].append(name)
    for folder, names in unpaired.items():
        split = _named_split(folder + "/_")
        target = splits.get(split or "") or next(iter(splits.values()), None)
        if target is not None:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            target.problems.append(f"{folder}/{names[0]}{more}: no matching image or video")
