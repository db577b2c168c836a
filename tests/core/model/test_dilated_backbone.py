"""Dilated backbone: stride, torchvision's variant, what is trained, and the neck."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from sparsevod_core.model.backbone import group_norm, resnet_parts, tiny_parts
from sparsevod_core.model.dilated_backbone import DilatedBackbone, dilate


def narrow_resnet(**settings):
    torch.manual_seed(0)
    return resnet.ResNet(
        resnet.Bottleneck, [1, 1, 1, 3], groups=2, width_per_group=4, **settings
    ).eval()


def backbone_of(parts, *, frozen_stages=0, freeze_norms=False):
    stem, stages, widths = parts
    return DilatedBackbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=6,
        frozen_stages=frozen_stages,
        freeze_norms=freeze_norms,
    )


@pytest.mark.parametrize(
    "parts", [lambda: tiny_parts(group_norm), lambda: resnet_parts(narrow_resnet())]
)
def test_the_map_has_stride_16_and_no_negative_value(parts):
    feature_map = backbone_of(parts())(torch.randn(2, 3, 48, 80))
    assert feature_map.shape == (2, 6, 3, 5)
    assert feature_map.min() >= 0 and feature_map.max() > 0


def test_dilation_1_in_the_first_block_is_torchvisions_variant():
    torchvisions = narrow_resnet(replace_stride_with_dilation=[False, False, True]).layer4
    ours = dilate(narrow_resnet().layer4, first_block=1)
    features = torch.randn(1, 1024, 6, 7)
    torch.testing.assert_close(ours(features), torchvisions(features))
    every = dilate(narrow_resnet().layer4, first_block=2)
    assert not torch.allclose(every(features), torchvisions(features), atol=1e-3)


@pytest.mark.parametrize("block", [resnet.BasicBlock, resnet.Bottleneck])
def test_every_second_position_sees_only_its_like(block):
    # If every 3x3 convolution has dilation 2, the stage acts on the even positions as the ordinary
    # stage without stride acts on a map that consists of them.
    torch.manual_seed(0)
    channels = 8 * block.expansion
    shortcut = nn.Sequential(nn.Conv2d(channels, channels, 1, stride=2), nn.BatchNorm2d(channels))
    stage = nn.Sequential(block(channels, 8, 2, shortcut), block(channels, 8)).eval()
    features = torch.randn(1, channels, 12, 10)
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            layer.stride = (1, 1)
    expected = stage(features[:, :, ::2, ::2])
    dilated = dilate(stage, first_block=2)(features)
    torch.testing.assert_close(dilated[:, :, ::2, ::2], expected)


def test_statistics_stay_and_frozen_parts_get_no_gradient():
    backbone = backbone_of(resnet_parts(narrow_resnet()), frozen_stages=2).train()
    before = backbone.stages[3][0].bn1.running_mean.clone()
    backbone(torch.randn(1, 3, 32, 32)).sum().backward()
    assert torch.equal(backbone.stages[3][0].bn1.running_mean, before)
    trained = {name for name, value in backbone.named_parameters() if value.grad is not None}
    assert not any(name.startswith(("stem.", "stages.0.")) for name in trained)
    assert {"stages.1.0.bn1.weight", "stages.3.2.conv2.weight", "neck.bias"} <= trained

    frozen = backbone_of(resnet_parts(narrow_resnet()), freeze_norms=True)
    norms = [part for part in frozen.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and not any(norm.weight.requires_grad for norm in norms)


def test_the_neck_starts_with_xavier_weights():
    neck = backbone_of(tiny_parts(group_norm)).neck
    limit = (6 / (9 * (192 + 6))) ** 0.5
    assert 0.95 * limit < neck.weight.abs().max() <= limit
    assert neck.bias.abs().max() == 0
