"""Swin and ConvNeXt as backbones: maps, norms, frozen stages, weights, dilation, export."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torchvision.models import ConvNeXt, SwinTransformer, get_model
from torchvision.models.convnext import CNBlockConfig

from sparsevod_core.config import SYSTEMS, load_config
from sparsevod_core.errors import CheckpointError, ConfigError
from sparsevod_core.fast import Plan, optimized, plan_for
from sparsevod_core.model.backbone import NormalizedStage, layer_norm_parts
from sparsevod_core.model.build import build_detector, networks
from sparsevod_core.model.dilated_backbone import DilatedBackbone, dilate
from sparsevod_core.structures import Clip

NAMES = ["swin_t", "swin_s", "swin_b", "convnext_t", "convnext_s", "convnext_b"]
SMALL = ["swin_t", "convnext_t"]


def small_swin(**settings):
    return SwinTransformer([4, 4], 12, [1, 2, 1, 2], [1, 2, 3, 4], [3, 3], **settings)


def small_convnext(**settings):
    widths = [12, 24, 48, 96]
    blocks = [CNBlockConfig(a, b, 2) for a, b in zip(widths, [*widths[1:], None], strict=True)]
    return ConvNeXt(blocks, layer_scale=0.5, **settings)


def model_config(name, **changes):
    overrides = ["model.num_classes=3", f"model.backbone={name}", "model.norm=layer"]
    config = load_config("tiny", overrides=overrides).model
    return dataclasses.replace(config, num_stages=2, support_level="p4", **changes)


@pytest.fixture(params=SMALL)
def detector(request, monkeypatch):
    """A detector with a narrow network of the same kind instead of torchvision's smallest."""
    torch.manual_seed(0)
    small = small_swin if request.param == "swin_t" else small_convnext
    monkeypatch.setattr(
        networks, "get_model", lambda name, weights: small(stochastic_depth_prob=0.5)
    )
    detector = build_detector(model_config(request.param, frozen_stages=2))
    for stage in detector.stages:
        nn.init.normal_(stage.aggregation.output.weight, std=0.05)
    return detector


def random_clip(batch=1, supports=2):
    images = torch.randint(0, 256, (batch * (1 + supports), 3, 64, 96), dtype=torch.uint8)
    return Clip(
        images[:batch],
        images[batch:].unflatten(0, (batch, supports)),
        torch.tensor([[60, 96]] * batch),
    )


@pytest.mark.parametrize("name", NAMES)
def test_maps_have_the_strides_of_a_resnet(name):
    with torch.device("meta"):  # checks shapes, without the time to initialize and run
        backbone = build_detector(model_config(name)).backbone
        maps = backbone.stage_maps(torch.zeros(1, 3, 96, 160))
    width = 128 if name.endswith("_b") else 96
    sizes = [(24, 40), (12, 20), (6, 10), (3, 5)]
    expected = [(1, width * 2**number, *size) for number, size in enumerate(sizes)]
    assert [tuple(one.shape) for one in maps] == expected


@pytest.mark.parametrize("network", [small_swin, small_convnext])
@torch.no_grad()
def test_the_parts_are_torchvisions_network(network):
    torch.manual_seed(0)
    whole = network().eval()
    images = torch.randn(2, 3, 72, 88)
    expected = whole.features(images)
    if network is small_swin:
        expected = expected.permute(0, 3, 1, 2)
    stem, stages, widths = layer_norm_parts(whole)
    features = stem(images)
    for stage, width in zip(stages, widths, strict=True):
        features = stage(features)
        assert features.shape[1] == width
    assert torch.equal(features, expected)


