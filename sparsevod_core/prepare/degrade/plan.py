"""Plan of the degradations of a real video: which frames, how, and relative to which lengths."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from sparsevod_core.data.records import VideoSet
from sparsevod_core.files.names import fitted
from sparsevod_core.prepare.degradations import (
    BURST_FRAMES,
    CLEAR_FRAMES,
    GAP_FRAMES,
    Burst,
    Scale,
    schedule_bursts,
)

Clear = Bool[np.ndarray, " frames"]
Track = Sequence[int]
"""Positions of the frames of a video in which an object has a box."""

SHARE = 0.4
"""Largest fraction of a video's frames that is degraded, as in the rendered set."""
KINDS = ("motion_blur", "defocus", "low_light", "noise")

# A whip pan, a search for focus or a shadow lasts about 0.2 to 1.5 seconds: 6 to 45 frames at 30
# frames per second. Sets do not say their frame rate, and a short video should have more than one
# burst, so that lengths also grow with the number of frames: 6 to 18 of 300, and those of the
# rendered set up to about 90 frames.
_BURST_SHARE = (0.02, 0.06)
_LONGEST_BURSTS = (15, 45)

_PEAKS = (0.5, 0.75)
"""Smallest and largest severity in the middle of a burst. In the dark, real objects have less
contrast than the rendered ones."""
_BLUR = 0.65
"""Length of blur relative to that in the rendered set. Boxes are wider than the bodies of birds and
drones, which a longer blur erases."""
_NOISE = 0.6
"""Noise relative to that in the rendered set, for the same reasons."""
_OBJECT_SIDE = 0.24
"""Typical side of a box in the rendered set, as a fraction of the frame's width."""
_QUANTILE = 0.25
"""Part of a video's boxes that are smaller than those that decide the strength: few are erased."""
_SMALLEST_SIDE_PX = 12
"""A blur or noise for even smaller objects would be lost when a detector downscales the frame."""
_GRAIN_SHARE = 1 / 160
"""Side of the coarse grains in the rendered set, as a fraction of the frame's width."""
_SIDE_IN_GRAINS = _OBJECT_SIDE / _GRAIN_SHARE

_UNSAFE = re.compile(r"[^\w-]")  # in the name of a folder
_ATTEMPTS = 12
_ATTEMPTS_PER_LENGTH = 4
"""Number of schedules drawn before bursts are halved, since each of them hides an object."""


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """What happens to the frames of one video.

    Attributes:
        folder: Name of the folder of its frames, without separators.
        frames: Frames in the `VideoSet`.
        bursts: Bursts in order of time, which do not overlap. Their frames are positions in the
            video, from 0.
        scale: What their lengths are relative to.
        seed: Numbers that identify the video; frame seeds have one more.
    """

    folder: str
    frames: range
    bursts: tuple[Burst, ...]
    scale: Scale
    seed: tuple[int, ...]

    def burst(self, position: int) -> Burst | None:
        """Return the burst that a frame belongs to."""
        number = bisect_right(self.bursts, position, key=lambda burst: burst.start) - 1
        return (
            self.bursts[number] if number >= 0 and self.bursts[number].severity(position) else None
        )

    def degradation(self, position: int) -> dict[str, float]:
        """Return the severity of a frame by kind, empty for a clean frame."""
        burst = self.burst(position)
        return {} if burst is None else {burst.kind: burst.severity(position)}


def plan_video(videos: VideoSet, video: int, seed: int) -> VideoPlan:
    """Plan one video. The seed and the video's name determine the plan, not its neighbors."""
    name, frames = videos.video_name(video), videos.video_frames(video)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    own_seed = (seed, *np.frombuffer(digest[:16], "<u4").tolist())
    bursts = clear_bursts(np.random.default_rng(own_seed), len(frames), _tracks(videos, frames))
    sides = [_sides(videos, frame) for frame in frames]
    width = int(videos.frame_size(frames[0])[1])
    return VideoPlan(
        folder=fitted(f"{video:05d}_{_UNSAFE.sub('_', name)}", ""),
        frames=frames,
        bursts=tuple(bursts),
        scale=object_scale(np.concatenate(sides), width),
        seed=own_seed,
    )


