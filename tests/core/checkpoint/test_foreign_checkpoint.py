"""MMDetection's and the original's checkpoints: names, inferred settings, and refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model

from sparsevod_core.checkpoint import Checkpoint, initialize_from, load_checkpoint, load_detector
from sparsevod_core.checkpoint.foreign.classes import IMAGENET_VID_CATEGORIES
from sparsevod_core.class_lists.coco import COCO_CATEGORIES
from sparsevod_core.config import ModelConfig
from sparsevod_core.errors import CheckpointError
from sparsevod_core.foreign_names.sparse_rcnn import from_mmdetection, from_original, kind_of
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import SilentReporter

Weights = dict[str, Tensor]
KEYS_FILE = Path(__file__).parents[2] / "fixtures" / "sparse_rcnn_r50_coco_keys.txt"


@pytest.fixture(scope="module")
def mmdetection_weights() -> Weights:
    """Return the 576 weights of the public R50 COCO checkpoint; tensor i is filled with i."""
    rows = [line.split("\t") for line in KEYS_FILE.read_text().splitlines()]
    weights = {}
    for i, (name, shape, dtype) in enumerate(rows):
        value = torch.tensor(i, dtype=getattr(torch, dtype.removeprefix("torch.")))
        weights[name] = value.expand([int(size) for size in re.findall(r"\d+", shape)])
    return weights


@pytest.fixture(scope="module")
def original_weights(mmdetection_weights: Weights) -> Weights:
    """Return these weights under the original's names, without `num_batches_tracked`."""
    return {
        original_name(name): value
        for name, value in mmdetection_weights.items()
        if not name.endswith("num_batches_tracked")
    }


def original_name(name: str) -> str:
    """Convert MMDetection's name to the original's, independently of the tables under test."""
    if name.startswith("roi_head."):
        for theirs, original in (
            ("roi_head.bbox_head.", "head.head_series."),
            ("instance_interactive_conv_norm", "norm2"),
            ("instance_interactive_conv.norm_in", "inst_interact.norm1"),
            ("instance_interactive_conv.norm_out", "inst_interact.norm2"),
            ("instance_interactive_conv.fc_layer", "inst_interact.out_layer"),
            ("instance_interactive_conv.fc_norm", "inst_interact.norm3"),
            ("instance_interactive_conv", "inst_interact"),
            ("attention_norm", "norm1"),
            ("attention.attn", "self_attn"),
            ("ffn_norm", "norm3"),
            ("ffn.layers.0.0", "linear1"),
            ("ffn.layers.1", "linear2"),
            ("cls_fcs", "cls_module"),
            ("reg_fcs", "reg_module"),
            ("fc_cls", "class_logits"),
            ("fc_reg", "bboxes_delta"),
        ):
            name = name.replace(theirs, original)
        return name
    if name.startswith("rpn_head."):
        return name.removeprefix("rpn_head.").replace("init_proposal_bboxes", "init_proposal_boxes")
    level = re.match(r"neck\.(lateral|fpn)_convs\.(\d)\.conv\.(\w+)", name)
    if level:
        kind = {"lateral": "lateral", "fpn": "output"}[level[1]]
        return f"backbone.fpn_{kind}{int(level[2]) + 2}.{level[3]}"
    if name.startswith(("backbone.conv1", "backbone.bn1")):
        return name.replace("backbone.", "backbone.bottom_up.stem.").replace("bn1", "conv1.norm")
    name = re.sub(r"backbone.layer(\d)", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}", name)
    name = re.sub(r"\.bn(\d)", r".conv\1.norm", name)
    return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


# --- names ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def our_shapes() -> dict[str, list[int]]:
    with torch.device("meta"):
        config = ModelConfig(num_classes=80, tfe="off", spfa="off")
        detector = build_detector(config)
    return {name: list(value.shape) for name, value in detector.state_dict().items()}


def test_every_name_of_mmdetection_becomes_one_of_ours(
    mmdetection_weights: Weights, our_shapes: dict[str, list[int]]
) -> None:
    assert len(mmdetection_weights) == 576 and kind_of(mmdetection_weights) == "mmdetection"
    renamed = from_mmdetection(mmdetection_weights)
    assert renamed.unknown == []
    assert {name: list(value.shape) for name, value in renamed.state.items()} == our_shapes
    numbers = [int(value.flatten()[0]) for value in renamed.state.values()]
    assert sorted(numbers) == list(range(576))  # nothing lost, nothing twice


