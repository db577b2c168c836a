"""A video of objects that move over a panning landscape and occlude one another.

Everything random is drawn when the scene is created, so frames can be drawn in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from sparsevod_core.prepare.degradations import (
    CLEAR_FRAMES,
    Burst,
    Scale,
    degrade,
    schedule_bursts,
)
from sparsevod_core.prepare.synthetic.classes import OBJECT_CLASSES
from sparsevod_core.prepare.synthetic.landscape import landscape
from sparsevod_core.prepare.synthetic.paths import ObjectPath, camera_path, object_path
from sparsevod_core.prepare.synthetic.sprite import Sprite, draw, footprint, make_sprite

Mask = Bool[np.ndarray, "height width"]
Cover = Float32[np.ndarray, "height width"]
Pixels = UInt8[np.ndarray, "height width 3"]
Image = Float32[np.ndarray, "height width 3"]
Ground = Float32[np.ndarray, "rows columns 3"]  # larger than a frame, for the camera to pan over

MIN_VISIBLE = 0.12
"""Smallest visible fraction of an object that has a box."""
MIN_SIDE_PX = 4
"""Smallest width and height of the visible part of an object that has a box."""
OCCLUDED_BELOW = 0.6
"""An object is `occluded` if a smaller fraction of its part within the frame is visible."""

DIAMETERS = (0.2, 0.5)
"""Smallest and largest diameter as a fraction of the frame's height, at scale 1."""
_ATTEMPTS = 20
_SENSOR_NOISE = 0.008
_SPARE_PX = 64


@dataclass(frozen=True, slots=True)
class VisibleObject:
    """Visible part of an object in a frame.

    Attributes:
        track: Number of the object in its video, from 0.
        class_name: One of `OBJECT_CLASSES`.
        box_xyxy: Edges of the visible part in integer pixels; right and bottom are exclusive.
        occluded: See `OCCLUDED_BELOW`.
    """

    track: int
    class_name: str
    box_xyxy: tuple[int, int, int, int]
    occluded: bool


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """Pixels, objects, and severity by kind of degradation (empty for a clean frame)."""

    image: Pixels
    objects: list[VisibleObject]
    degradation: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Object:
    """An object of the scene, with the mask that it would have in each frame without others."""

    class_name: str
    sprite: Sprite
    path: ObjectPath
    diameter_px: float
    masks: list[Mask]


