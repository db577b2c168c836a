"""Size, flip and padding of frames: the same sizes in training and inference, one draw a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as tv


def resized_size(height: int, width: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width with the short side at `short_side`, the long side at most `long_side`.

    Rounded as in MMDetection's `rescale_size`, so that its checkpoints see the sizes they know.
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_image(image: UInt8[Tensor, "3 H W"], size: tuple[int, int]) -> UInt8[Tensor, "3 h w"]:
    """The image at `size` (height, width); bilinear, and antialiased where it shrinks."""
    return tv.resize(image, list(size), antialias=True)


def pad_to_multiple(
    images: Sequence[UInt8[Tensor, "3 _ _"]], multiple: int = 32
) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
    """A batch of images of any sizes, black to the right and below, and their own (height, width).

    The batch is as large as its largest image, rounded up to `multiple` pixels.
    """
    sizes = torch.tensor([image.shape[1:] for image in images])
    height, width = ((sizes.amax(dim=0) + multiple - 1) // multiple * multiple).tolist()
    batch = images[0].new_zeros((len(images), 3, height, width))
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch, sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipAugmentation:
    """Scales a training clip and flips it at random, one draw for target and supports.

    Attributes:
        short_side: pixels that the short side is scaled to.
        long_side: most pixels that the long side may get.
        flip: probability of a horizontal flip.
    """

    short_side: int
    long_side: int
    flip: float

    def __call__(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        boxes_xyxy: Float[Tensor, "M 4"],
        generator: torch.Generator,
    ) -> tuple[UInt8[Tensor, "F 3 h w"], Float[Tensor, "M 4"]]:
        """The clip's F frames at one size, and the boxes of the first of them to match.

        The aspect ratio is kept up to rounding; boxes follow the exact ratio of each axis. Frames
        of another size than the first, which a video rarely has, are brought to the same size.
        """
        height, width = images[0].shape[:2]
        new_height, new_width = resized_size(height, width, self.short_side, self.long_side)
        clip = torch.stack(
            [
                resize_image(torch.from_numpy(image).permute(2, 0, 1), (new_height, new_width))
                for image in images
            ]
        )
        ratio_x, ratio_y = new_width / width, new_height / height
        boxes_xyxy = boxes_xyxy * boxes_xyxy.new_tensor([ratio_x, ratio_y, ratio_x, ratio_y])
        if torch.rand((), generator=generator) < self.flip:
            clip = clip.flip(-1)
            left, top, right, bottom = boxes_xyxy.unbind(-1)
            boxes_xyxy = torch.stack([new_width - right, top, new_width - left, bottom], dim=-1)
        return clip, boxes_xyxy
