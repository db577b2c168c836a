"""Mapping of the weight names of MMTracking's video detectors to ours.

These are SELSA, Temporal RoI Align (TROI) and FGFA on a Faster R-CNN of MMDetection with a dilated
C5. Without support frames, that Faster R-CNN is a detector of its own, with the same names. Every
tensor has the layout that we use, so that a checkpoint is converted by renaming only: the
background is the last class, box deltas are grouped by class, and RoI vectors are flattened channel
by channel.
"""

from __future__ import annotations

import re
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

DETECTOR = "detector."
"""Prefix of the detector's weights in MMTracking; MMDetection has none."""
FLOW = "motion."
"""Prefix of the flow network's weights in FGFA."""

_OF_MMTRACKING = {f"{DETECTOR}{theirs}": ours for theirs, ours in _FASTER_RCNN.items()} | _FGFA
_OF_MMDETECTION = _FASTER_RCNN | _FGFA

_PARTS = re.compile(r"motion\.|aggregator\.|detector\.|backbone\.|neck\.|rpn_head\.|roi_head\.")


def system_of(names: Iterable[str]) -> VideoSystem | None:
    """Return which system has weights of these names, or None if it is none of them.

    A weight may be missing: that it is one of these detectors is seen from others. A head with
    numbers is another one, such as that of Sparse R-CNN and Cascade R-CNN.

    Args:
        names: names in MMTracking, or without the prefix of the detector.
    """
    names = [name.removeprefix(DETECTOR) for name in names]

    def has(start: str) -> bool:
        return any(re.match(start, name) for name in names)

    if not (has(r"rpn_head\.rpn_") and has(r"roi_head\.bbox_head\.[a-z]")):
        return None
    if has(r"motion\."):
        return "fgfa"
    if has(r"roi_head\.bbox_roi_extractor\.embed_network\."):
        return "troi"
    return "selsa" if has(r"roi_head\.bbox_head\.aggregator\.") else "faster_rcnn"


def is_flow_network(names: Iterable[str]) -> bool:
    """Return whether these are names of FlowNetSimple alone, with which FGFA's training starts."""
    names = {name.removeprefix(FLOW) for name in names}
    return (
        system_of(names) is None
        and {
            "conv6.1.conv.weight",
            "predict_flow6.conv.weight",
        }
        <= names
    )


def from_flow_network(state: Mapping[str, Tensor]) -> Renamed:
    """Rename the weights of FlowNetSimple, with or without its prefix in FGFA."""
    return renamed({FLOW + name.removeprefix(FLOW): v for name, v in state.items()}, _FGFA)


def is_part(name: str) -> bool:
    """Return whether a weight of this name belongs to the detector."""
    return _PARTS.match(name) is not None


def from_mmtracking(state: Mapping[str, Tensor]) -> Renamed:
    """Rename the weights of one of these detectors, of any size."""
    has_prefix = any(name.startswith(DETECTOR) for name in state)
    return renamed(state, _OF_MMTRACKING if has_prefix else _OF_MMDETECTION)


def names_in_mmtracking(ours: Iterable[str], *, has_prefix: bool) -> list[str]:
    """Return what MMTracking or MMDetection call our weights, for messages about their files.

    Args:
        ours: names of weights of a detector; one that they do not have stays as it is.
        has_prefix: whether their names have the prefix of the detector.
    """
    ours = list(ours)
    table = _OF_MMTRACKING if has_prefix else _OF_MMDETECTION
    back = {new: old for old, new in table.items()}
    return [theirs or name for theirs, name in zip(new_names(ours, back), ours, strict=True)]
