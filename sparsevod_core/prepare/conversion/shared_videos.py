"""Videos that seem to be both in train and in val: validation on them scores too high.

A random split of frames, or a copy of the training images, is a frequent mistake. Only videos of
the same name are compared, by their frame numbers and the content of their first and last file.
"""

from __future__ import annotations

from pathlib import Path

from sparsevod_core.prepare.conversion.counts import Example
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.reporting import counted

_COMPARED_BYTES = 1 << 20


def describe_shared_videos(root: Path, train: PreparedSplit, val: PreparedSplit) -> list[str]:
    """Return a line on videos that are divided between the splits, and one on copies."""
    in_train = {example.name: example for example in train.videos}
    pairs = [
        (in_train[example.name], example) for example in val.videos if example.name in in_train
    ]
    lines = []
    if divided := [pair for pair in pairs if _seem_divided(*pair)]:
        one, other = divided[0]
        lines.append(
            f"{counted(len(divided), 'video')} in train and in val with different frames, e.g. "
            f"{one.name}: {one.first_number} to {one.last_number} ({one.num_frames}) in train, "
            f"{other.first_number} to {other.last_number} ({other.num_frames}) in val. Frames of "
            "one video in both make validation score too high: divide entire videos"
        )
    if copies := [pair for pair in pairs if _are_alike(root, *pair)]:
        one, other = copies[0]
        lines.append(
            f"{counted(len(copies), 'video')} of val with the same images as in train, e.g. "
            f"{one.first_file} and {other.first_file}: validation on training data scores too high"
        )
    return lines


def _seem_divided(one: Example, other: Example) -> bool:
    """Return True if the frames can be different frames of one video."""
    numbers = {one.first_number, one.last_number} & {other.first_number, other.last_number}
    first = min(one.first_number, other.first_number)
    last = max(one.last_number, other.last_number)
    return not numbers and one.num_frames + other.num_frames <= last - first + 1


def _are_alike(root: Path, one: Example, other: Example) -> bool:
    """Return True if the first and the last file have the same content, but other names."""
    numbers = [(video.first_number, video.last_number, video.num_frames) for video in (one, other)]
    if numbers[0] != numbers[1] or one.first_file == other.first_file:
        return False
    pairs = (one.first_file, other.first_file), (one.last_file, other.last_file)
    try:
        return all(_head(root / first) == _head(root / second) for first, second in pairs)
    except OSError:  # it could be read before
        return False


def _head(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return path.stat().st_size, file.read(_COMPARED_BYTES)
