"""Smooth paths of the objects and of the camera, one value per frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "frames 2"]
Values = Float[np.ndarray, " frames"]


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """Pose of an object in each frame.

    Attributes:
        centers: x, y in pixels; may be outside the frame.
        angles: Rotation in radians.
        scales: Size relative to the largest.
        squash: Height over width, as if seen from the side.
    """

    centers: Points
    angles: Values
    scales: Values
    squash: float

    def affine(self, frame: int, sprite_center: float) -> Float[np.ndarray, "2 3"]:
        """Return the map from sprite pixels to the pixels of a frame."""
        turn, scale = self.angles[frame], self.scales[frame]
        linear = scale * np.array(
            [
                [np.cos(turn), -np.sin(turn)],
                [self.squash * np.sin(turn), self.squash * np.cos(turn)],
            ]
        )
        shift = self.centers[frame] - linear @ [sprite_center, sprite_center]
        return np.column_stack([linear, shift])


def object_path(
    rng: np.random.Generator, num_frames: int, height: int, width: int, diameter_px: float
) -> ObjectPath:
    """Return a swaying path that turns back near the border, with one liveliness for all motion."""
    time = np.arange(num_frames)
    liveliness = rng.random()
    speed = 0.0004 * 60**liveliness * height  # px per frame
    heading = rng.uniform(0, 2 * np.pi)
    step = speed * np.array([np.cos(heading), np.sin(heading)])
    straight = rng.uniform(0.1, 0.9, 2) * [width, height] + time[:, None] * step
    beyond = diameter_px * rng.uniform(-0.45, 0.4)  # turns back inside or outside
    centers = np.stack(
        [
            _turn_back(straight[:, axis], -beyond, size + beyond)
            + 0.2 * liveliness * diameter_px * _sway(rng, time)
            for axis, size in enumerate((width, height))
        ],
        axis=1,
    )
    turning = rng.normal(0, 0.12) * liveliness  # radians per frame
    return ObjectPath(
        centers,
        angles=rng.uniform(0, 2 * np.pi) + turning * time + 0.3 * liveliness * _sway(rng, time),
        scales=np.exp(0.3 * liveliness * (_sway(rng, time) - 1)),
        squash=rng.uniform(0.85, 1.0),
    )


def camera_path(rng: np.random.Generator, num_frames: int, reach_px: float) -> Points:
    """Return the offset of the background: a slow pan within about `reach_px` of the center."""
    time = np.arange(num_frames)
    speed = rng.uniform(0.01, 0.06) * reach_px
    heading, start = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4, 2) * reach_px
    pan = start + speed * time[:, None] * [np.cos(heading), np.sin(heading)]
    shake = 0.03 * reach_px * np.stack([_sway(rng, time), _sway(rng, time)], axis=1)
    return np.stack([_turn_back(pan[:, axis], -reach_px, reach_px) for axis in (0, 1)], 1) + shake


def _sway(rng: np.random.Generator, time: np.ndarray) -> Values:
    """Return a slow wave in -1..1."""
    return np.sin(2 * np.pi * time / rng.uniform(14, 40) + rng.uniform(0, 2 * np.pi))


def _turn_back(place: Values, low: float, high: float) -> Values:
    """Return the positions, reflected at both ends."""
    span = high - low
    return low + span - np.abs((place - low) % (2 * span) - span)
