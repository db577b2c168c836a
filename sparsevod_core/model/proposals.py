"""Learned proposals: boxes and features, the same for every image (Sparse R-CNN; paper, 3.1)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.boxes import cxcywh_to_xyxy

ProposalInit = Literal["image", "random", "grid"]


class LearnedProposals(nn.Module):
    """N boxes `cxcywh` in [0, 1] of the image (without a sigmoid) and N features of C channels."""

    def __init__(self, *, num_proposals: int, channels: int, init: ProposalInit) -> None:
        super().__init__()
        self.boxes_cxcywh = nn.Parameter(initial_boxes(num_proposals, init))
        self.features = nn.Parameter(torch.randn(num_proposals, channels))

    def forward(
        self, image_sizes: Int[Tensor, "B 2"]
    ) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N C"]]:
        """Return boxes `xyxy` in pixels of each unpadded image, and proposal features."""
        scale = image_sizes.flip(-1).repeat(1, 2).to(self.boxes_cxcywh)  # [B, 4] = w h w h
        boxes_xyxy = cxcywh_to_xyxy(self.boxes_cxcywh) * scale[:, None]
        # Copies, not views: features of later stages are dense too, so that one compiled stage
        # serves all.
        return boxes_xyxy, self.features.repeat(len(image_sizes), 1, 1)


def initial_boxes(num_proposals: int, init: ProposalInit) -> Float[Tensor, "N 4"]:
    """Return the initial boxes, `cxcywh` in [0, 1].

    Args:
        init: `image`: each box is the entire image, as in the reference. `random`: uniform centers
            and sizes. `grid`: centers on a regular grid, each box twice the size of its cell, so
            that neighbors overlap.
    """
    if init == "image":
        return torch.tensor([0.5, 0.5, 1.0, 1.0]).repeat(num_proposals, 1)
    if init == "random":
        centers, sizes = torch.rand(num_proposals, 4).split(2, dim=-1)
        return torch.cat([centers, 0.1 + 0.4 * sizes], dim=-1)
    columns = math.ceil(math.sqrt(num_proposals))
    rows = math.ceil(num_proposals / columns)
    index = torch.arange(num_proposals)
    cx = (index % columns + 0.5) / columns
    cy = (index // columns + 0.5) / rows
    size = torch.tensor([2 / columns, 2 / rows]).clamp(max=1).expand(num_proposals, 2)
    return torch.cat([torch.stack([cx, cy], dim=-1), size], dim=-1)
