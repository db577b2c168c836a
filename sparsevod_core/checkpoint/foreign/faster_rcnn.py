"""Conversion of checkpoints of MMTracking's video detectors and of their Faster R-CNN."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint, Source, title_of
from sparsevod_core.checkpoint.foreign.classes import categories_of
from sparsevod_core.checkpoint.foreign.shapes import backbone_of, count_of, shape_of, shapes_of
from sparsevod_core.config import Config, System, preset_settings
from sparsevod_core.foreign_names.mmtracking import (
    DETECTOR,
    VideoSystem,
    from_mmtracking,
    is_part,
    names_in_mmtracking,
    system_of,
)

# Settings that no weight tells, by their names in MMTracking's configuration.
STATED: dict[VideoSystem, dict[str, str]] = {
    "selsa": {"num_attention_blocks": "model.faster_rcnn.attention_heads"},
    "troi": {
        "num_attention_blocks": "model.faster_rcnn.attention_heads",
        "num_most_similar_points": "model.tfe_top_k",
        "num_temporal_attention_blocks": "model.tfe_blocks",
    },
}


def faster_rcnn(state: Mapping[str, Tensor], meta: Any) -> Checkpoint | None:
    """Convert the weights of SELSA, TROI, FGFA or Faster R-CNN; return None if they are not.

    Parts of the detector that ours lacks keep their names, so that they are not taken for others.

    Args:
        state: weights, with or without MMTracking's prefix of the detector's.
        meta: what the file says about classes and configuration.

    Raises:
        CheckpointError: a variant that is not supported.
    """
    kind = system_of(state)
    if kind is None:
        return None
    has_prefix = any(name.startswith(DETECTOR) for name in state)
    source: Source = "mmdetection" if kind == "faster_rcnn" and not has_prefix else "mmtracking"
    system: System = "selsa" if kind == "faster_rcnn" else kind
    is_temporal = kind != "faster_rcnn"
    defaults = Config().replace({"model.system": system, **preset_settings(system, None)})
    stated = {
        key: number
        for name, key in STATED.get(kind, {}).items()
        if (number := _number_in(meta, name)) is not None
    }
    renamed = from_mmtracking(state)
    config = defaults.replace(
        {
            "model.temporal": is_temporal,
            **_sizes(renamed.state, source, title_of(source, system, is_temporal)),
            **stated,
            "data.resize": "opencv",
            "data.val_annotations": None,
            "inference.supports": defaults.inference.supports if is_temporal else 0,
        }
    )
    others = {name: state[name] for name in renamed.unknown if is_part(name)}
    return Checkpoint(
        config=config,
        categories=categories_of(config.model.num_classes, meta),
        model=renamed.state | others,
        source=source,
        unknown=tuple(name for name in renamed.unknown if name not in others),
        assumed={
            key: config.flat()[key] for key in STATED.get(kind, {}).values() if key not in stated
        },
    )


def _sizes(state: Mapping[str, Tensor], source: Source, title: str) -> dict[str, Any]:
    """Infer the settings that shapes tell."""
    shapes = shapes_of(state)

    def outputs(name: str, dims: int) -> int:
        """Return the number of outputs of a layer."""
        (called,) = names_in_mmtracking([name], has_prefix=source == "mmtracking")
        return shape_of(shapes, name, dims, title, called)[0]

    sizes = {
        "model.channels": outputs("backbone.neck.weight", dims=4),
        "model.num_classes": outputs("head.class_logits.weight", dims=2) - 1,  # without background
        "model.faster_rcnn.head_dim": outputs("head.fcs.0.weight", dims=2),
        "model.faster_rcnn.head_layers": count_of(shapes, r"head\.fcs\.(\d+)\."),
        "model.backbone": backbone_of(shapes, title),
    }
    if "flow.conv1.0.weight" in shapes:
        sizes["model.fgfa.flow_width"] = outputs("flow.conv1.0.weight", dims=4)
    return sizes


def _number_in(meta: Any, name: str) -> int | None:
    """Return a number from the text of the configuration, which is never executed.

    None if the text is missing, or does not state one number.
    """
    text = meta.get("config") if isinstance(meta, Mapping) else None
    if not isinstance(text, str):
        return None
    numbers = {int(found) for found in re.findall(rf"\b{name}['\"]?\s*[=:]\s*(\d{{1,6}})\b", text)}
    return numbers.pop() if len(numbers) == 1 else None