@torch.no_grad()
def test_the_pyramid_reads_normalized_maps(detector):
    detector.eval()
    images = torch.randn(1, 3, 64, 96)
    backbone = detector.backbone
    raw = backbone.stages[0](backbone.stem(images))
    first = backbone.stage_maps(images)[0]
    torch.testing.assert_close(
        first, nn.functional.layer_norm(raw.movedim(1, -1), [12]).movedim(-1, 1)
    )
    second = backbone.stages[1](raw)  # the next stage reads the map itself
    torch.testing.assert_close(backbone.stage_maps(images)[1], backbone.stages[1].norm(second))


def test_a_training_step_reaches_everything_but_frozen_stages(detector):
    detector.train()
    output = detector(random_clip())
    (output.logits.square().sum() + output.boxes_xyxy.square().sum()).backward()
    without = [name for name, value in detector.named_parameters() if value.grad is None]
    assert without and all(
        name.startswith(("backbone.stem.", "backbone.stages.0.")) for name in without
    )
    trained = [value for value in detector.backbone.parameters() if value.requires_grad]
    assert trained and all(value.grad.isfinite().all() for value in trained)
    assert detector.backbone.stages[1].training
    assert not any(part.training for part in detector.backbone.stages[0].modules())


PLANS = {
    "cpu": plan_for(torch.device("cpu"), "fp32"),
    "lazy pyramid": Plan(lazy_pyramid=True),
    "one pass after a convolution": Plan(fused="triton"),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@torch.inference_mode()
def test_the_optimized_detector_finds_the_same(detector, plan):
    torch.manual_seed(1)
    detector.eval()
    clip = random_clip()
    outputs = []
    for model in (detector, optimized(detector, plan)):
        memory = model.remember(model.encode(clip.supports[0], clip.image_sizes.repeat(2, 1)))
        outputs.append(model.detect(model.encode(clip.images, clip.image_sizes), memory))
    plain, fast = outputs
    torch.testing.assert_close(fast.logits, plain.logits, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(fast.boxes_xyxy, plain.boxes_xyxy, atol=5e-2, rtol=1e-3)


@torch.inference_mode()
def test_bf16_stays_close(detector):
    detector.eval()
    images = torch.randn(1, 3, 64, 96)
    fast = optimized(detector, Plan(precision="bf16"))
    for narrow, level in zip(fast.backbone(images), detector.backbone(images), strict=True):
        assert (narrow.float() - level).norm() < 0.03 * level.norm()


@torch.inference_mode()
def test_the_exported_graph_computes_the_same(detector):
    backbone = detector.eval().backbone
    images = torch.randn(1, 3, 64, 96)
    program = torch.export.export(backbone, (images,), strict=False)
    for found, expected in zip(program.module()(images), backbone(images), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", SMALL)
def test_weights_of_a_file_are_loaded(tmp_path, name):
    torch.manual_seed(0)
    network = get_model(networks.TORCHVISION_NAMES[name])
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    detector = build_detector(model_config(name), backbone_weights=str(tmp_path / "whole.pth"))
    backbone = detector.backbone
    layers = [backbone.stem, *(stage.layers for stage in backbone.stages)]
    ours = [value for part in layers for value in part.parameters()]
    assert all(map(torch.equal, ours, network.features.parameters()))
    assert len(ours) == len(list(network.features.parameters()))


def test_a_file_of_another_network_is_refused(tmp_path, detector):
    torch.save(
        small_swin().state_dict() | {"features.9.weight": torch.zeros(1)}, tmp_path / "a.pth"
    )
    with pytest.raises(CheckpointError, match="not the weights of torchvision's"):
        build_detector(model_config("swin_t"), backbone_weights=str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("backbone", "norm", "fitting"),
    [
        ("swin_t", "batch", "layer"),
        ("convnext_b", "group", "layer"),
        ("r50", "layer", "batch, batch_frozen or group"),
    ],
)
def test_norms_that_do_not_fit_are_refused(backbone, norm, fitting):
    overrides = [f"model.backbone={backbone}", f"model.norm={norm}", "model.frozen_stages=0"]
    with pytest.raises(ConfigError, match=f"model.norm={norm}: expected {fitting} for") as caught:
        load_config(overrides=overrides)
    assert f"model.norm={fitting.split(',')[0]}" in caught.value.hint


@pytest.mark.parametrize("network", [small_swin, small_convnext])
@torch.no_grad()
def test_a_dilated_stage_has_the_results_of_the_plain_one_on_four_grids(network):
    torch.manual_seed(0)
    _, stages, widths = layer_norm_parts(network().eval())
    features = torch.randn(2, widths[2], 10, 14)
    plain = {
        (y, x): stages[3](nn.functional.pad(features, (0, x, 0, y))[..., y:, x:])
        for y in (0, 1)
        for x in (0, 1)
    }
    names = list(stages[3].state_dict())
    dilated = dilate(stages[3], first_block=2)
    assert list(dilated.state_dict()) == names
    found = dilated(features)
    assert found.shape == (2, widths[3], 10, 14)
    for (y, x), expected in plain.items():
        torch.testing.assert_close(found[..., y::2, x::2], expected)
    assert dilated(features[..., :9, :13]).shape == (2, widths[3], 9, 13)


@torch.no_grad()
def test_a_dilated_convolution_is_the_same():
    torch.manual_seed(0)
    _, stages, widths = layer_norm_parts(small_convnext().eval())
    features = torch.randn(1, widths[2], 10, 14)
    interleaved = dilate(stages[3], first_block=2).layers
    found = interleaved(features)
    _, halving, *blocks, _ = interleaved
    halving[1].stride = 1
    features = halving(nn.functional.pad(features, (0, 1, 0, 1)))
    for block in blocks:
        block.block[0].dilation, block.block[0].padding = (2, 2), (6, 6)
        features = block(features)
    torch.testing.assert_close(found, features)


@pytest.mark.parametrize("network", [small_swin, small_convnext])
def test_the_dilated_backbone_has_one_map_of_stride_16(network):
    torch.manual_seed(0)
    stem, stages, widths = layer_norm_parts(network())
    backbone = DilatedBackbone(
        stem=stem,
        stages=stages,
        stage_channels=widths,
        channels=5,
        frozen_stages=1,
        freeze_norms=False,
    )
    assert isinstance(backbone.stages[3], NormalizedStage)
    feature_map = backbone(torch.randn(2, 3, 48, 80))
    assert feature_map.shape == (2, 5, 3, 5)
    feature_map.square().sum().backward()
    trained = [value for value in backbone.parameters() if value.requires_grad]
    assert all(value.grad is not None for value in trained)  # no norm of a map that nothing reads
    assert backbone.stages[3].norm.weight.grad.any()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("system", SYSTEMS)
def test_backbones_of_all_systems_train_every_parameter(monkeypatch, system, name):
    small = small_swin if name == "swin_t" else small_convnext
    monkeypatch.setattr(networks, "get_model", lambda name, weights: small())
    torch.manual_seed(0)
    overrides = [f"model.backbone={name}", "model.norm=layer"]
    detector = build_detector(load_config("tiny", system=system, overrides=overrides).model)
    detector.train()
    frames = detector.encode(torch.rand(2, 3, 96, 128) * 255, torch.tensor([[96, 128]] * 2))
    sum(value.square().sum() for value in differentiable(frames)).backward()
    without = [
        name
        for name, value in detector.backbone.named_parameters()
        if value.requires_grad and value.grad is None
    ]
    assert without == []


def differentiable(values):
    """Return the tensors with gradients in a dataclass, a list or the attributes of an object."""
    if isinstance(values, torch.Tensor):
        return [values] if values.requires_grad else []
    if isinstance(values, list | tuple):
        parts = values
    elif hasattr(values, "__slots__"):
        parts = [getattr(values, name) for name in values.__slots__]
    else:
        parts = vars(values).values() if hasattr(values, "__dict__") else []
    return [
        one for part in parts if not isinstance(part, nn.Module) for one in differentiable(part)
    ]
