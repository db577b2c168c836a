"""Feature maps computed in tiles compared with entire maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparsevod_core.config import load_config
from sparsevod_core.fast.backbone import FoldedBackbone
from sparsevod_core.fast.pyramid import LazyPyramid
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.pyramid import WholePyramid

IMAGES = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["none", "layer"])
def detector(request):
    torch.manual_seed(0)
    overrides = ["model.num_classes=2", f"model.map_norm={request.param}"]
    return build_detector(load_config("tiny", overrides=overrides).model).eval()


SIZES = torch.tensor([IMAGES.shape[-2:]] * 2)


def lazy(detector, kind=LazyPyramid):
    whole = kind is WholePyramid
    backbone = FoldedBackbone(detector.backbone, torch.float32, fuse=None, top_down=whole)
    layers = () if whole else (backbone.layers,)
    return kind(*layers, backbone(IMAGES), SIZES, detector.roi_align)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [LazyPyramid, WholePyramid])
def test_levels_are_the_backbones(detector, kind) -> None:
    pyramid = lazy(detector, kind)
    for number, level in enumerate(detector.backbone(IMAGES)):
        torch.testing.assert_close(pyramid.level(number), level, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [LazyPyramid, WholePyramid])
def test_roi_features_are_those_of_the_whole_maps(detector, kind) -> None:
    generator = torch.Generator().manual_seed(1)
    plain = WholePyramid(detector.backbone(IMAGES), SIZES, detector.roi_align)
    pyramid = lazy(detector, kind)
    for scale in (20, 100, 300):  # boxes of all levels; later ones reuse tiles of earlier ones
        corner, size = torch.rand(2, 2, 9, 2, generator=generator)
        corner = corner * 260 - 30  # some extend outside the image
        boxes_xyxy = torch.cat([corner, corner + size * scale], dim=-1)
        torch.testing.assert_close(
            pyramid.pool(boxes_xyxy), plain.pool(boxes_xyxy), atol=1e-4, rtol=1e-4
        )


@torch.inference_mode()
def test_only_what_a_box_reads_is_ready(detector) -> None:
    pyramid = lazy(detector)
    pyramid.pool(torch.tensor([[[4.0, 4.0, 20.0, 24.0]], [[160.0, 128.0, 200.0, 150.0]]]))
    fine, *coarse = pyramid._is_ready
    assert fine[0].nonzero().tolist() == [[0, 0]]  # a tile of P2 covers 32 pixels
    assert fine[1].nonzero().tolist() == [[3, 4], [3, 5], [3, 6], [4, 4], [4, 5], [4, 6]]
    assert not any(level.any() for level in coarse)


@torch.inference_mode()
def test_batch_norms_are_in_the_convolutions() -> None:
    torch.manual_seed(0)
    backbone = build_detector(load_config("r50", overrides=["model.num_classes=2"]).model).backbone
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.2)
    backbone.eval()
    folded = FoldedBackbone(backbone, torch.float32, fuse=None, top_down=False)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    images = IMAGES[:1, :, :96, :128]
    features = backbone.stem(images)
    for found, stage in zip(folded(images), backbone.stages, strict=True):
        features = stage(features)
        scale = features.abs().max()
        torch.testing.assert_close(found / scale, features / scale, atol=1e-5, rtol=1e-4)
