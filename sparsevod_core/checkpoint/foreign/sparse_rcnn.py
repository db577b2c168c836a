"""Conversion of checkpoints of MMDetection's and the original Sparse R-CNN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint, title_of
from sparsevod_core.checkpoint.foreign.classes import categories_of
from sparsevod_core.checkpoint.foreign.shapes import backbone_of, count_of, shape_of, shapes_of
from sparsevod_core.config import Config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.foreign_names.sparse_rcnn import (
    Kind,
    from_mmdetection,
    from_original,
    kind_of,
)


def sparse_rcnn(state: Mapping[str, Tensor], meta: Any) -> Checkpoint | None:
    """Convert the weights of a Sparse R-CNN; return None if they are not.

    Args:
        state: weights without a prefix.
        meta: what the file says about its classes.

    Raises:
        CheckpointError: a variant that is not supported.
    """
    kind = kind_of(state)
    if kind is None:
        return None
    title = title_of(kind, "sparsevod", is_temporal=False)
    renamed = from_mmdetection(state) if kind == "mmdetection" else from_original(state)
    if "criterion.empty_weight" in renamed.unknown:
        raise CheckpointError(
            f"{title} with a softmax loss and a background class: "
            "expected one trained with focal loss"
        )
    config = _config(kind, renamed.state, title)
    return Checkpoint(
        config=config,
        categories=categories_of(config.model.num_classes, meta),
        model=renamed.state,
        source=kind,
        unknown=tuple(renamed.unknown),
    )


def _config(kind: Kind, state: Mapping[str, Tensor], title: str) -> Config:
    """Infer the settings from shapes; both sources use 8 attention heads and 800x1333 pixels.

    They detect objects in still images: no TFE, no SPFA, no support frames.
    """
    shapes = shapes_of(state)

    def shape(name: str, dims: int) -> tuple[int, ...]:
        return shape_of(shapes, name, dims, title)

    num_proposals, channels = shape("proposals.features", 2)
    return Config().replace(
        {
            "model.backbone": backbone_of(shapes, title),
            # The original freezes every BatchNorm; MMDetection trains weight and bias.
            "model.norm": "batch" if kind == "mmdetection" else "batch_frozen",
            "model.num_classes": shape("stages.0.class_logits.weight", 2)[0],
            "model.num_proposals": num_proposals,
            "model.channels": channels,
            "model.ffn_dim": shape("stages.0.ffn.0.weight", 2)[0],
            "model.dynamic_dim": shape("stages.0.interaction.norm_in.weight", 1)[0],
            "model.num_stages": count_of(shapes, r"stages\.(\d+)\."),
            "model.tfe": "off",
            "model.spfa": "off",
            "model.box_decode": kind,
            "data.short_side": 800,
            "data.long_side": 1333,
            "data.resize": "opencv" if kind == "mmdetection" else "antialias",
            "data.val_annotations": None,
            "inference.supports": 0,
        }
    )
