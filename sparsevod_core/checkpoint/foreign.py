"""Conversion of checkpoints of MMDetection's and the original Sparse R-CNN.

Their files say little about the network besides its weights, so settings are inferred from shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsevod_core.checkpoint.contents import SOURCE_NAMES, Checkpoint
from sparsevod_core.class_lists.coco import COCO_CATEGORIES
from sparsevod_core.class_lists.imagenet_vid import IMAGENET_VID_CLASSES
from sparsevod_core.config import Config
from sparsevod_core.errors import CheckpointError
from sparsevod_core.foreign_names import Kind, from_mmdetection, from_original, kind_of
from sparsevod_core.structures import Category

WRAPPERS = ("state_dict", "model")  # MMDetection's, detectron2's
PREFIXES = ("", "module.", "model.", "detector.")  # plain; DDP; wrappers; MMTracking
IMAGENET_VID_CATEGORIES = tuple(Category(c.id, c.name) for c in IMAGENET_VID_CLASSES)

# Key: blocks per ResNet stage, and layer1's 3x3 convolution (channels out, channels in per group).
BACKBONES: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {
    ((3, 4, 6, 3), (64, 64)): "r50",
    ((3, 4, 23, 3), (64, 64)): "r101",
    ((3, 4, 23, 3), (256, 8)): "x101_32x8d",
    ((3, 4, 23, 3), (256, 4)): "x101_64x4d",
}


def from_foreign(contents: Any) -> Checkpoint | None:
    """Convert a foreign checkpoint; return None if it is neither MMDetection's nor the original's.

    Raises:
        CheckpointError: a Sparse R-CNN of a variant that is not supported.
    """
    if not isinstance(contents, Mapping):
        return None
    found = _sparse_rcnn_in(contents)
    if found is None:
        return None
    kind, state, unknown = found
    renamed = from_mmdetection(state) if kind == "mmdetection" else from_original(state)
    if "criterion.empty_weight" in renamed.unknown:
        raise CheckpointError(
            f"{SOURCE_NAMES[kind]} with a softmax loss and a background class: "
            "expected one trained with focal loss"
        )
    config = _config(kind, renamed.state)
    return Checkpoint(
        config=config,
        categories=_categories(config.model.num_classes, contents.get("meta")),
        model=renamed.state,
        source=kind,
        unknown=(*renamed.unknown, *unknown),
    )


def state_dict_in(contents: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the weights in a file without the dict that frameworks wrap around them."""
    for wrapper in WRAPPERS:
        if isinstance(contents.get(wrapper), Mapping):
            return contents[wrapper]
    return contents


def _sparse_rcnn_in(
    contents: Mapping[Any, Any],
) -> tuple[Kind, dict[str, Tensor], list[str]] | None:
    """Return the source, the weights, and the names of entries that are not weights."""
    entries = {str(name): value for name, value in state_dict_in(contents).items()}
    for prefix in PREFIXES:
        state = {
            name.removeprefix(prefix): value
            for name, value in entries.items()
            if name.startswith(prefix) and isinstance(value, Tensor)
        }
        kind = kind_of(state)
        if kind is not None:
            return kind, state, [n for n in entries if n.removeprefix(prefix) not in state]
    return None


def _config(kind: Kind, state: Mapping[str, Tensor]) -> Config:
    """Infer the settings from shapes; both sources use 8 attention heads and 800x1333 pixels.

    They detect objects in still images: no TFE, no SPFA, no support frames.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    num_proposals, channels = _shape(shapes, "proposals.features", 2)
    return Config().replace(
        {
            "model.backbone": _backbone(kind, shapes),
            # The original freezes every BatchNorm; MMDetection trains weight and bias.
            "model.norm": "batch" if kind == "mmdetection" else "batch_frozen",
            "model.num_classes": _shape(shapes, "stages.0.class_logits.weight", 2)[0],
            "model.num_proposals": num_proposals,
            "model.channels": channels,
            "model.ffn_dim": _shape(shapes, "stages.0.ffn.0.weight", 2)[0],
            "model.dynamic_dim": _shape(shapes, "stages.0.interaction.norm_in.weight", 1)[0],
            "model.num_stages": len(_numbers(shapes, r"stages\.(\d+)\.")),
            "model.tfe": "off",
            "model.spfa": "off",
            "model.box_decode": kind,
            "data.short_side": 800,
            "data.long_side": 1333,
            "data.val_annotations": None,
            "inference.supports": 0,
        }
    )


def _backbone(kind: Kind, shapes: Mapping[str, tuple[int, ...]]) -> str:
    blocks = tuple(
        len(_numbers(shapes, rf"backbone\.stages\.{stage}\.(\d+)\.")) for stage in range(4)
    )
    conv = shapes.get("backbone.stages.0.0.conv2.weight", ())
    name = BACKBONES.get((blocks, conv[:2]))
    if name is None:
        blocks_text = "-".join(map(str, blocks))
        raise CheckpointError(
            f"{SOURCE_NAMES[kind]}: expected backbone ResNet-50, ResNet-101 or ResNeXt-101 (32x8d "
            f"or 64x4d), got {blocks_text} residual blocks with first 3x3 convolution {list(conv)}"
        )
    return name


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str, dims: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != dims:
        found = "nothing" if shape is None else f"shape {list(shape)}"
        raise CheckpointError(f"Sparse R-CNN: expected {name} with {dims} dimensions, got {found}")
    return shape


def _numbers(names: Mapping[str, Any], pattern: str) -> set[str]:
    return {match[1] for name in names if (match := re.match(pattern, name))}


def _categories(num_classes: int, meta: Any) -> tuple[Category, ...]:
    """Return categories with names from MMDetection's `meta`, or those of COCO or ImageNet VID."""
    names = _class_names(meta)
    if names is None or len(names) != num_classes:
        names = None
    for standard in (COCO_CATEGORIES, IMAGENET_VID_CATEGORIES):
        if len(standard) == num_classes and names in (None, [c.name for c in standard]):
            return standard
    names = names or [f"class {number}" for number in range(1, num_classes + 1)]
    return tuple(Category(number, name) for number, name in enumerate(names, start=1))


def _class_names(meta: Any) -> list[str] | None:
    """Return `meta["dataset_meta"]["classes"]` (MMDetection 3) or `meta["CLASSES"]` (2)."""
    meta = meta if isinstance(meta, Mapping) else {}
    data_set = meta.get("dataset_meta")
    data_set = data_set if isinstance(data_set, Mapping) else {}
    names = data_set.get("classes") or data_set.get("CLASSES") or meta.get("CLASSES")
    is_list = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return list(names) if is_list else None
