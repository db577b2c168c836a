"""Mapping of the weight names of other Sparse R-CNN implementations to ours.

The sources are MMDetection and the original by Peize Sun et al. on detectron2. Both store every
tensor in the layout that we use, so that a checkpoint is converted by renaming only: boxes `cxcywh`
in [0, 1], attention with one input projection for query, key and value, RoI vectors flattened
position by position, and Linear, LayerNorm and ReLU for each layer of the two branches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from sparsevod_core.foreign_names.renaming import Renamed, renamed
from sparsevod_core.foreign_names.resnet import RESNET

Kind = Literal["mmdetection", "original"]

_MMDETECTION = {
    **RESNET,
    "neck.lateral_convs.*.conv.": "backbone.fpn.inner_blocks.*.0.",
    "neck.fpn_convs.*.conv.": "backbone.fpn.layer_blocks.*.0.",
    "rpn_head.init_proposal_bboxes.weight": "proposals.boxes_cxcywh",
    "rpn_head.init_proposal_features.weight": "proposals.features",
    **{
        f"roi_head.bbox_head.*.{theirs}": f"stages.*.{ours}"
        for theirs, ours in {
            "attention.attn.": "self_attention.",
            "attention.attn.out_proj.": "self_attention.out_proj.",
            "attention_norm.": "self_attention_norm.",
            "instance_interactive_conv.dynamic_layer.": "interaction.dynamic_layers.",
            "instance_interactive_conv.norm_in.": "interaction.norm_in.",
            "instance_interactive_conv.norm_out.": "interaction.norm_out.",
            "instance_interactive_conv.fc_layer.": "interaction.output.",
            "instance_interactive_conv.fc_norm.": "interaction.norm.",
            "instance_interactive_conv_norm.": "interaction_norm.",
            "ffn.layers.0.0.": "ffn.0.",
            "ffn.layers.1.": "ffn.2.",
            "ffn_norm.": "ffn_norm.",
            "cls_fcs.*.": "class_branch.*.",
            "fc_cls.": "class_logits.",
            "reg_fcs.*.": "box_branch.*.",
            "fc_reg.": "box_deltas.",
        }.items()
    },
}

_ORIGINAL = {
    "backbone.bottom_up.stem.conv1.": "backbone.stem.conv1.",
    "backbone.bottom_up.stem.conv1.norm.": "backbone.stem.bn1.",
    **{
        f"backbone.bottom_up.res{stage + 2}.*.{theirs}.": f"backbone.stages.{stage}.*.{ours}."
        for stage in range(4)
        for theirs, ours in {
            "conv1": "conv1",
            "conv1.norm": "bn1",
            "conv2": "conv2",
            "conv2.norm": "bn2",
            "conv3": "conv3",
            "conv3.norm": "bn3",
            "shortcut": "downsample.0",
            "shortcut.norm": "downsample.1",
        }.items()
    },
    **{
        f"backbone.fpn_{theirs}{level + 2}.": f"backbone.fpn.{ours}.{level}.0."
        for level in range(4)
        for theirs, ours in {"lateral": "inner_blocks", "output": "layer_blocks"}.items()
    },
    "init_proposal_boxes.weight": "proposals.boxes_cxcywh",
    "init_proposal_features.weight": "proposals.features",
    **{
        f"head.head_series.*.{theirs}": f"stages.*.{ours}"
        for theirs, ours in {
            "self_attn.": "self_attention.",
            "self_attn.out_proj.": "self_attention.out_proj.",
            "norm1.": "self_attention_norm.",
            "inst_interact.dynamic_layer.": "interaction.dynamic_layers.",
            "inst_interact.norm1.": "interaction.norm_in.",
            "inst_interact.norm2.": "interaction.norm_out.",
            "inst_interact.out_layer.": "interaction.output.",
            "inst_interact.norm3.": "interaction.norm.",
            "norm2.": "interaction_norm.",
            "linear1.": "ffn.0.",
            "linear2.": "ffn.2.",
            "norm3.": "ffn_norm.",
            "cls_module.*.": "class_branch.*.",
            "class_logits.": "class_logits.",
            "reg_module.*.": "box_branch.*.",
            "bboxes_delta.": "box_deltas.",
        }.items()
    },
}


def kind_of(names: Iterable[str]) -> Kind | None:
    """Return whose Sparse R-CNN has weights of these names, or None.

    Both learned proposals and head must be present: MMDetection's other two-stage detectors share
    the head's prefix, and DiffusionDet shares the original's.
    """
    names = list(names)

    def has(*prefixes: str) -> bool:
        return all(any(name.startswith(prefix) for name in names) for prefix in prefixes)

    if has("rpn_head.init_proposal_bboxes.", "roi_head.bbox_head.0."):
        return "mmdetection"
    if has("init_proposal_boxes.", "head.head_series.0."):
        return "original"
    return None


def from_mmdetection(state: Mapping[str, Tensor]) -> Renamed:
    """Rename the weights of MMDetection's Sparse R-CNN (2.x and 3.x), of any size."""
    return renamed(state, _MMDETECTION)


def from_original(state: Mapping[str, Tensor]) -> Renamed:
    """Rename the weights of the original Sparse R-CNN, of any size.

    detectron2's frozen BatchNorm has no `num_batches_tracked`; zeros are added.
    """
    found = renamed(state, _ORIGINAL)
    for name in [name for name in found.state if name.endswith(".running_var")]:
        count = name.removesuffix("running_var") + "num_batches_tracked"
        found.state.setdefault(count, torch.tensor(0))
    return found
