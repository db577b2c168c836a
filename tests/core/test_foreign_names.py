"""MMDetection's and the original's names: the full list, and the mapping of METHOD.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sparsevod_core.config import ModelConfig
from sparsevod_core.foreign_names import from_mmdetection, from_original, kind_of
from sparsevod_core.model.build import build_detector

KEYS_FILE = Path(__file__).parents[1] / "fixtures" / "sparse_rcnn_r50_coco_keys.txt"


def mmdetection_shapes() -> dict[str, list[int]]:
    """Name and shape of the 576 weights of the public R50 COCO checkpoint."""
    rows = [line.split("\t") for line in KEYS_FILE.read_text().splitlines()]
    return {name: [int(size) for size in re.findall(r"\d+", shape)] for name, shape, _ in rows}


def original_name(name: str) -> str | None:
    """MMDetection's name to the original's, written from METHOD.md, apart from the tables."""
    name = name.replace("rpn_head.init_proposal_bboxes", "init_proposal_boxes")
    name = name.replace("rpn_head.init_proposal_features", "init_proposal_features")
    if name.startswith("roi_head."):
        name = name.replace("roi_head.bbox_head.", "head.head_series.")
        for theirs, original in (
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
    name = re.sub(
        r"neck.lateral_convs.(\d).conv", lambda m: f"backbone.fpn_lateral{int(m[1]) + 2}", name
    )
    name = re.sub(
        r"neck.fpn_convs.(\d).conv", lambda m: f"backbone.fpn_output{int(m[1]) + 2}", name
    )
    if name.startswith(("backbone.conv1", "backbone.bn1")):
        name = name.replace("backbone.", "backbone.bottom_up.stem.").replace("bn1", "conv1.norm")
    name = re.sub(r"backbone.layer(\d)", lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}", name)
    name = re.sub(r"\.bn(\d)", r".conv\1.norm", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return None if name.endswith("num_batches_tracked") else name


def numbered(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """One distinguishable value per name, without its memory: tensor i is full of i."""
    return {
        name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.fixture(scope="module")
def our_shapes() -> dict[str, list[int]]:
    with torch.device("meta"):
        config = ModelConfig(num_classes=80, tfe="off", spfa="off")
        detector = build_detector(config)
    return {name: list(value.shape) for name, value in detector.state_dict().items()}


def test_every_name_of_mmdetection_becomes_one_of_ours(our_shapes: dict[str, list[int]]) -> None:
    theirs = numbered(mmdetection_shapes())
    assert len(theirs) == 576 and kind_of(theirs) == "mmdetection"
    renamed = from_mmdetection(theirs)
    assert renamed.unknown == []
    assert {name: list(value.shape) for name, value in renamed.state.items()} == our_shapes
    values = [value.flatten()[0].item() for value in renamed.state.values()]
    assert sorted(values) == list(range(576))  # nothing lost, nothing twice


def test_both_sources_agree(our_shapes: dict[str, list[int]]) -> None:
    """The same weights under either's names are the same weights under ours."""
    theirs = numbered(mmdetection_shapes())
    original = {
        new: value for name, value in theirs.items() if (new := original_name(name)) is not None
    }
    assert len(original) == 576 - 53 and kind_of(original) == "original"
    renamed = from_original(original)
    assert renamed.unknown == []
    assert set(renamed.state) == set(our_shapes)
    expected = from_mmdetection(theirs).state
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
