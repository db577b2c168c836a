"""Mapping of the weight names of TransVOD (https://github.com/SJTU-LuHe/TransVOD) to ours.

Its frame detector has the names of Deformable DETR with a single map and box refinement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sparsevod_core.foreign_names.renaming import Renamed, renamed
from sparsevod_core.foreign_names.resnet import RESNET

_DEFORMABLE = {
    "sampling_offsets.": "sampling_offsets.",
    "attention_weights.": "attention_weights.",
    "value_proj.": "values.",
    "output_proj.": "output.",
}
_SELF_ATTENTION = {
    "self_attn.": "self_attention.",
    "self_attn.out_proj.": "self_attention.out_proj.",
    "norm2.": "self_attention_norm.",
}
_FFN = {"linear1.": "ffn.0.", "linear2.": "ffn.3."}
_ENCODER_LAYER = {
    **{f"self_attn.{theirs}": f"attention.{ours}" for theirs, ours in _DEFORMABLE.items()},
    "norm1.": "attention_norm.",
    **_FFN,
    "norm2.": "ffn_norm.",
}
_DECODER_LAYER = {
    **_SELF_ATTENTION,
    **{f"cross_attn.{theirs}": f"map_attention.{ours}" for theirs, ours in _DEFORMABLE.items()},
    "norm1.": "map_attention_norm.",
    **_FFN,
    "norm3.": "ffn_norm.",
}
_QUERY_LAYER = {
    **_SELF_ATTENTION,
    "cross_attn.": "support_attention.",
    "cross_attn.out_proj.": "support_attention.out_proj.",
    "norm1.": "support_attention_norm.",
    **_FFN,
    "norm3.": "ffn_norm.",
}


def _inside(theirs: str, ours: str, layer: Mapping[str, str]) -> dict[str, str]:
    """Return the names of a layer in its place."""
    return {f"{theirs}.{old}": f"{ours}.{new}" for old, new in layer.items()}


_BOX_BRANCH = {f"layers.{number}.": f"{2 * number}." for number in range(3)}
_TABLE = {
    **{f"backbone.0.body.{name.removeprefix('backbone.')}": ours for name, ours in RESNET.items()},
    "input_proj.0.0.": "projection.conv.",
    "input_proj.0.1.": "projection.norm.",
    "transformer.level_embed": "encoder.level",
    "query_embed.weight": "decoder.queries",
    "transformer.reference_points.": "decoder.reference_points.",
    "class_embed.*.": "decoder.class_logits.*.",
    **_inside("bbox_embed.*", "decoder.box_branches.*", _BOX_BRANCH),
    # The same weights once more.
    **_inside("transformer.decoder.bbox_embed.*", "decoder.box_branches.*", _BOX_BRANCH),
    **_inside("transformer.encoder.layers.*", "encoder.layers.*", _ENCODER_LAYER),
    **_inside("transformer.decoder.layers.*", "decoder.layers.*", _DECODER_LAYER),
    **{
        name: ours
        for number in range(3)
        for name, ours in _inside(
            f"transformer.temporal_query_layer{number + 1}",
            f"temporal.query_layers.{number}",
            _QUERY_LAYER,
        ).items()
    },
    **_inside("transformer.temporal_decoder.layers.0", "temporal.decoder_layer", _DECODER_LAYER),
    "temp_class_embed.": "temporal.class_logits.",
    **_inside("temp_bbox_embed", "temporal.box_branch", _BOX_BRANCH),
}


def is_transvod(names: Iterable[str]) -> bool:
    """Return whether weights of these names are those of TransVOD or its frame detector.

    Deformable DETR without box refinement, or with several maps, is another detector.
    """
    names = set(names)
    return {"transformer.decoder.bbox_embed.0.layers.0.weight", "input_proj.0.0.weight"} <= names


def from_transvod(weights: Mapping[str, Tensor]) -> Renamed:
    """Rename the weights of TransVOD, of any size.

    Position and content of the queries, one tensor there, are two here. The reference's BatchNorm
    is frozen and has no `num_batches_tracked`; zeros are added.
    """
    found = renamed(weights, _TABLE)
    state = dict(found.state)
    queries = state.pop("decoder.queries", None)
    if queries is not None and queries.dim() == 2:
        half = queries.shape[1] // 2
        state["decoder.query_positions"] = queries[:, :half]
        state["decoder.query_features"] = queries[:, half:]
    level = state.get("encoder.level")
    if level is not None and level.dim() == 2:
        state["encoder.level"] = level.flatten()
    for name in found.state:
        if name.endswith(".running_var"):
            count = name.removesuffix("running_var") + "num_batches_tracked"
            state.setdefault(count, torch.tensor(0))
    return Renamed(state, found.unknown)