class Scene:
    """One rendered video.

    Args:
        seed: Numbers that identify the video; the same numbers give the same pixels.
        class_names: Class of each object, from `OBJECT_CLASSES`, farthest first. An object is
            omitted if no path is found on which all objects are clearly visible.
        height, width: Size of a frame in pixels.
        degraded_share: Largest fraction of the frames that is degraded.
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
        self._objects: list[_Object] = []
        for class_name in class_names:
            self._add(rng, class_name, num_frames)

    def frame(self, index: int) -> RenderedFrame:
        """Draw one frame."""
        image = self._background(self._ground, index)
        for item in self._objects:
            affine = item.path.affine(index, item.sprite.center)
            draw(item.sprite, image, affine, shadow_px=0.07 * item.diameter_px)
        rng = np.random.default_rng([*self._seed, index + 1])  # a trailing 0 has no effect
        degradation = {}
        cover = np.zeros((self._height, self._width), np.float32)
        for burst in self._bursts:
            severity = burst.severity(index)
            if severity and burst.kind == "occlusion":
                cover = self._occluders(burst, severity, index)
                image = self._lay_over(image, cover, index)
            elif severity:
                image = degrade(rng, image, burst, severity, Scale(self._width))
            if severity:
                degradation[burst.kind] = severity
        objects = self._visible_objects(index, cover >= 0.5)
        return RenderedFrame(self._expose(rng, image), objects, degradation)

    def _expose(self, rng: np.random.Generator, image: Image) -> Pixels:
        """Return uint8 pixels with some sensor noise, cropped from one sheet for all frames."""
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
            item = self._random_object(rng, class_name, num_frames)
            if self._all_clearly_visible([*self._objects, item]):
                self._objects.append(item)
                return

    def _random_object(self, rng: np.random.Generator, class_name: str, num_frames: int) -> _Object:
        diameter = self._height * np.exp(rng.uniform(*np.log(DIAMETERS)))
        sprite = make_sprite(rng, OBJECT_CLASSES[class_name], diameter)
        path = object_path(rng, num_frames, self._height, self._width, diameter)
        masks = [
            footprint(sprite, path.affine(index, sprite.center), self._height, self._width)
            for index in range(num_frames)
        ]
        return _Object(class_name, sprite, path, diameter, masks)

    def _all_clearly_visible(self, objects: list[_Object]) -> bool:
        num_frames = len(objects[0].masks)
        clear = np.zeros(len(objects), int)
        for index in range(num_frames):
            if any(burst.severity(index) for burst in self._bursts):
                continue
            for track, mask in enumerate(_visible_masks(objects, index)):
                part = _visible_part(track, objects[track], mask, index)
                clear[track] += part is not None and not part.occluded
        return bool((clear >= CLEAR_FRAMES * num_frames).all())

    def _visible_objects(self, index: int, cover: Mask) -> list[VisibleObject]:
        masks = _visible_masks(self._objects, index)
        parts = (
            _visible_part(track, item, mask & ~cover, index)
            for track, (item, mask) in enumerate(zip(self._objects, masks, strict=True))
        )
        return [part for part in parts if part is not None]

    def _occluders(self, burst: Burst, severity: float, index: int) -> Cover:
        """Return the opacity of a bush over each object that hides up to 3/4 of its width."""
        import cv2

        cover = np.zeros((self._height, self._width), np.uint8)
        direction = np.array([np.cos(burst.angle), np.sin(burst.angle)])
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        for item in self._objects:
            diameter = item.diameter_px * item.path.scales[index]
            hidden, radius = 0.25 + 0.5 * severity, 0.65 * diameter
            distance = radius + (0.5 - hidden) * diameter
            leaves = 1 + 0.06 * np.sin(5 * turn + burst.angle) + 0.04 * np.sin(11 * turn)
            center = item.path.centers[index] + distance * direction
            points = center + radius * leaves[:, None] * circle
            fixed = (points * 16).round().astype(np.int32)
            cv2.fillPoly(cover, [fixed], 255, cv2.LINE_AA, 4)
        return cv2.GaussianBlur(cover, (0, 0), 0.7).astype(np.float32) / 255

    def _lay_over(self, image: Image, cover: Cover, index: int) -> Image:
        """Draw another part of the ground, rotated by 180 degrees, where `cover` is opaque."""
        import cv2

        shadow = 0.35 * cv2.GaussianBlur(cover, (0, 0), 3.0)[..., None]
        front = self._background(np.ascontiguousarray(self._ground[::-1, ::-1]), index)
        opacity = cover[..., None]
        return image * (1 - shadow) * (1 - opacity) + front * opacity


def _visible_masks(objects: list[_Object], index: int) -> list[Mask]:
    """Return the visible mask of each object in a frame; later objects occlude earlier ones."""
    visible: list[Mask] = []
    for place, item in enumerate(objects):
        mask = item.masks[index].copy()
        for nearer in objects[place + 1 :]:
            mask &= ~nearer.masks[index]
        visible.append(mask)
    return visible


def _visible_part(track: int, item: _Object, visible: Mask, index: int) -> VisibleObject | None:
    num_pixels = int(visible.sum())
    whole = item.sprite.area_px * item.path.scales[index] ** 2 * item.path.squash
    if num_pixels < MIN_VISIBLE * whole:
        return None
    columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    if min(right - left, bottom - top) < MIN_SIDE_PX:
        return None
    return VisibleObject(
        track,
        item.class_name,
        (int(left), int(top), int(right), int(bottom)),
        occluded=num_pixels < OCCLUDED_BELOW * int(item.masks[index].sum()),
    )