def test_both_sources_agree(
    mmdetection_weights: Weights,
    original_weights: Weights,
    our_shapes: dict[str, list[int]],
) -> None:
    """The same weights under the names of either source give the same weights under ours."""
    assert len(original_weights) == 576 - 53 and kind_of(original_weights) == "original"
    renamed = from_original(original_weights)
    assert renamed.unknown == []
    assert set(renamed.state) == set(our_shapes)
    expected = from_mmdetection(mmdetection_weights).state
    for name, value in renamed.state.items():
        if name.endswith("num_batches_tracked"):
            assert value.dtype == torch.int64 and value == 0
        else:
            assert value is expected[name], name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stages.11.box_branch.12.weight", "roi_head.bbox_head.11.reg_fcs.12.weight"),
        ("backbone.stages.2.35.bn2.bias", "backbone.layer3.35.bn2.bias"),
        (
            "stages.0.self_attention.in_proj_weight",
            "roi_head.bbox_head.0.attention.attn.in_proj_weight",
        ),
    ],
)
def test_any_depth(ours: str, theirs: str) -> None:
    assert list(from_mmdetection({theirs: torch.zeros(1)}).state) == [ours]


def test_names_of_other_parts_are_unknown_not_renamed() -> None:
    names = [
        "data_preprocessor.mean",
        "ema_backbone_conv1_weight",
        "backbone.layer5.0.conv1.weight",
        "backbone.stem.0.weight",
        "roi_head.mask_head.0.conv_logits.weight",
        "roi_head.bbox_head.0.fc_cls.extra.weight",
        "rpn_head.init_proposal_bboxes.bias",
    ]
    renamed = from_mmdetection({name: torch.zeros(1) for name in names})
    assert renamed.unknown == names and renamed.state == {}
    names = ["pixel_mean", "criterion.empty_weight", "head.time_mlp.1.weight"]
    assert from_original({name: torch.zeros(1) for name in names}).unknown == names


def test_kind_of_needs_proposals_and_head() -> None:
    assert kind_of([]) is None
    assert kind_of(["roi_head.bbox_head.0.fc_cls.weight", "rpn_head.rpn_cls.weight"]) is None
    assert kind_of(["head.head_series.0.norm1.weight", "head.time_mlp.1.weight"]) is None


# --- files ----------------------------------------------------------------------------------------


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Save contents as another framework would, and load them."""

    def save_and_load(contents: Any) -> Checkpoint:
        torch.save(contents, tmp_path / "theirs.pth")
        return load_checkpoint(tmp_path / "theirs.pth")

    return save_and_load


def resized(weights: Weights, sizes: dict[str, list[int]]) -> Weights:
    """Return the weights, with other shapes where a pattern matches the name."""
    changed = dict(weights)
    for pattern, shape in sizes.items():
        names = [name for name in weights if re.search(pattern, name)]
        assert names, pattern
        changed.update({name: torch.tensor(0.5).expand(shape) for name in names})
    return changed


def with_classes(weights: Weights, count: int) -> Weights:
    return resized(weights, {r"fc_cls\.weight": [count, 256], r"fc_cls\.bias": [count]})


def on_backbone(weights: Weights, torchvision_name: str) -> Weights:
    """Return the weights with another backbone, under torchvision's names, as in MMDetection."""
    with torch.device("meta"):
        backbone = get_model(torchvision_name, weights=None).state_dict()
    return {n: v for n, v in weights.items() if not n.startswith("backbone.")} | {
        f"backbone.{name}": torch.tensor(0.5).expand(value.shape)
        for name, value in backbone.items()
        if not name.startswith("fc.")
    }


def assert_fits_its_config(checkpoint: Checkpoint) -> None:
    with torch.device("meta"):
        ours = build_detector(checkpoint.config.model).state_dict()
    assert {n: v.shape for n, v in checkpoint.model.items()} == {
        n: v.shape for n, v in ours.items()
    }


