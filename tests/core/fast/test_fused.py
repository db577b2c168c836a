"""Fused layers compared with the layers that they replace."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from sparsevod_core.fast.backbone import _fold
from sparsevod_core.fast.fused import BiasActConv2d, fuse_blocks
from sparsevod_core.fast.onednn import PackedConv2d, PackedLinear, can_pack

pytestmark = pytest.mark.skipif(
    not can_pack(torch.float32), reason="this torch has no fused convolutions"
)


FUSED = [PackedConv2d, BiasActConv2d]


@torch.inference_mode()
@pytest.mark.parametrize("fuse", FUSED)
@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_are_the_same_and_leave_the_stages_input_alone(stride: int, fuse) -> None:
    torch.manual_seed(0)
    shortcut = nn.Sequential(nn.Conv2d(32, 64, 1, stride, bias=False), nn.BatchNorm2d(64))
    stage = nn.Sequential(Bottleneck(32, 16, stride, shortcut), Bottleneck(64, 16)).eval()
    _fold(stage)
    stage = stage.to(memory_format=torch.channels_last)
    fused = fuse_blocks(stage, fuse)
    for size in (16, 24):  # weights are packed for each size
        maps = torch.randn(1, 32, size, size).to(memory_format=torch.channels_last)
        before = maps.clone()
        torch.testing.assert_close(fused(maps), stage(maps), atol=1e-5, rtol=1e-4)
        assert torch.equal(maps, before)


@torch.inference_mode()
@pytest.mark.parametrize("fuse", FUSED)
def test_a_first_block_without_shortcut_layers_does_not_write_over_its_input(fuse) -> None:
    stage = nn.Sequential(Bottleneck(64, 16)).eval()
    _fold(stage)
    fused = fuse_blocks(stage.to(memory_format=torch.channels_last), fuse)
    maps = torch.randn(1, 64, 8, 8).to(memory_format=torch.channels_last)
    before = maps.clone()
    fused(maps)
    assert torch.equal(maps, before)


@torch.inference_mode()
def test_frames_of_many_sizes_do_not_fill_the_memory() -> None:
    stage = nn.Sequential(Bottleneck(64, 16)).eval()
    _fold(stage)
    (block,) = fuse_blocks(stage.to(memory_format=torch.channels_last), PackedConv2d)
    packed = PackedLinear(nn.Linear(8, 8))
    for size in range(4, 24):
        block(torch.randn(1, 64, size, size).to(memory_format=torch.channels_last))
        packed(torch.randn(size, 8))
    assert len(block._spatial._packed) == len(packed._packed) == 4


@torch.inference_mode()
def test_a_packed_layer_is_the_same_for_any_number_of_rows() -> None:
    linear = nn.Linear(64, 96).bfloat16()
    packed = PackedLinear(linear)
    for count in (1, 7, 100):
        rows = torch.randn(count, 64).bfloat16()
        torch.testing.assert_close(packed(rows), linear(rows), atol=0.02, rtol=0.02)


def test_other_blocks_stay_as_they_are() -> None:
    stage = nn.Sequential(BasicBlock(8, 8))
    assert fuse_blocks(stage, PackedConv2d) is stage


@torch.inference_mode()
def test_a_coarser_map_is_upsampled_on_the_way() -> None:
    conv = nn.Conv2d(6, 5, 1).to(memory_format=torch.channels_last)
    maps = torch.randn(2, 6, 4, 6).to(memory_format=torch.channels_last)
    coarse = torch.randn(2, 5, 2, 3)
    right = conv(maps) + nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")
    torch.testing.assert_close(BiasActConv2d(conv, False)(maps, coarse), right)
