"""MMTracking's checkpoints: inferred settings, classes, refusals, and initialization."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsevod_core.checkpoint import Checkpoint, initialize_from, load_checkpoint, load_detector
from sparsevod_core.checkpoint.foreign import from_foreign
from sparsevod_core.checkpoint.foreign.classes import IMAGENET_VID_CATEGORIES
from sparsevod_core.class_lists.coco import COCO_CATEGORIES
from sparsevod_core.config import load_config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.structures import Category

Weights = dict[str, Tensor]
KEYS = Path(__file__).parents[2] / "fixtures" / "mmtracking_keys"
HEAD = "detector.roi_head.bbox_head."


def weights_of(system: str, backbone: str = "r50") -> Weights:
    """Return the weights of a released model, which take no memory: each is one repeated number."""
    weights = {}
    for part in (backbone, system):
        for line in (KEYS / f"{part}.txt").read_text().splitlines():
            name, shape = line.split()
            sizes = [] if shape == "scalar" else [int(size) for size in shape.split("x")]
            dtype = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
            weights[name] = torch.full((), len(weights) % 7, dtype=dtype).expand(sizes)
    return weights


def without(weights: Weights, *parts: str) -> Weights:
    return {n: v for n, v in weights.items() if not any(part in n for part in parts)}


def with_classes(weights: Weights, count: int) -> Weights:
    """Return the weights of a model with `count` classes."""
    rows = {"fc_cls": count + 1, "fc_reg": 4 * count}
    return weights | {
        f"{HEAD}{layer}.{part}": weights[f"{HEAD}{layer}.{part}"][:1].expand(
            number, *weights[f"{HEAD}{layer}.{part}"].shape[1:]
        )
        for layer, number in rows.items()
        for part in ("weight", "bias")
    }


def converted(weights: Weights, meta: Any = None) -> Checkpoint:
    checkpoint = from_foreign({"state_dict": weights, "meta": meta})
    assert checkpoint is not None
    return checkpoint


def assert_fits_its_config(checkpoint: Checkpoint) -> None:
    with torch.device("meta"):
        ours = build_detector(checkpoint.config.model).state_dict()
    assert {n: v.shape for n, v in checkpoint.model.items()} == {
        n: v.shape for n, v in ours.items()
    }


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["r50", "r101", "x101"])
@pytest.mark.parametrize("system", ["selsa", "troi", "fgfa"])
def test_released_models_become_the_presets_of_their_systems(system: str, backbone: str) -> None:
    checkpoint = converted(weights_of(system, backbone))
    assert checkpoint.source == "mmtracking" and checkpoint.unknown == ()
    preset = load_config(backbone, system=system)
    assert checkpoint.config == preset.replace(
        {"data.resize": "opencv", "data.val_annotations": None}
    )
    assert checkpoint.categories == IMAGENET_VID_CATEGORIES
    assert_fits_its_config(checkpoint)


def test_names_without_the_prefix_are_the_same_model() -> None:
    weights = weights_of("selsa")
    plain = {name.removeprefix("detector."): value for name, value in weights.items()}
    expected, found = converted(weights), converted(plain)
    assert found.model.keys() == expected.model.keys() and found.config == expected.config


@pytest.mark.parametrize(
    ("prefix", "title"),
    [("detector.", "MMTracking's Faster R-CNN"), ("", "MMDetection's Faster R-CNN")],
)
def test_without_aggregation_it_detects_in_single_frames(prefix: str, title: str) -> None:
    weights = without(weights_of("selsa"), ".aggregator.")
    weights = {prefix + name.removeprefix("detector."): v for name, v in weights.items()}
    checkpoint = converted(weights)
    assert checkpoint.title == title
    assert not checkpoint.config.model.uses_supports
    assert checkpoint.config.inference.supports == 0
    assert_fits_its_config(checkpoint)


def test_sizes_come_from_shapes() -> None:
    weights = weights_of("fgfa")
    narrow = {
        name: value[tuple(slice(max(size // 2, 3)) for size in value.shape)]
        if name.startswith("motion.") and "predict" not in name and "upsample" not in name
        else value
        for name, value in weights.items()
    }
    assert converted(narrow).config.model.fgfa.flow_width == 32
    weights = without(weights_of("selsa"), "shared_fcs.1.", "aggregator.1.")
    checkpoint = converted(with_classes(weights, 4))
    assert checkpoint.config.model.faster_rcnn.head_layers == 1
    assert checkpoint.config.model.num_classes == 4
    assert_fits_its_config(checkpoint)


CONFIG = """
model = dict(
    type='SELSA',
    detector=dict(
        roi_head=dict(
            bbox_roi_extractor=dict(
                type='TemporalRoIAlign',
                num_most_similar_points=3,
                num_temporal_attention_blocks=8,
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2)),
            bbox_head=dict(
                aggregator=dict(
                    type='SelsaAggregator', in_channels=1024, num_attention_blocks=8)))))