def test_mmdetection_detector_has_every_weight_in_its_place(
    mmdetection_weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "sparse_rcnn_r50.pth"
    extra = {"data_preprocessor.mean": torch.zeros(3)}
    torch.save({"state_dict": mmdetection_weights | extra, "meta": {"epoch": 12}}, path)
    listener = Listener()
    detector, checkpoint = load_detector(path, reporter=listener)
    assert not detector.training
    state = detector.state_dict()
    expected = from_mmdetection(mmdetection_weights).state
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert value.dtype == expected[name].dtype and (value == expected[name]).all(), name
    assert checkpoint.source == "mmdetection"
    assert checkpoint.categories == COCO_CATEGORIES
    assert checkpoint.config.model == ModelConfig(num_classes=80, tfe="off", spfa="off")
    assert checkpoint.config.inference.supports == 0
    assert (checkpoint.config.data.short_side, checkpoint.config.data.long_side) == (800, 1333)
    assert listener.lines == [
        f"{path}: MMDetection's Sparse R-CNN (r50, 6 stages, 100 proposals, 80 classes); "
        "all 576 weights loaded, no TFE and no SPFA",
        "skipped 1 entries that do not belong to the detector: data_preprocessor.mean",
    ]


def test_original_gives_the_same_weights(
    mmdetection_weights: Weights, original_weights: Weights, load: Any
) -> None:
    checkpoint = load({"model": original_weights, "iteration": 269999, "optimizer": {"state": {}}})
    assert checkpoint.source == "original" and checkpoint.unknown == ()
    assert checkpoint.categories == COCO_CATEGORIES
    assert checkpoint.config.model == ModelConfig(
        num_classes=80, tfe="off", spfa="off", norm="batch_frozen", box_decode="original"
    )
    assert_fits_its_config(checkpoint)
    for name, value in from_mmdetection(mmdetection_weights).state.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(checkpoint.model[name], value), name


@pytest.mark.parametrize(
    ("torchvision_name", "backbone"),
    [
        ("resnet101", "r101"),
        ("resnext101_32x8d", "x101_32x8d"),
        ("resnext101_64x4d", "x101_64x4d"),
    ],
)
def test_other_backbones(
    torchvision_name: str, backbone: str, mmdetection_weights: Weights, load: Any
) -> None:
    checkpoint = load({"state_dict": on_backbone(mmdetection_weights, torchvision_name)})
    assert checkpoint.config.model.backbone == backbone
    assert_fits_its_config(checkpoint)


@pytest.mark.parametrize("torchvision_name", ["resnet18", "resnet152", "resnext50_32x4d"])
def test_backbones_that_we_do_not_have(
    torchvision_name: str, mmdetection_weights: Weights, load: Any
) -> None:
    with pytest.raises(
        CheckpointError, match=r"theirs.pth: .*: expected backbone ResNet-50.* got .* residual"
    ):
        load({"state_dict": on_backbone(mmdetection_weights, torchvision_name)})


def test_other_sizes(mmdetection_weights: Weights, load: Any) -> None:
    weights = {n: v for n, v in mmdetection_weights.items() if not re.search(r"head\.[345]\.", n)}
    weights = resized(
        weights,
        {
            "init_proposal_bboxes": [300, 4],
            "init_proposal_features": [300, 256],
            r"dynamic_layer\.weight": [2 * 256 * 32, 256],
            r"dynamic_layer\.bias": [2 * 256 * 32],
            "norm_in": [32],
            r"ffn\.layers\.0\.0\.weight": [1024, 256],
            r"ffn\.layers\.0\.0\.bias": [1024],
            r"ffn\.layers\.1\.weight": [256, 1024],
        },
    )
    checkpoint = load({"state_dict": with_classes(weights, 5), "meta": {}})
    model = checkpoint.config.model
    assert (model.num_stages, model.num_proposals, model.num_classes) == (3, 300, 5)
    assert (model.dynamic_dim, model.ffn_dim) == (32, 1024)
    assert_fits_its_config(checkpoint)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "detector."])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
def test_wrappings(prefix: str, wrapper: str | None, original_weights: Weights, load: Any) -> None:
    wrapped = {prefix + name: value for name, value in original_weights.items()}
    others = {f"{prefix}pixel_mean": torch.zeros(3), "iteration": 3}
    contents = wrapped | others
    checkpoint = load(contents if wrapper is None else {wrapper: contents})
    assert set(checkpoint.unknown) == {"pixel_mean", "iteration"}
    assert_fits_its_config(checkpoint)


