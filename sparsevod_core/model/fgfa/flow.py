"""Optical flow between two frames: FlowNetSimple (Dosovitskiy et al., ICCV 2015).

The sizes and constants are those of MMTracking's FGFA. A flow [B, 2, h, w] is in pixels of the
(padded) image, as (x, y), and leads from a position of the target to the same point in the support
frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.model.padding import inside
from sparsevod_core.model.video_detector import Images

IMAGE_MEAN = (0.411, 0.432, 0.450)  # RGB in 0..1, of the data that FlowNet was trained on
IMAGE_SCALE = 0.5  # the frames are halved
PREDICTED_STRIDE = 4  # of the last prediction, in positions of the halved frames
PREDICTED_UNIT = 5.0  # the network predicts displacements divided by `PREDICTED_STRIDE * 5`
SLOPE = 0.1  # of LeakyReLU


class FlowNetSimple(nn.Module):
    """Optical flow of pairs of frames, at an eighth of their resolution.

    The parameters have MMTracking's names without `.conv`: `motion.conv3.1.conv.weight` there is
    `conv3.1.weight` here, `motion.predict_flow.conv.weight` is `predict_flow.weight`.

    Args:
        width: number of channels of the first convolution; 64 in the paper.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.conv1 = _convolutions(6, width, size=7)
        self.conv2 = _convolutions(width, 2 * width, size=5)
        self.conv3 = _convolutions(2 * width, 4 * width, size=5, layers=2)
        self.conv4 = _convolutions(4 * width, 8 * width, layers=2)
        self.conv5 = _convolutions(8 * width, 8 * width, layers=2)
        self.conv6 = _convolutions(8 * width, 16 * width, layers=2)
        channels = 16 * width
        for level, contracted in ((5, 8 * width), (4, 8 * width), (3, 4 * width), (2, 2 * width)):
            expanded = width * 2 ** (level - 2)
            self.add_module(f"predict_flow{level + 1}", _flow_layer(channels))
            self.add_module(f"upsample_flow{level}", _deconvolution(2, 2))
            self.add_module(f"deconv{level}", _deconvolution(channels, expanded))
            channels = contracted + expanded + 2
        self.predict_flow = _flow_layer(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.predict_flow.weight)  # without trained weights, start with no motion

    def forward(
        self, targets: Float[Tensor, "B 3 h w"], supports: Float[Tensor, "B 3 h w"]
    ) -> Float[Tensor, "B 2 _ _"]:
        """Return the flow from each target to its support frame, at an eighth of their image size.

        Args:
            targets: results of `halved`.
            supports: the same for the support frames.
        """
        contracted = self.contract(torch.cat([targets, supports], dim=1))
        features = contracted[-1]
        for level in (5, 4, 3, 2):
            features = self.expand(level, features, contracted[level - 1])
        return self.predict_flow(features) * (PREDICTED_UNIT * PREDICTED_STRIDE / IMAGE_SCALE)

    def contract(self, pairs: Float[Tensor, "B 6 h w"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the maps of `conv1` to `conv6`, each at half the resolution of the previous."""
        maps = [pairs]
        for level in range(1, 7):
            maps.append(self.get_submodule(f"conv{level}")(maps[-1]))
        return maps[1:]

    def expand(
        self, level: int, features: Float[Tensor, "B _ _ _"], contracted: Float[Tensor, "B _ h w"]
    ) -> Float[Tensor, "B _ h w"]:
        """Return the features of a level: its contracted map, and features and flow from above."""
        height, width = contracted.shape[-2:]
        flow = self.get_submodule(f"predict_flow{level + 1}")(features)
        upsampled = self.get_submodule(f"upsample_flow{level}")(flow)
        expanded = F.leaky_relu(self.get_submodule(f"deconv{level}")(features), SLOPE)
        parts = (expanded[..., :height, :width], upsampled[..., :height, :width])
        return torch.cat([contracted, *parts], dim=1)


class LeakyConv2d(nn.Conv2d):
    """Convolution followed by LeakyReLU."""

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(input), SLOPE)


def halved(images: Images, image_sizes: Int[Tensor, "B 2"]) -> Float[Tensor, "B 3 h w"]:
    """Return frames at half their size, as FlowNet reads them; the padding is zero.

    Args:
        images: RGB 0..255, padded.
        image_sizes: unpadded (height, width) of each frame in pixels.
    """
    mean = images.new_tensor(IMAGE_MEAN, dtype=torch.float32).view(3, 1, 1)
    normalized = (images / 255 - mean) * inside(image_sizes, images.shape[-2:], stride=1)[:, None]
    return F.interpolate(normalized, scale_factor=IMAGE_SCALE, mode="bilinear")


def _convolutions(before: int, after: int, *, size: int = 3, layers: int = 1) -> nn.Sequential:
    """Return convolutions of which the first, of the given size, halves the resolution."""
    first = LeakyConv2d(before, after, size, stride=2, padding=size // 2)
    others = (LeakyConv2d(after, after, 3, padding=1) for _ in range(layers - 1))
    return nn.Sequential(first, *others)


def _deconvolution(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False)


def _flow_layer(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 2, 3, padding=1, bias=False)
