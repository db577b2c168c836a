"""Mapping of the weight names of MMTracking's video detectors to ours.

These are SELSA, Temporal RoI Align (TROI) and FGFA on a Faster R-CNN of MMDetection with a dilated
C5. Without support frames, that Faster R-CNN is a detector of its own, with the same names. Every
tensor has the layout that we use, so that a checkpoint is converted by renaming only: the
background is the last class, box deltas are grouped by class, and RoI vectors are flattened channel
by channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from sparsevod_core.foreign_names.renaming import Renamed, new_names, renamed
from sparsevod_core.foreign_names.resnet import RESNET

VideoSystem = Literal["selsa", "troi", "fgfa", "faster_rcnn"]

_FASTER_RCNN = {
    **RESNET,
    "neck.convs.0.conv.": "backbone.neck.",
    "rpn_head.rpn_conv.": "rpn.conv.",
    "rpn_head.rpn_cls.": "rpn.logits.",
    "rpn_head.rpn_reg.": "rpn.deltas.",
    "roi_head.bbox_head.shared_fcs.*.": "head.fcs.*.",
    "roi_head.bbox_head.fc_cls.": "head.class_logits.",
    "roi_head.bbox_head.fc_reg.": "head.box_deltas.",
    **{
        f"roi_head.bbox_head.aggregator.*.{theirs}.": f"head.aggregations.*.{ours}."
        for theirs, ours in {
            "fc_embed": "query",
            "ref_fc_embed": "key",
            "ref_fc": "value",
            "fc": "output",
        }.items()
    },
    "roi_head.bbox_roi_extractor.embed_network.conv.": "temporal_roi.aggregation.embed.",
}

# In the entire model of FGFA, these stand beside the detector.
_FGFA = {
    **{f"motion.conv{level}.*.conv.": f"flow.conv{level}.*." for level in range(1, 7)},
    **{
        f"motion.{part}.conv.": f"flow.{part}."
        for part in (
            *(f"deconv{level}" for level in range(2, 6)),
            *(f"upsample_flow{level}" for level in range(2, 6)),
            *(f"predict_flow{level}" for level in range(3, 7)),
            "predict_flow",
        )
    },
    "aggregator.embed_convs.0.conv.": "map_aggregation.embed.",
}

_OF_MMTRACKING = {f"detector.{theirs}": ours for theirs, ours in _FASTER_RCNN.items()} | _FGFA
_OF_MMDETECTION = _FASTER_RCNN | _FGFA


def system_of(names: Iterable[str]) -> VideoSystem | None:
    """Return which system has weights of these names, or None if it is none of them.

    Args:
        names: names in MMTracking, or without the prefix `detector.`.
    """
    names = [name.removeprefix("detector.") for name in names]

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    if not (has("rpn_head.rpn_") and has("roi_head.bbox_head.fc_cls.")):
        return None
    if has("motion."):
        return "fgfa"
    if has("roi_head.bbox_roi_extractor.embed_network."):
        return "troi"
    return "selsa" if has("roi_head.bbox_head.aggregator.") else "faster_rcnn"


def from_mmtracking(state: Mapping[str, Tensor]) -> Renamed:
    """Rename the weights of one of these detectors, of any size."""
    return renamed(state, _table_of(state))


def names_in_mmtracking(ours: Iterable[str], like: Iterable[str]) -> list[str]:
    """Return what MMTracking calls our weights, for messages about a file.

    Args:
        ours: names of weights of a detector.
        like: names in the file, which have the prefix `detector.` or not.
    """
    ours = list(ours)
    table = {new: old for old, new in _table_of(like).items()}
    return [theirs or name for theirs, name in zip(new_names(ours, table), ours, strict=True)]


def _table_of(names: Iterable[str]) -> dict[str, str]:
    is_whole = any(name.startswith("detector.") for name in names)
    return _OF_MMTRACKING if is_whole else _OF_MMDETECTION
