"""Checkpoints of TransVOD's repository: names, inferred settings, and other detectors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.checkpoint.foreign import from_foreign
from sparsevod_core.config import Config, preset_settings
from sparsevod_core.model.build import build_detector

Weights = dict[str, Tensor]
LABELS = 31  # one of which is not used

# Ours to theirs, independently of the table under test.
RENAMED = [
    (r"^backbone\.stem\.", "backbone.0.body."),
    (r"^projection\.conv\.", "input_proj.0.0."),
    (r"^projection\.norm\.", "input_proj.0.1."),
    (r"^decoder\.reference_points\.", "transformer.reference_points."),
    (r"^decoder\.class_logits\.", "class_embed."),
    (r"^decoder\.box_branches\.", "bbox_embed."),
    (r"^temporal\.class_logits\.", "temp_class_embed."),
    (r"^temporal\.box_branch\.", "temp_bbox_embed."),
    (r"^temporal\.decoder_layer\.", "transformer.temporal_decoder.layers.0."),
    (r"^(en|de)coder\.layers\.", r"transformer.\1coder.layers."),
    (r"(bbox_embed.*)\.0\.(weight|bias)$", r"\1.layers.0.\2"),
    (r"(bbox_embed.*)\.2\.(weight|bias)$", r"\1.layers.1.\2"),
    (r"(bbox_embed.*)\.4\.(weight|bias)$", r"\1.layers.2.\2"),
    (r"(encoder\.layers\.\d)\.attention\.", r"\1.self_attn."),
    (r"(encoder\.layers\.\d)\.attention_norm\.", r"\1.norm1."),
    (r"(encoder\.layers\.\d)\.ffn_norm\.", r"\1.norm2."),
    (r"\.(map|support)_attention\.", ".cross_attn."),
    (r"\.(map|support)_attention_norm\.", ".norm1."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.self_attention_norm\.", ".norm2."),
    (r"\.ffn_norm\.", ".norm3."),
    (r"\.ffn\.0\.", ".linear1."),
    (r"\.ffn\.3\.", ".linear2."),
    (r"\.values\.", ".value_proj."),
    (r"_attn\.output\.", "_attn.output_proj."),
]


def their_name(name: str) -> str:
    if stage := re.match(r"backbone\.stages\.(\d)\.", name):
        return name.replace(stage[0], f"backbone.0.body.layer{int(stage[1]) + 1}.")
    if layer := re.match(r"temporal\.query_layers\.(\d)\.", name):
        name = name.replace(layer[0], f"transformer.temporal_query_layer{int(layer[1]) + 1}.")
    for ours, theirs in RENAMED:
        name = re.sub(ours, theirs, name)
    return name


@pytest.fixture(scope="module")
def ours() -> Weights:
    """Return the weights of the R50 detector, without memory for their values."""
    settings = {"model.system": "transvod", **preset_settings("transvod", None)}
    config = Config().replace(settings)
    with torch.device("meta"):
        return build_detector(config.model).state_dict()


@pytest.fixture(scope="module")
def theirs(ours: Weights) -> Weights:
    """Return the weights under their names; tensor i is filled with i."""
    weights: Weights = {}
    for i, (name, value) in enumerate(ours.items()):
        shape = list(value.shape)
        if "class_logits" in name:
            shape[0] = LABELS
        if not name.startswith(("decoder.query", "encoder.level")) and "tracked" not in name:
            weights[their_name(name)] = torch.tensor(float(i)).expand(shape)
    copies = {f"transformer.decoder.{n}": w for n, w in weights.items() if n.startswith("bbox_em")}
    queries = torch.cat([torch.full((300, 256), 1.0), torch.full((300, 256), 2.0)], dim=1)
    return (
        weights
        | copies
        | {
            "query_embed.weight": queries,
            "transformer.level_embed": torch.full((1, 256), 3.0),
            "transformer.temporal_encoder_layer.norm1.weight": torch.zeros(256),
        }
    )


def test_weights_get_our_names_and_shapes(ours: Weights, theirs: Weights) -> None:
    checkpoint = from_foreign({"model": theirs, "epoch": 6})
    assert checkpoint is not None
    found = checkpoint.model
    assert {n: list(w.shape) for n, w in found.items()} == {
        n: list(w.shape) for n, w in ours.items()
    }
    assert checkpoint.unknown == ()
    for i, name in enumerate(ours):
        if their_name(name) in theirs:
            assert found[name].flatten()[0] == i, name
    assert found["decoder.query_positions"].unique().tolist() == [1]
    assert found["decoder.query_features"].unique().tolist() == [2]
    assert found["encoder.level"].unique().tolist() == [3]


def test_settings_are_those_of_the_release(theirs: Weights) -> None:
    checkpoint = from_foreign({"model": theirs})
    assert checkpoint is not None
    model = checkpoint.config.model
    assert (model.system, model.backbone, model.temporal) == ("transvod", "r50", True)
    assert (model.num_classes, model.num_proposals, model.channels) == (30, 300, 256)
    assert (model.transvod.points, model.transvod.released_points) == (4, True)
    assert (checkpoint.config.inference.support, checkpoint.config.inference.supports) == (
        "strided",
        14,
    )
    assert checkpoint.categories[0].name == "airplane"
    assert checkpoint.title == "the original TransVOD"


def test_the_unused_label_is_left_out(theirs: Weights) -> None:
    rows = torch.arange(float(LABELS))
    changed = theirs | {"temp_class_embed.bias": rows, "class_embed.5.bias": rows}
    checkpoint = from_foreign(changed)
    assert checkpoint is not None
    for name in ("temporal.class_logits.bias", "decoder.class_logits.5.bias"):
        assert checkpoint.model[name].tolist() == rows[1:].tolist()


def test_the_frame_detector_is_recognized_alone(theirs: Weights) -> None:
    frame_detector = {name: value for name, value in theirs.items() if "temp" not in name}
    checkpoint = from_foreign({"model": frame_detector})
    assert checkpoint is not None
    assert not checkpoint.config.model.temporal
    assert checkpoint.config.inference.supports == 0
    assert checkpoint.title == "the original Deformable DETR"


def test_deformable_detr_without_refinement_is_another_detector(theirs: Weights) -> None:
    others = {name: w for name, w in theirs.items() if "transformer.decoder.bbox" not in name}
    assert from_foreign({"model": others}) is None


def test_a_file_is_loaded(tmp_path: Path, theirs: Weights) -> None:
    torch.save({"model": theirs, "epoch": 6}, tmp_path / "released.pth")
    assert load_checkpoint(tmp_path / "released.pth").source == "transvod"
