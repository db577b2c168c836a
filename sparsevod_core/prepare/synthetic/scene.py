"""A video of objects that move over a panning landscape and hide one another.

The scene is decided when it is made; its frames can then be drawn in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from sparsevod_core.prepare.synthetic.classes import OBJECT_CLASSES
from sparsevod_core.prepare.synthetic.degradations import Burst, degrade, schedule_bursts
from sparsevod_core.prepare.synthetic.landscape import landscape
from sparsevod_core.prepare.synthetic.paths import ObjectPath, camera_path, object_path
from sparsevod_core.prepare.synthetic.sprite import Sprite, draw, footprint, make_sprite

Mask = Bool[np.ndarray, "height width"]
Cover = Float32[np.ndarray, "height width"]
Picture = UInt8[np.ndarray, "height width 3"]
Image = Float32[np.ndarray, "height width 3"]
Ground = Float32[np.ndarray, "rows columns 3"]  # larger than a frame, for the camera to pan over

MIN_VISIBLE = 0.12
"""An object of which a smaller share is to be seen has no box."""
MIN_SIDE_PX = 4
"""Nor has one whose visible part is narrower."""
OCCLUDED_BELOW = 0.6
"""`occluded`: a smaller share is to be seen of what lies within the frame."""
CLEAR_FRAMES = 0.25
"""Each object is seen undegraded and not occluded in at least this share of the frames."""

DIAMETERS = (0.2, 0.5)
"""Smallest and largest object as a share of the frame's height, before it shrinks on its way."""
_ATTEMPTS = 20
_SENSOR_NOISE = 0.008
_SPARE_PX = 64


@dataclass(frozen=True, slots=True)
class VisibleObject:
    """What is to be seen of an object in a frame.

    Attributes:
        track: number of the object in its video, from 0.
        class_name: one of `OBJECT_CLASSES`.
        box_xyxy: edges of the visible part in whole pixels; the right and lower edge lie behind its
            last pixel.
        occluded: see `OCCLUDED_BELOW`.
    """

    track: int
    class_name: str
    box_xyxy: tuple[int, int, int, int]
    occluded: bool


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """Pixels, objects, and severity by kind of degradation (empty: a clean frame)."""

    image: Picture
    objects: list[VisibleObject]
    degradation: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Thing:
    """An object of the scene with the pixels of each frame that it would cover if it were alone."""

    class_name: str
    sprite: Sprite
    path: ObjectPath
    diameter_px: float
    masks: list[Mask]