"""


def test_what_no_weight_tells_comes_from_the_configuration() -> None:
    checkpoint = converted(weights_of("troi"), {"config": CONFIG})
    model = checkpoint.config.model
    assert (model.faster_rcnn.attention_heads, model.tfe_top_k, model.tfe_blocks) == (8, 3, 8)
    assert checkpoint.assumed == {}


@pytest.mark.parametrize(
    "text",
    [None, "", 3, "num_attention_blocks=__import__('os')", CONFIG + "num_attention_blocks=4"],
)
def test_what_is_not_stated_is_reported(text: Any) -> None:
    checkpoint = converted(weights_of("selsa"), {"config": text})
    assert checkpoint.assumed == {"model.faster_rcnn.attention_heads": 16}
    assert checkpoint.config.model.faster_rcnn.attention_heads == 16


@pytest.mark.parametrize(
    ("count", "meta", "expected"),
    [
        (30, {}, IMAGENET_VID_CATEGORIES),
        (80, {}, COCO_CATEGORIES),
        (2, {"CLASSES": ("cat", "dog")}, (Category(1, "cat"), Category(2, "dog"))),
        (2, {}, (Category(1, "class 1"), Category(2, "class 2"))),
    ],
)
def test_classes(count: int, meta: Any, expected: tuple[Category, ...]) -> None:
    assert converted(with_classes(weights_of("selsa"), count), meta).categories == expected


def test_classes_in_another_order_keep_it() -> None:
    names = tuple(reversed([category.name for category in IMAGENET_VID_CATEGORIES]))
    found = converted(weights_of("selsa"), {"CLASSES": names}).categories
    assert tuple(category.name for category in found) == names


# --- files ----------------------------------------------------------------------------------------


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def test_a_file_is_loaded_whole_and_described(tmp_path: Path) -> None:
    path = tmp_path / "selsa.pth"
    weights = weights_of("selsa")
    torch.save({"state_dict": {**weights, "reid.fc.weight": torch.zeros(2)}, "meta": {}}, path)
    listener = Listener()
    detector, checkpoint = load_detector(path, reporter=listener)
    state = detector.state_dict()
    pairs = zip(checkpoint.model, weights.values(), strict=True)  # renamed in order
    assert all((state[name] == value.flatten()[0]).all() for name, value in pairs)
    assert listener.lines == [
        f"{path}: MMTracking's SELSA (r50, 30 classes); all 350 weights loaded",
        "not stated in the file and set as in the published models: "
        "model.faster_rcnn.attention_heads=16",
        "skipped 1 entries that do not belong to the detector: reid.fc.weight",
    ]


@pytest.mark.parametrize(
    ("system", "change", "expected"),
    [
        (
            "selsa",
            lambda w: without(w, "aggregator.1.ref_fc.", "layer3.5.bn2.running_var"),
            "detector.backbone.layer3.5.bn2.running_var is missing, "
            f"{HEAD}aggregator.1.ref_fc.weight is missing, "
            f"{HEAD}aggregator.1.ref_fc.bias is missing",
        ),
        (
            "fgfa",  # as in a model of Deep Feature Flow
            lambda w: without(w, "aggregator."),
            "aggregator.embed_convs.0.conv.weight is missing",
        ),
        (
            "selsa",
            lambda w: w | {"detector.roi_head.mask_head.conv.weight": torch.zeros(1)},
            "detector.roi_head.mask_head.conv.weight is unexpected",
        ),
        (
            "selsa",
            lambda w: w | {f"{HEAD}fc_reg.bias": torch.zeros(4)},
            rf"{HEAD}fc_reg.bias has shape \[4\], expected \[120\]",
        ),
        (
            "troi",
            lambda w: without(w, "shared_fcs.2."),
            r"aggregations.2.query.weight|aggregator.2.fc_embed.weight is unexpected",
        ),
        (
            "selsa",
            lambda w: without(w, "neck."),
            r"MMTracking's SELSA: expected detector.neck.convs.0.conv.weight .* got nothing",
        ),
        (
            "selsa",
            lambda w: without(w, "fc_cls."),
            rf"SELSA: expected {HEAD}fc_cls.weight with 2 dimensions, got nothing",
        ),
        (
            "selsa",
            lambda w: without(w, "layer3.4."),
            "SELSA: expected backbone ResNet-50, .* got 3-4-5-3 residual blocks",
        ),
    ],
)
def test_a_wrong_file_names_what_is_wrong(
    system: str, change: Any, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.pth"
    torch.save({"state_dict": change(weights_of(system))}, path)
    with pytest.raises(CheckpointError, match=expected) as caught:
        load_detector(path)
    assert caught.value.message.startswith(f"{path}: ")


def test_other_detectors_of_mmdetection_are_not_taken_for_these(tmp_path: Path) -> None:
    pyramid = {
        name.replace("convs.0.conv", "lateral_convs.0.conv").removeprefix("detector."): value
        for name, value in without(weights_of("selsa"), ".aggregator.").items()
    }
    torch.save({"state_dict": pyramid}, tmp_path / "fpn.pth")
    with pytest.raises(CheckpointError, match=r"Faster R-CNN: expected neck.convs.0.conv.weight"):
        load_checkpoint(tmp_path / "fpn.pth")
    cascade = {name.replace("bbox_head.", "bbox_head.0."): v for name, v in pyramid.items()}
    torch.save({"state_dict": cascade}, tmp_path / "cascade.pth")
    with pytest.raises(CheckpointError, match=r"expected a checkpoint of SparseVOD, of MMTrack"):
        load_checkpoint(tmp_path / "cascade.pth")


# --- initialization for training ------------------------------------------------------------------


def test_initialization_keeps_classes_of_the_same_name(tmp_path: Path) -> None:
    weights = weights_of("selsa")
    numbered = {
        f"{HEAD}{layer}.bias": torch.arange(1.0, count + 1)
        for layer, count in (("fc_cls", 31), ("fc_reg", 120))
    }
    path = tmp_path / "selsa.pth"
    torch.save({"state_dict": weights | numbered}, path)
    categories = (Category(1, "owl"), Category(2, "zebra"), Category(3, "airplane"))
    detector = build_detector(
        load_config("r50", system="selsa", overrides=["model.num_classes=3"]).model
    )
    report = initialize_from(detector, path, categories)
    state = detector.state_dict()
    assert state["head.class_logits.bias"].tolist() == [0, 30, 1, 31]  # the last: background
    boxes = [0, 0, 0, 0, 117, 118, 119, 120, 1, 2, 3, 4]
    assert state["head.box_deltas.bias"].tolist() == boxes
    assert report.lines() == [
        f"{path} (MMTracking's SELSA, 30 classes): 350 of 350 weights loaded",
        "newly initialized classes: owl",
    ]


def test_initialization_of_another_system(tmp_path: Path) -> None:
    path = tmp_path / "selsa.pth"
    torch.save({"state_dict": weights_of("selsa")}, path)
    detector = build_detector(load_config("r50", system="troi").model)
    report = initialize_from(detector, path, IMAGENET_VID_CATEGORIES)
    assert len(report.loaded) == 350 and report.skipped == []
    assert report.lines()[1:] == [
        "newly initialized: head, aggregations, temporal RoI features",
    ]


@pytest.mark.parametrize("prefix", ["motion.", ""])
def test_the_flow_network_of_fgfa_is_initialized(prefix: str, tmp_path: Path) -> None:
    """The file that MMTracking downloads has the flow network alone."""
    flow = {
        prefix + name.removeprefix("motion."): value + 0.5
        for name, value in weights_of("fgfa").items()
        if name.startswith("motion.")
    }
    path = tmp_path / "flownet_simple.pth"
    torch.save({"state_dict": flow, "meta": {}}, path)
    detector = build_detector(load_config("r50", system="fgfa").model)
    report = initialize_from(detector, path, IMAGENET_VID_CATEGORIES)
    state = detector.state_dict()
    loaded = [state[name].flatten()[0] for name in state if name.startswith("flow.")]
    assert sorted(loaded) == sorted(value.flatten()[0] for value in flow.values())
    assert report.lines() == [
        f"{path} (MMTracking's flow network): {len(flow)} of {len(flow)} weights loaded",
        "newly initialized: backbone, neck, RPN, head, class_logits and 2 more",
    ]
    with pytest.raises(CheckpointError, match=r"detector.backbone.conv1.weight is missing"):
        load_detector(path)
