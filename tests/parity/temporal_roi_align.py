"""Parity with MMTracking's Temporal RoI Align."""

from __future__ import annotations

import re

import torch
from report import EXACT, FEATURES, Report
from sparse_rcnn import pooled
from torch import Tensor

from sparsevod_core.kernels.similarity import Keys
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.support import SupportMaps
from sparsevod_core.model.temporal_roi import (
    TemporalAttention,
    TemporalMean,
    TemporalRoIFeatures,
    bins_of,
)


def check_temporal_roi_align(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check RoI features, similar features, aggregations, the pyramid, and boxes outside."""
    maps = io["single.ref_feats"][None]  # [1, S, C, H, W]
    boxes = io["rois"][None, :, 1:]
    roi_align = PyramidRoIAlign(strides=[config["single_stride"]], **_roi_settings(config))
    roi_features = pooled(roi_align, [io["single.feat"]], boxes)
    report.forced("single.roi_feats", roi_features, io["single.roi_feats"], FEATURES)
    roi_features = io["single.roi_feats"][None]
    for name in sorted(io):
        if found := re.fullmatch(r"single\.most_similar\.k(\d+)", name):
            similar = _most_similar(roi_features, maps, int(found[1]))
            report.forced(name, similar, io[name], FEATURES)
        elif found := re.fullmatch(r"single\.out\.k(\d+)\.blocks(\d+)", name):
            tfe = _temporal_roi(weights, config, int(found[1]), int(found[2]))
            report.forced(name, tfe(roi_features, _support_maps(maps)), io[name], FEATURES)

    if "fpn.out" in io:
        levels = [io[f"fpn.feat{level}"] for level in range(len(config["fpn_strides"]))]
        pyramid = PyramidRoIAlign(strides=config["fpn_strides"], **_roi_settings(config))
        report.forced("fpn.levels", pyramid.levels(boxes), io["fpn.levels"], EXACT)
        coarsest = io[f"fpn.ref_feats{len(levels) - 1}"][None]
        tfe = _temporal_roi(weights, config, top_k=2, blocks=4)  # the fixture's settings
        out = tfe(pooled(pyramid, levels, boxes), _support_maps(coarsest))
        report.forced("fpn.out", out, io["fpn.out"], FEATURES)
    if "nan_case.rois" in io:
        outside = pooled(roi_align, [io["single.feat"]], io["nan_case.rois"][None, :, 1:])
        tfe = _temporal_roi(weights, config, top_k=2, blocks=4)
        out = tfe(outside, _support_maps(maps))
        report.finite("nan_case.out (NaN in the reference)", out)


def _temporal_roi(weights: dict, config: dict, top_k: int, blocks: int) -> TemporalRoIFeatures:
    if blocks == 0:
        return TemporalRoIFeatures(top_k=top_k, aggregation=TemporalMean())
    attention = TemporalAttention(channels=config["C"], blocks=blocks)
    prefix = "embed_network.conv."
    attention.embed.load_state_dict({n.removeprefix(prefix): v for n, v in weights.items()})
    return TemporalRoIFeatures(top_k=top_k, aggregation=attention)


def _most_similar(roi_features: Tensor, maps: Tensor, top_k: int) -> Tensor:
    proposals, _, size, _ = roi_features.shape[1:]
    tfe = TemporalRoIFeatures(top_k=top_k, aggregation=TemporalMean())
    similar = tfe.similar(bins_of(roi_features, 1), _support_maps(maps))[0]  # [S, Q, C]
    return similar.unflatten(1, (proposals, size, size)).movedim(-1, 2)


def _support_maps(maps: Tensor) -> SupportMaps:
    """Return the support maps of maps [V, S, C, H, W], all positions valid."""
    rows = maps.flatten(3).transpose(2, 3)
    valid = torch.ones(len(rows), rows.shape[2], dtype=torch.bool)
    return SupportMaps(rows, Keys.of(rows, valid), maps.shape[-1])


def _roi_settings(config: dict) -> dict:
    settings = config["roi_align"]
    return {
        "output_size": settings["output_size"],
        "sampling_ratio": settings["sampling_ratio"],
    }