class Scene:
    """One video.

    Args:
        seed: numbers that name the video; the same numbers give the same pixels.
        class_names: of the objects, from `OBJECT_CLASSES`, farthest first. One for which no path is
            found on which all objects are seen well is left out.
        num_frames: its length.
        height, width: of a frame in pixels.
        degraded_share: at most this share of the frames is degraded.
    """

    def __init__(
        self,
        seed: Sequence[int],
        class_names: Sequence[str],
        *,
        num_frames: int,
        height: int,
        width: int,
        degraded_share: float,
    ) -> None:
        self._seed = list(seed)
        self._height, self._width = height, width
        rng = np.random.default_rng(self._seed)
        self._bursts = schedule_bursts(rng, num_frames, degraded_share)
        self._reach = int(0.2 * height)  # how far the camera pans
        self._ground = landscape(rng, height + 2 * self._reach, width + 2 * self._reach)
        self._camera = camera_path(rng, num_frames, self._reach)
        sheet = (height + _SPARE_PX, width + _SPARE_PX, 3)
        self._noise = _SENSOR_NOISE * rng.standard_normal(sheet, dtype=np.float32)
        self._things: list[_Thing] = []
        for class_name in class_names:
            self._add(rng, class_name, num_frames)

    def frame(self, index: int) -> RenderedFrame:
        """Draw one frame."""
        image = self._background(self._ground, index)
        for thing in self._things:
            affine = thing.path.affine(index, thing.sprite.centre)
            draw(thing.sprite, image, affine, shadow_px=0.07 * thing.diameter_px)
        rng = np.random.default_rng([*self._seed, index + 1])  # a 0 would not count
        degradation = {}
        cover = np.zeros((self._height, self._width), np.float32)
        for burst in self._bursts:
            severity = burst.severity(index)
            if severity and burst.kind == "occlusion":
                cover = self._occluders(burst, severity, index)
                image = self._lay_over(image, cover, index)
            elif severity:
                image = degrade(rng, image, burst, severity)
            if severity:
                degradation[burst.kind] = severity
        objects = self._visible_objects(index, cover >= 0.5)
        return RenderedFrame(self._expose(rng, image), objects, degradation)

    def _expose(self, rng: np.random.Generator, image: Image) -> Picture:
        """Bytes with a little sensor noise, cut out of one sheet that serves all frames."""
        top, left = rng.integers(_SPARE_PX, size=2)
        noise = self._noise[top : top + self._height, left : left + self._width]
        return ((image + noise) * 255 + 0.5).clip(0, 255).astype(np.uint8)

    def _background(self, ground: Ground, index: int) -> Image:
        import cv2

        shift = -self._reach - self._camera[index]
        affine = np.column_stack([np.eye(2), shift])
        size = (self._width, self._height)
        return cv2.warpAffine(ground, affine, size, borderMode=cv2.BORDER_REFLECT_101)

    def _add(self, rng: np.random.Generator, class_name: str, num_frames: int) -> None:
        for _ in range(_ATTEMPTS):
            thing = self._random_thing(rng, class_name, num_frames)
            if self._all_seen_clearly([*self._things, thing]):
                self._things.append(thing)
                return

    def _random_thing(self, rng: np.random.Generator, class_name: str, num_frames: int) -> _Thing:
        diameter = self._height * np.exp(rng.uniform(*np.log(DIAMETERS)))
        sprite = make_sprite(rng, OBJECT_CLASSES[class_name], diameter)
        path = object_path(rng, num_frames, self._height, self._width, diameter)
        masks = [
            footprint(sprite, path.affine(index, sprite.centre), self._height, self._width)
            for index in range(num_frames)
        ]
        return _Thing(class_name, sprite, path, diameter, masks)

    def _all_seen_clearly(self, things: list[_Thing]) -> bool:
        num_frames = len(things[0].masks)
        clear = np.zeros(len(things), int)
        for index in range(num_frames):
            if any(burst.severity(index) for burst in self._bursts):
                continue
            for track, mask in enumerate(_visible_masks(things, index)):
                seen = _seen(track, things[track], mask, index)
                clear[track] += seen is not None and not seen.occluded
        return bool((clear >= CLEAR_FRAMES * num_frames).all())

    def _visible_objects(self, index: int, cover: Mask) -> list[VisibleObject]:
        masks = _visible_masks(self._things, index)
        seen = (
            _seen(track, thing, mask & ~cover, index)
            for track, (thing, mask) in enumerate(zip(self._things, masks, strict=True))
        )
        return [item for item in seen if item is not None]

    def _occluders(self, burst: Burst, severity: float, index: int) -> Cover:
        """Opacity of a bush before each object, hiding up to three quarters of its width."""
        import cv2

        cover = np.zeros((self._height, self._width), np.uint8)
        direction = np.array([np.cos(burst.angle), np.sin(burst.angle)])
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        for thing in self._things:
            diameter = thing.diameter_px * thing.path.scales[index]
            hidden, radius = 0.25 + 0.5 * severity, 0.65 * diameter
            distance = radius + (0.5 - hidden) * diameter
            leaves = 1 + 0.06 * np.sin(5 * turn + burst.angle) + 0.04 * np.sin(11 * turn)
            centre = thing.path.centres[index] + distance * direction
            points = centre + radius * leaves[:, None] * circle
            fixed = (points * 16).round().astype(np.int32)
            cv2.fillPoly(cover, [fixed], 255, cv2.LINE_AA, 4)
        return cv2.GaussianBlur(cover, (0, 0), 0.7).astype(np.float32) / 255

    def _lay_over(self, image: Image, cover: Cover, index: int) -> Image:
        """Another part of the ground, turned round, where `cover` is opaque."""
        import cv2

        shadow = 0.35 * cv2.GaussianBlur(cover, (0, 0), 3.0)[..., None]
        front = self._background(np.ascontiguousarray(self._ground[::-1, ::-1]), index)
        opacity = cover[..., None]
        return image * (1 - shadow) * (1 - opacity) + front * opacity


def _visible_masks(things: list[_Thing], index: int) -> list[Mask]:
    """What each object shows in a frame; later objects are nearer and hide earlier ones."""
    visible: list[Mask] = []
    for place, thing in enumerate(things):
        mask = thing.masks[index].copy()
        for nearer in things[place + 1 :]:
            mask &= ~nearer.masks[index]
        visible.append(mask)
    return visible


def _seen(track: int, thing: _Thing, visible: Mask, index: int) -> VisibleObject | None:
    num_pixels = int(visible.sum())
    whole = thing.sprite.area_px * thing.path.scales[index] ** 2 * thing.path.squash
    if num_pixels < MIN_VISIBLE * whole:
        return None
    columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if min(right - left, bottom - top) < MIN_SIDE_PX:
        return None
    return VisibleObject(
        track,
        thing.class_name,
        (int(left), int(top), int(right), int(bottom)),
        occluded=num_pixels < OCCLUDED_BELOW * int(thing.masks[index].sum()),
    )
