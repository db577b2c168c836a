"""Whether labels count the frames of a video file from 0 or from 1.

Tools do both. A label of frame 0 proves the one, a label whose number is the video's number of
frames proves the other. Videos without such a label follow the others of the data set. What is a
guess is called one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparsevod_core.errors import VideoError

_GUESS = "a guess: no label of frame 0, of frame 1 or of the last frame proves it"


def first_frames(
    root: Path, numbers: Mapping[str, Sequence[int]], hint: int | None
) -> tuple[dict[str, int], list[str]]:
    """Return the number that labels give the first frame of each video file, and notes.

    Args:
        root: Folder that the files are relative to.
        numbers: Labeled frame numbers of each video file, ascending.
        hint: The number that the user states; None to find it.
    """
    reasons: dict[str, tuple[int, str]] = {}
    labeled = {file: found for file, found in numbers.items() if len(found)}
    if hint is not None:
        stated = dict.fromkeys(labeled, (hint, "--first-frame states it"))
        return dict.fromkeys(numbers, hint), _notes(stated)
    for file, found in labeled.items():
        if found[0] == 0:
            reasons[file] = 0, "frame 0 has a label"
    for file, found in labeled.items():
        # Labels that start at frame 1 are in doubt only if those of other videos count from 0.
        is_open = found[0] > 1 or (found[0] == 1 and bool(reasons))
        if is_open and _has_frames(root / file, found[-1]):
            reasons[file] = 1, "the number of the last label is the number of frames"
    proven = {first for first, _ in reasons.values()}
    starts_at_1 = any(found[0] == 1 for found in labeled.values())
    for file, found in labeled.items():
        if file in reasons:
            continue
        if len(proven) == 1:
            reasons[file] = min(proven), "other videos of the data set do"
        elif found[0] == 1:
            reasons[file] = 1, "frame 1 has a label, but no frame 0"
        elif starts_at_1 and not proven:
            reasons[file] = 1, "other videos of the data set seem to"
        else:
            reasons[file] = 0, _GUESS
    notes = _notes(reasons)
    if len(proven) > 1:
        notes.append("labels of some videos count from 0, those of others from 1, as proven above")
    return {file: reasons.get(file, (0, ""))[0] for file in numbers}, notes


def _has_frames(path: Path, number: int) -> bool:
    """Return True if a video has exactly this number of frames.

    They are counted, which decodes the video, unless its header tells that there are more.
    """
    from sparsevod_core.video.reader import VideoReader

    try:
        with VideoReader(path, threads=1) as reader:
            declared = reader.declared_num_frames
            is_longer = declared is not None and declared > number
            return not is_longer and reader.num_frames() == number
    except VideoError:  # reported when the video is read
        return False


def _notes(reasons: Mapping[str, tuple[int, str]]) -> list[str]:
    """Return a line for each reason."""
    files: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for file, found in reasons.items():
        files[found].append(file)
    notes = []
    for (first, reason), of_reason in files.items():
        names = ", ".join(of_reason[:3])
        more = f" and {len(of_reason) - 3} more" if len(of_reason) > 3 else ""
        hint = f" (--first-frame {1 - first} for the other)" if reason is _GUESS else ""
        notes.append(f"labels count the frames of {names}{more} from {first}: {reason}{hint}")
    return notes
