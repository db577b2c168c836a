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
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.annotated import AnnotatedFrame, AnnotatedVideo
from sparsevod_core.prepare.reading.file_tree import FileTree, SplitOf, base_of, label_of
from sparsevod_core.prepare.reading.first_frame import first_frames
from sparsevod_core.prepare.reading.frame_groups import ImageFrames, group_frames, lone_frames
from sparsevod_core.prepare.reading.frame_names import split_number
from sparsevod_core.prepare.reading.label_set import Hints, Split
from sparsevod_core.prepare.reading.media import (
    Media,
    VideoFrames,
    finish,
    inputs_of,
    media_inputs,
    open_media,
)
from sparsevod_core.prepare.reading.split_names import (
    HELD_OUT,
    LABEL_FOLDERS,
    USED,
    split_of_folder,
)
from sparsevod_core.prepare.reading.video_file_labels import labels_of_video_files


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


def pair_labels(
    root: Path, tree: FileTree, label_suffix: str, split_of: SplitOf, hints: Hints
) -> tuple[dict[str, Split], list[str]]:
    """Return the videos with their labels, by split, and notes for the user.

    Args:
        label_suffix: Suffix of label files, e.g. `.txt`.
        hints: How to group frames, and how labels number the frames of video files.

    Raises:
        DataError: There are labels and media, but no label belongs to any of them.
    """
    # By split, and by the leading folders that are not part of video names.
    files: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for image in tree.images:
        files[split_of(image), base_of(image)].append(image)
    paired: set[str] = set()
    videos: defaultdict[str, list[LabeledVideo]] = defaultdict(list)
    unlabeled: defaultdict[str, list[LabeledVideo]] = defaultdict(list)
    for (split, base), images in files.items():
        for group in group_frames(images, base, by_folder=hints.group_by_folder):
            labels = [
                (number, label)
                for number, image in group.files
                if (label := label_of(image, label_suffix, tree.labels))
            ]
            paired.update(label for _, label in labels)
            video = LabeledVideo(group, tuple(labels))
            (videos if labels or not group.is_video else unlabeled)[split].append(video)
    in_files, notes = labels_of_video_files(tree, paired, split_of)
    numbers = {file: sorted(labels) for _, file, labels in in_files}
    first, more = first_frames(root, numbers, hints.first_frame)
    for split, file, labels_of_file in in_files:
        paired.update(labels_of_file.values())
        name = PurePosixPath(file).relative_to(base_of(file)).with_suffix("").as_posix()
        if any(video.name == name for video in videos[split]):
            name += PurePosixPath(file).suffix
        shifted = tuple((n - first[file], labels_of_file[n]) for n in numbers[file])
        video = LabeledVideo(VideoFrames(name, file), shifted)
        (videos if shifted else unlabeled)[split].append(video)
    for split in HELD_OUT:
        videos[split] += unlabeled.pop(split, [])
    # Problems are those of the splits that are used, which come last.
    shared = _remove_shared({split: videos[split] for split in (*HELD_OUT, *USED)})
    splits = {
        split: Split(videos[split], shared[split], _alone(videos[split]))
        for split in (*USED, *HELD_OUT)
        if videos[split] or shared[split]
    }
    _report_unpaired(tree, paired, splits)
    for split, target in splits.items():
        target.problems += map(_no_labels, unlabeled[split])
    if not splits:
        _refuse_unpaired(root, tree, paired)
    return splits, notes + more


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


def _remove_shared(
    videos: Mapping[str, list[LabeledVideo]],
) -> defaultdict[str, list[str]]:
    """Remove what matches a label file together with something else: the file describes only one.

    Returns:
        The problems of each split.
    """
    problems: defaultdict[str, list[str]] = defaultdict(list)
    owners: dict[str, LabeledVideo] = {}
    shared: set[int] = set()
    for split, group in videos.items():
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


def _refuse_unpaired(root: Path, tree: FileTree, paired: set[str]) -> None:
    """Raise if there are labels without media, or with media that do not belong to them."""
    labels = [
        label
        for label in sorted(tree.labels - paired)
        if split_number(PurePosixPath(label).stem)[1] is not None
    ]
    if not labels:
        return
    if not (tree.videos or tree.images):
        other = f"; {tree.other_file} is no format that is read" if tree.other_file else ""
        raise DataError(
            f"{root}: labels such as {labels[0]}, but no image or video file{other}",
            hint="put the images or videos into the folder, as .jpg, .png or .mp4",
        )
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    media = (tree.videos or tree.images)[0]
    stem = PurePosixPath(media).relative_to(base_of(media)).with_suffix("").as_posix()
    suffix = PurePosixPath(labels[0]).suffix
    place = f"labels/{stem}/000000{suffix}" if tree.videos else f"labels/{stem}{suffix}"
    raise DataError(
        f"{labels[0]}{more}: no matching image or video",
        hint=f"put the labels of {media} into {place}" + (" and so on" if tree.videos else ""),
    )


def _report_unpaired(tree: FileTree, paired: set[str], splits: dict[str, Split]) -> None:
    """Report label files that belong to no frame, one line per folder."""
    folders_of_labels = {label.rpartition("/")[0] for label in paired}
    unpaired: defaultdict[str, list[str]] = defaultdict(list)
    for label in sorted(tree.labels - paired):
        folder, _, name = label.rpartition("/")
        is_label = split_number(PurePosixPath(name).stem)[1] is not None
        if is_label and (folder in folders_of_labels or {*LABEL_FOLDERS} & {*folder.split("/")}):
            unpaired[folder].append(name)
    for folder, names in unpaired.items():
        target = splits.get(split_of_folder(folder) or "") or next(iter(splits.values()), None)
        if target is not None:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            target.problems.append(f"{folder}/{names[0]}{more}: no matching image or video")