@pytest.mark.parametrize(
    ("count", "meta", "first", "last"),
    [
        (80, None, (1, "person"), (90, "toothbrush")),
        (30, {}, (1, "airplane"), (30, "zebra")),
        (2, {"dataset_meta": {"classes": ("cat", "dog")}}, (1, "cat"), (2, "dog")),
        (2, {"dataset_meta": {"CLASSES": ["cat", "dog"]}}, (1, "cat"), (2, "dog")),
        (2, {"CLASSES": ("cat", "dog")}, (1, "cat"), (2, "dog")),
        (2, {"CLASSES": ("cat", "dog", "cow")}, (1, "class 1"), (2, "class 2")),
        (2, {"CLASSES": "cat"}, (1, "class 1"), (2, "class 2")),
        (2, {"CLASSES": (1, 2), "dataset_meta": 3}, (1, "class 1"), (2, "class 2")),
        (80, {"CLASSES": [f"c{i}" for i in range(80)]}, (1, "c0"), (80, "c79")),
    ],
)
def test_classes_get_names(
    count: int,
    meta: Any,
    first: tuple[int, str],
    last: tuple[int, str],
    mmdetection_weights: Weights,
    load: Any,
) -> None:
    checkpoint = load({"state_dict": with_classes(mmdetection_weights, count), "meta": meta})
    categories = checkpoint.categories
    assert len(categories) == checkpoint.config.model.num_classes == count
    assert [(c.id, c.name) for c in (categories[0], categories[-1])] == [first, last]


def test_a_weight_that_is_missing(mmdetection_weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    lost = "roi_head.bbox_head.5.reg_fcs.6.weight"
    torch.save({n: v for n, v in mmdetection_weights.items() if n != lost}, path)
    with pytest.raises(CheckpointError, match=r"its shapes: stages.5.box_branch.6.weight is miss"):
        load_detector(path)


def test_sparse_rcnns_that_ours_cannot_be(
    mmdetection_weights: Weights, original_weights: Weights, load: Any
) -> None:
    with pytest.raises(CheckpointError, match="softmax loss and a background class"):
        load({"model": original_weights | {"criterion.empty_weight": torch.ones(81)}})
    more_stages = {
        name.replace("bbox_head.0.", f"bbox_head.{stage}."): value
        for stage in range(8)
        for name, value in mmdetection_weights.items()
    }
    with pytest.raises(CheckpointError, match=r"theirs.pth: model.num_stages=8: expected 1 to 6"):
        load(more_stages)
    flat = resized(mmdetection_weights, {"init_proposal_features": [25600]})
    with pytest.raises(CheckpointError, match=r"proposals.features with 2 dimensions, got shape"):
        load(flat)
    headless = {n: v for n, v in mmdetection_weights.items() if "fc_cls" not in n}
    with pytest.raises(CheckpointError, match=r"class_logits.weight with 2 dim.*, got nothing"):
        load(headless)


# --- initialization for training ------------------------------------------------------------------


def test_from_mmdetection_on_coco_to_imagenet_vid(
    mmdetection_weights: Weights, tmp_path: Path
) -> None:
    """The initialization that the README recommends, with a small head and all names."""
    path = tmp_path / "coco.pth"
    torch.save(
        {"state_dict": {**mmdetection_weights, "data_preprocessor.mean": torch.zeros(3)}}, path
    )
    detector = build_detector(ModelConfig())
    report = initialize_from(detector, path, IMAGENET_VID_CATEGORIES)
    assert len(report.loaded) == 576
    shared = {c.name for c in COCO_CATEGORIES} & {c.name for c in IMAGENET_VID_CATEGORIES}
    assert len(shared) == 13 and len(report.new_classes) == 17
    logits = detector.state_dict()["stages.4.class_logits.weight"]
    theirs = mmdetection_weights["roi_head.bbox_head.4.fc_cls.weight"][0, 0]
    for label, category in enumerate(IMAGENET_VID_CATEGORIES):
        assert (logits[label] == theirs).all() == (category.name in shared)
    assert report.lines() == [
        f"{path} (MMDetection's Sparse R-CNN, 80 classes): 576 of 577 weights loaded",
        "skipped: data_preprocessor.mean (unknown)",
        "newly initialized classes: antelope, cattle, domestic_cat, fox, giant_panda and 12 more",
        "newly initialized: TFE, SPFA of stages 1-6",
    ]
