"""Image of an object with transparency, and how it is drawn into a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from sparsevod_core.prepare.synthetic.classes import ObjectClass, object_surface

Affine = Float[np.ndarray, "2 3"]
Image = Float32[np.ndarray, "height width 3"]

_SUPERSAMPLING = 4
_MARGIN_PX = 4


@dataclass(frozen=True, slots=True)
class Sprite:
    """Pixels of an object at its largest, in a square with a transparent margin.

    Attributes:
        color: RGB in 0..1, premultiplied by `alpha`.
        alpha: Opacity in 0..1.
        shadow: Darkness of the soft shadow below the object, in 0..1.
        area_px: Number of pixels that the entire object covers.
    """

    color: Float32[np.ndarray, "side side 3"]
    alpha: Float32[np.ndarray, "side side"]
    shadow: Float32[np.ndarray, "side side"]
    area_px: float

    @property
    def center(self) -> float:
        """Coordinate of the center, the same in x and y."""
        return (len(self.alpha) - 1) / 2


def make_sprite(rng: np.random.Generator, looks: ObjectClass, diameter_px: float) -> Sprite:
    """Cut an outline of the class from a surface with its pattern."""
    import cv2

    side = int(np.ceil(diameter_px)) + 2 * _MARGIN_PX
    fine = _SUPERSAMPLING * side
    mask = np.zeros((fine, fine), np.uint8)
    scale = _SUPERSAMPLING * diameter_px / 2
    contours = [
        ((c * scale + (fine - 1) / 2) * 16).round().astype(np.int32) for c in looks.outline(rng)
    ]
    cv2.fillPoly(mask, contours, 255, cv2.LINE_8, 4)
    rim = _SUPERSAMPLING * max(round(diameter_px * rng.uniform(0.0, 0.06)), 1)
    inner = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim + 1, rim + 1)))
    alpha, inner = (
        cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        for layer in (mask, inner)
    )
    rim_tint = np.float32(rng.choice([0.45, 0.7, 1.35]))
    shading = (rim_tint + (1 - rim_tint) * inner)[..., None]
    surface = object_surface(rng, side, looks.pattern, looks.hue) * shading
    color = surface.clip(0, 1) * alpha[..., None]
    shadow = 0.45 * cv2.GaussianBlur(alpha, (0, 0), max(0.04 * diameter_px, 0.8))
    return Sprite(color, alpha, shadow, float(alpha.sum()))


def draw(sprite: Sprite, image: Image, affine: Affine, shadow_px: float) -> None:
    """Draw the sprite and its shadow into `image`; `affine` maps sprite to image pixels."""
    height, width = image.shape[:2]
    below = affine.copy()
    below[:, 2] += shadow_px
    window = _window(sprite, below, height, width)
    if window is not None:
        image[window] *= 1 - _warp(sprite.shadow, below, window)[..., None]
    window = _window(sprite, affine, height, width)
    if window is not None:
        image[window] *= 1 - _warp(sprite.alpha, affine, window)[..., None]
        image[window] += _warp(sprite.color, affine, window)


def footprint(
    sprite: Sprite, affine: Affine, height: int, width: int
) -> Bool[np.ndarray, "height width"]:
    """Return the pixels of the frame that the object covers by half or more."""
    mask = np.zeros((height, width), bool)
    window = _window(sprite, affine, height, width)
    if window is not None:
        mask[window] = _warp(sprite.alpha, affine, window) >= 0.5
    return mask


def _window(sprite: Sprite, affine: Affine, height: int, width: int) -> tuple[slice, slice] | None:
    """Return rows and columns of the frame that the sprite can cover; None outside the frame."""
    end = 2 * sprite.center
    corners = affine @ np.array([[0, end, end, 0], [0, 0, end, end], [1, 1, 1, 1]])
    low = np.floor(corners.min(1)).astype(int).clip(0)
    high = (np.ceil(corners.max(1)).astype(int) + 1).clip(None, [width, height])
    if (low >= high).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])


def _warp(layer: np.ndarray, affine: Affine, window: tuple[slice, slice]) -> np.ndarray:
    import cv2

    rows, columns = window
    local = affine - [[0, 0, columns.start], [0, 0, rows.start]]
    size = (columns.stop - columns.start, rows.stop - rows.start)
    return cv2.warpAffine(layer, local, size, flags=cv2.INTER_LINEAR)
