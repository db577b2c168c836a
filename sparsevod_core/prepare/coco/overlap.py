"""Frames that train and val have in common: validation on them gives too high a score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsevod_core.prepare.coco.entries import CocoEntries
from sparsevod_core.prepare.coco.videos import ImageGroup


@dataclass(frozen=True, slots=True)
class SplitFrames:
    """The frames of a split; `place` is the folder that file names start from."""

    entries: CocoEntries
    place: Path
    groups: list[ImageGroup]

    def in_places(self, places: set[str] | None = None) -> Iterator[tuple[ImageGroup, set[str]]]:
        """Yield each group and its folders, or its video file; only those in some of `places`."""
        names = self.entries.file_names
        for group in self.groups:
            found = {f"{self.place}/{group.file}"}
            if group.file is None:
                folders = np.unique(names.folder_of[group.images]).tolist()
                found = {self._path(group, names.folders[folder]) for folder in folders}
            if places is None or found & places:
                yield group, found

    def frames(self, group: ImageGroup) -> Iterator[str]:
        """Yield the name of each frame of a group, the same in every split."""
        if group.file is None:
            for image in group.images.tolist():
                yield self._path(group, self.entries.file_names[image])
        else:
            for number in group.numbers:
                yield f"{self.place}/{group.file} frame {number}"

    def _path(self, group: ImageGroup, name: str) -> str:
        return "/".join(filter(None, [str(self.place), group.folder, name]))


def describe_overlap(train: SplitFrames, val: SplitFrames) -> str:
    """Return which frames train and val share; "" if none.

    Only videos in the same folder or file are compared, so that most sets cost nothing.
    """
    places = set().union(*(found for _, found in train.in_places()))
    in_val = {frame for group, _ in val.in_places(places) for frame in val.frames(group)}
    if not in_val:
        return ""
    places = set().union(*(found for _, found in val.in_places(places)))
    in_train = {frame for group, _ in train.in_places(places) for frame in train.frames(group)}
    common = in_val & in_train
    if not common:
        return ""
    total = sum(len(group.numbers) for group in val.groups)
    return (
        f"{val.entries.path}: {len(common)} of {total} frames are in {train.entries.path.name}, "
        f"too, so that validation scores too high: {min(common)} and others"
    )
