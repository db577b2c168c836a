"""Resizing and padding of images, and augmentation of training clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from sparsevod_core.boxes import area


def resized_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return height and width with the short side at `short_side` and the long within `long_side`.

    Rounded as in MMDetection's `rescale_size`, whose checkpoints were trained on these sizes.
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_image(image: UInt8[Tensor, "3 H W"], size: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    """Resize an image to `size` (height, width), bilinear with antialiasing."""
    return tv.resize(image, list(size), antialias=True)


def resize_opencv(image: UInt8[Tensor, "3 H W"], size: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    """Resize an image as MMDetection and MMTracking do: bilinear without antialiasing, by OpenCV.

    OpenCV computes in integers. Another implementation differs by gray levels.
    """
    import cv2

    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    resized = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(resized).permute(2, 0, 1)


Resizer: TypeAlias = Callable[[Tensor, tuple[int, int]], Tensor]

RESIZERS: Mapping[str, Resizer] = {
    "antialias": resize_image,
    "opencv": resize_opencv,
}
"""How an image is resized, by the value of `data.resize`."""


def resize_images(
    images: UInt8[Tensor, "B 3 H W"], size: tuple[int, int]
) -> UInt8[Tensor, "B 3 h w"]:
    """Resize a batch as `resize_image` does, but in float32, which GPUs support.

    The results differ by at most one gray level, since `resize_image` rounds after each axis.
    """
    if images.shape[-2:] == size:
        return images
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
    resized = F.interpolate(pixels, size, mode="bilinear", antialias=True)
    return resized.round_().to(torch.uint8)


def pad_to_multiple(
    images: Sequence[UInt8[Tensor, "3 _ _"]], multiple: int
) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
    """Return a batch of images of any sizes, padded right and below with black, and their sizes.

    The batch has the size of its largest image, rounded up to `multiple` pixels. Sizes are (height,
    width).
    """
    sizes = [image.shape[1:] for image in images]
    height, width = (-(-max(sides) // multiple) * multiple for sides in zip(*sizes, strict=True))
    batch = images[0].new_zeros((len(images), 3, height, width))
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch, torch.tensor(sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipAugmentation:
    """Crops, resizes, flips and recolors all frames of a training clip in the same way.

    The paper only flips; cropping and recoloring are for small data sets.

    Attributes:
        short_side: Length of the short side after resizing, in pixels.
        long_side: Greatest length of the long side, in pixels.
        flip: Probability of a horizontal flip.
        crop: Greatest share of each side that is cropped.
        colour: Greatest relative change of brightness, contrast and saturation, and twice the
            greatest change of hue as a share of the color circle.
        resize: One of `RESIZERS`.
    """

    short_side: int
    long_side: int
    flip: float
    crop: float
    colour: float
    resize: str

    def __call__(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        boxes_xyxy: Float[Tensor, "M 4"],
        generator: torch.Generator,
    ) -> tuple[UInt8[Tensor, "F 3 h w"], Float[Tensor, "M 4"], Bool[Tensor, " M"]]:
        """Return the resized frames, the boxes of the first frame, and a mask of those to keep.

        The aspect ratio is kept up to rounding; boxes are scaled by the exact ratio of each axis.
        Frames whose size differs from the first's are resized to it. A box is kept if a third of it
        is within the crop.
        """
        height, width = images[0].shape[:2]
        top, left, kept_height, kept_width = self._window(height, width, generator)
        size = resized_size(height, width, self.short_side, self.long_side)  # the crop zooms in
        resize = RESIZERS[self.resize]
        clip = torch.stack(
            [
                resize(
                    tv.crop(
                        self._at_size(image, height, width), top, left, kept_height, kept_width
                    ),
                    size,
                )
                for image in images
            ]
        )
        window = boxes_xyxy.new_tensor([left, top, left + kept_width, top + kept_height])
        cropped = torch.cat(
            [boxes_xyxy[:, :2].maximum(window[:2]), boxes_xyxy[:, 2:].minimum(window[2:])], dim=1
        )
        sides = (cropped[:, 2:] - cropped[:, :2]).clamp(min=0)
        stays = sides.prod(1) * 3 >= area(boxes_xyxy)
        ratio = boxes_xyxy.new_tensor([size[1] / kept_width, size[0] / kept_height])
        boxes_xyxy = (cropped - window[:2].repeat(2)) * ratio.repeat(2)
        if torch.rand((), generator=generator) < self.flip:
            clip = clip.flip(-1)
            x1, y1, x2, y2 = boxes_xyxy.unbind(-1)
            boxes_xyxy = torch.stack([size[1] - x2, y1, size[1] - x1, y2], dim=-1)
        if self.colour:
            draw = (torch.rand(4, generator=generator) * 2 - 1).mul(self.colour).tolist()
            clip = tv.adjust_brightness(clip, 1 + draw[0])
            clip = tv.adjust_contrast(clip, 1 + draw[1])
            clip = tv.adjust_saturation(clip, 1 + draw[2])
            clip = tv.adjust_hue(clip, draw[3] / 2)
        return clip, boxes_xyxy, stays

    def _window(
        self, height: int, width: int, generator: torch.Generator
    ) -> tuple[int, int, int, int]:
        """Return top, left, height and width of a random crop, in pixels."""
        if self.crop == 0:
            return 0, 0, height, width
        shrink, down, right = torch.rand(3, generator=generator).tolist()
        kept_height = max(round(height * (1 - self.crop * shrink)), 1)
        kept_width = max(round(width * (1 - self.crop * shrink)), 1)
        top = round(down * (height - kept_height))
        left = round(right * (width - kept_width))
        return top, left, kept_height, kept_width

    def _at_size(
        self, image: UInt8[np.ndarray, "_ _ 3"], height: int, width: int
    ) -> UInt8[Tensor, "3 H W"]:
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        is_of_size = pixels.shape[1:] == (height, width)
        return pixels if is_of_size else RESIZERS[self.resize](pixels, (height, width))