def plan_stills(videos: VideoSet, seed: int) -> VideoPlan | None:
    """Return the plan of all images that belong to no video: they stay clean, as does any object
    that is seen once; None if there are none.
    """
    first = int(videos.tables.video_starts[len(videos.tables.video_names)])
    if first == videos.num_frames:
        return None
    frames = range(first, videos.num_frames)
    return VideoPlan("stills", frames, (), Scale(1.0), (seed,))


def burst_frames(num_frames: int) -> tuple[int, int]:
    """Return the number of frames of the shortest and the longest burst of a video."""
    low, high = (
        min(max(shortest, round(share * num_frames)), longest)
        for shortest, share, longest in zip(
            BURST_FRAMES, _BURST_SHARE, _LONGEST_BURSTS, strict=True
        )
    )
    return low, high


def clear_bursts(
    rng: np.random.Generator, num_frames: int, tracks: Iterable[Track], share: float = SHARE
) -> list[Burst]:
    """Return bursts between which every object is seen in a fair part of its track.

    Bursts that hide an object for too long are dropped. Of several schedules, the one that keeps
    most frames degraded is taken. In a video of many short tracks, bursts must be shorter.
    """
    positions = [np.asarray(track) for track in tracks]
    low, high = burst_frames(num_frames)
    best: list[Burst] = []
    for attempt in range(_ATTEMPTS):
        shrink = 2 ** (attempt // _ATTEMPTS_PER_LENGTH)
        lengths = max(low // shrink, 1), max(high // shrink, 2)
        bursts = schedule_bursts(
            rng, num_frames, share, kinds=KINDS, burst_frames=lengths,
            gap_frames=max(GAP_FRAMES, lengths[0]), peaks=_PEAKS,
        )  # fmt: skip
        if len(bursts) > 1:  # the last one gets what is left of the share
            bursts = [burst for burst in bursts if len(burst.severities) >= lengths[0]]
        kept = _without_hiding(bursts, positions, num_frames)
        if _num_degraded(kept) > _num_degraded(best):
            best = kept
        if 2 * _num_degraded(best) >= share * num_frames:
            break
    return best


def object_scale(sides: np.ndarray, width: int) -> Scale:
    """Return the scale at which objects are degraded as those of the rendered set.

    Args:
        sides: Side of each box of the video, in pixels: the root of its area.
        width: Width of its frames in pixels, which bounds the scale.
    """
    like = float(width)  # width of a frame of the rendered set with such objects
    if len(sides):
        side = max(float(np.quantile(sides, _QUANTILE)), _SMALLEST_SIDE_PX)
        like = min(like, side / _OBJECT_SIDE)
    grain_px = max(2, round(_GRAIN_SHARE * like))
    # Averaged over an object, noise decreases with the root of the number of its grains.
    side_in_grains = _OBJECT_SIDE * like / grain_px
    return Scale(_BLUR * like, grain_px, _NOISE * min(1.0, side_in_grains / _SIDE_IN_GRAINS))


def _tracks(videos: VideoSet, frames: range) -> list[Track]:
    """Return the track of each object of a video; boxes without a track and crowds have none."""
    tracks: dict[int, list[int]] = {}
    for position, frame in enumerate(frames):
        boxes = videos.boxes(frame)
        for instance in set(boxes.instance_ids[~boxes.is_crowd].tolist()) - {-1}:
            tracks.setdefault(instance, []).append(position)
    return list(tracks.values())


def _sides(videos: VideoSet, frame: int) -> np.ndarray:
    boxes = videos.boxes(frame)
    left, top, right, bottom = boxes.boxes_xyxy[~boxes.is_crowd].T
    return np.sqrt((right - left) * (bottom - top))


def _without_hiding(
    bursts: Sequence[Burst], tracks: Sequence[np.ndarray], num_frames: int
) -> list[Burst]:
    """Drop bursts until each object is clean in a fair part of its track, the longest there first.

    One pass is enough, as no object becomes less visible.
    """
    burst_of = np.full(num_frames, -1)
    for number, burst in enumerate(bursts):
        burst_of[burst.start : burst.start + len(burst.severities)] = number
    for track in tracks:
        while True:
            hit = burst_of[track]
            hit = hit[hit >= 0]
            if len(track) - len(hit) >= max(1, CLEAR_FRAMES * len(track)):
                break
            burst_of[burst_of == np.bincount(hit).argmax()] = -1
    return [burst for number, burst in enumerate(bursts) if burst_of[burst.start] == number]


def _num_degraded(bursts: Iterable[Burst]) -> int:
    return sum(len(burst.severities) for burst in bursts)
