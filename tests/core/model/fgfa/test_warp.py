"""Warping of maps along optical flow, by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sparsevod_core.model.fgfa.warp import warp


def ramp(height, width):
    """Return a map whose two channels are the column and the line of each position."""
    lines, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, lines])[None].float()


def test_a_map_is_sampled_where_the_flow_leads():
    maps = ramp(4, 5)
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0], flow[:, 1] = 24.0, -8.0  # 1.5 positions to the right, half a position up
    columns = ((maps[:, 0] + 1.5) * 4 / 5).clamp(0, 4)
    lines = ((maps[:, 1] - 0.5) * 3 / 4).clamp(0, 3)
    warped = warp(maps, flow, 16)
    torch.testing.assert_close(warped, torch.stack([columns, lines], dim=1))


def test_flow_upsampled_to_the_image_first_gives_the_same():
    torch.manual_seed(0)
    maps, flow = torch.randn(2, 3, 4, 6), torch.randn(2, 2, 8, 12) * 40
    image_flow = F.interpolate(flow, scale_factor=8, mode="bilinear")
    torch.testing.assert_close(
        warp(maps, flow, 16), warp(maps, image_flow, 16), atol=1e-4, rtol=1e-4
    )


def test_narrow_maps_are_sampled_at_exact_positions():
    torch.manual_seed(0)
    maps, flow = torch.randn(1, 3, 8, 60).bfloat16(), torch.randn(1, 2, 16, 120) * 8
    wide = warp(maps.float(), flow, 16)
    assert torch.equal(warp(maps, flow, 16), wide.bfloat16())
