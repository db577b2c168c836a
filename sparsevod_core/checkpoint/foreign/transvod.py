"""Conversion of checkpoints of TransVOD and of its frame detector."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint, title_of
from sparsevod_core.checkpoint.foreign.classes import categories_of
from sparsevod_core.checkpoint.foreign.shapes import backbone_of, count_of, shape_of, shapes_of
from sparsevod_core.config import Config, preset_settings
from sparsevod_core.foreign_names.transvod import from_transvod, is_transvod

NOT_STATED = ("model.num_heads", "model.transvod.support_queries", "inference.supports")


def transvod(state: Mapping[str, Tensor], meta: Any) -> Checkpoint | None:
    """Convert the weights of TransVOD; return None if they are not.

    Its labels begin at 1: label 0, which is never used, is left out.

    Args:
        state: weights without a prefix.
        meta: what the file says about its classes.

    Raises:
        CheckpointError: a variant that is not supported.
    """
    if not is_transvod(state):
        return None
    renamed = from_transvod(state)
    model = {
        name: value[1:] if value.dim() and re.search(r"\bclass_logits\b", name) else value
        for name, value in renamed.state.items()
    }
    config = _config(model)
    return Checkpoint(
        config=config,
        categories=categories_of(config.model.num_classes, meta),
        model=model,
        source="transvod",
        unknown=tuple(
            name for name in renamed.unknown if ".temporal_encoder_layer." not in name
        ),  # which the reference does not use either
        assumed={key: config.flat()[key] for key in NOT_STATED},
    )


def _config(state: Mapping[str, Tensor]) -> Config:
    """Infer the settings from shapes; the others are those of the reference."""
    shapes = shapes_of(state)
    is_temporal = any(name.startswith("temporal.") for name in state)
    title = title_of("transvod", "transvod", is_temporal)
    defaults = Config().replace({"model.system": "transvod", **preset_settings("transvod", None)})

    def shape(name: str, dims: int) -> tuple[int, ...]:
        return shape_of(shapes, name, dims, title)

    num_queries, channels = shape("decoder.query_features", 2)
    all_points, _ = shape("encoder.layers.0.attention.attention_weights.weight", 2)
    return defaults.replace(
        {
            "model.temporal": is_temporal,
            "model.backbone": backbone_of(shapes, title),
            "model.num_classes": shape("decoder.class_logits.0.weight", 2)[0],
            "model.num_proposals": num_queries,
            "model.channels": channels,
            "model.ffn_dim": shape("encoder.layers.0.ffn.0.weight", 2)[0],
            "model.transvod.points": max(all_points // defaults.model.num_heads, 1),
            "model.transvod.encoder_layers": count_of(shapes, r"encoder\.layers\.(\d+)\."),
            "model.transvod.decoder_layers": count_of(shapes, r"decoder\.layers\.(\d+)\."),
            "model.transvod.released_points": is_temporal,
            "train.trained": "all",
            "data.val_annotations": None,
            "inference.support": "strided" if is_temporal else "uniform",
            "inference.supports": defaults.inference.supports if is_temporal else 0,
        }
    )
