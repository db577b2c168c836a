"""Label files of video files: one for each frame, with its number in the name."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

from sparsevod_core.prepare.reading.file_tree import FileTree, SplitOf, label_stems
from sparsevod_core.prepare.reading.frame_names import split_number
from sparsevod_core.prepare.reading.split_names import HELD_OUT, LABEL_FOLDERS, split_named


def labels_of_video_files(
    tree: FileTree, paired: set[str], split_of: SplitOf
) -> tuple[list[tuple[str, str, dict[int, str]]], list[str]]:
    """Return the split, path and label files by frame number of each video file, and notes."""
    by_video: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for label in sorted(tree.labels - paired):
        path = PurePosixPath(label)
        prefix, number = split_number(path.stem)
        if number is not None:
            inside = prefix in ("", path.parent.name)
            by_video[str(path.parent if inside else path.parent / prefix)][number] = label
    labels_of: dict[str, dict[int, str]] = {}
    for file in tree.videos:
        stems = label_stems(file.rpartition(".")[0])
        labels_of[file] = next((by_video[stem] for stem in stems if stem in by_video), {})
    notes = []
    if len(tree.videos) == len(by_video) == 1 and not labels_of[tree.videos[0]]:
        ((place, labels),) = by_video.items()
        if _is_of_any_video(place):
            labels_of[tree.videos[0]] = labels
            notes.append(f"{place}: taken for the labels of {tree.videos[0]}, the only video here")
    found = []
    for file, labels in labels_of.items():
        split = split_of(file)
        # The folder `labels/test` is that of `test.mp4`, before it is that of test data.
        own = PurePosixPath(file).stem
        places = [label for label in labels.values() if PurePosixPath(label).parent.name != own]
        splits = {split_of(label) for label in places}
        if split == "neither" or splits & HELD_OUT.keys() - {"neither"}:
            order = (*HELD_OUT, "val", "train", "all")
            split = min(splits or {split}, key=order.index)
            if len(splits) > 1:
                names = " and ".join(sorted(splits))
                notes.append(f"{file}: has frames in {names}: the video is in {split}")
        found.append((split, file, labels))
    return found, notes


def _is_of_any_video(folder: str) -> bool:
    """Return True if the name of a folder of labels is not that of a video."""
    name = PurePosixPath(folder).name
    return name in ("", *LABEL_FOLDERS) or split_named(name) is not None
