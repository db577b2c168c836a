"""Names of MMTracking's released checkpoints: each becomes one of ours, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparsevod_core.foreign_names.mmtracking import (
    from_mmtracking,
    names_in_mmtracking,
    system_of,
)

KEYS = Path(__file__).parents[2] / "fixtures" / "mmtracking_keys"


def listed(*parts: str) -> list[str]:
    """Return the names in a checkpoint: those of its backbone and of the rest."""
    lines = [line for part in parts for line in (KEYS / f"{part}.txt").read_text().splitlines()]
    return [line.partition(" ")[0] for line in lines]


@pytest.mark.parametrize("prefix", ["detector.", ""])
@pytest.mark.parametrize(
    ("system", "backbone", "count"),
    [
        ("selsa", "r50", 350),
        ("selsa", "r101", 656),
        ("selsa", "x101", 656),
        ("troi", "r50", 362),
        ("troi", "r101", 668),
        ("troi", "x101", 668),
        ("fgfa", "r50", 369),
        ("fgfa", "r101", 675),
        ("fgfa", "x101", 675),
    ],
)
def test_every_name_is_one_of_ours(system: str, backbone: str, count: int, prefix: str) -> None:
    names = [prefix + name.removeprefix("detector.") for name in listed(backbone, system)]
    names = [name.replace(f"{prefix}motion", "motion") for name in names]
    names = [name.replace(f"{prefix}aggregator", "aggregator") for name in names]
    assert len(names) == count
    assert system_of(names) == system
    values = {name: torch.tensor(number) for number, name in enumerate(names)}
    found = from_mmtracking(values)
    assert found.unknown == []
    assert [int(value) for value in found.state.values()] == list(range(count))  # none twice
    assert names_in_mmtracking(found.state, has_prefix=bool(prefix)) == names


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("detector.backbone.conv1.weight", "backbone.stem.conv1.weight"),
        (
            "detector.backbone.layer4.2.bn3.running_var",
            "backbone.stages.3.2.bn3.running_var",
        ),
        ("detector.neck.convs.0.conv.bias", "backbone.neck.bias"),
        ("detector.rpn_head.rpn_reg.weight", "rpn.deltas.weight"),
        ("detector.roi_head.bbox_head.shared_fcs.1.bias", "head.fcs.1.bias"),
        # The key comes from the support features, and so does the value.
        (
            "detector.roi_head.bbox_head.aggregator.0.ref_fc_embed.bias",
            "head.aggregations.0.key.bias",
        ),
        ("detector.roi_head.bbox_head.aggregator.2.ref_fc.bias", "head.aggregations.2.value.bias"),
        ("detector.roi_head.bbox_head.aggregator.1.fc.weight", "head.aggregations.1.output.weight"),
        ("detector.roi_head.bbox_head.fc_cls.bias", "head.class_logits.bias"),
        (
            "detector.roi_head.bbox_roi_extractor.embed_network.conv.bias",
            "temporal_roi.aggregation.embed.bias",
        ),
        ("aggregator.embed_convs.0.conv.bias", "map_aggregation.embed.bias"),
    ],
)
def test_meanings(theirs: str, ours: str) -> None:
    names = [theirs, "detector.rpn_head.rpn_conv.weight"]
    found = from_mmtracking({name: torch.zeros(1) for name in names})
    assert next(iter(found.state)) == ours


def test_without_aggregation_it_is_a_frame_detector() -> None:
    names = [name for name in listed("r50", "selsa") if ".aggregator." not in name]
    assert system_of(names) == "faster_rcnn"


def test_other_detectors_are_none() -> None:
    assert system_of([]) is None
    assert system_of(["detector.rpn_head.init_proposal_bboxes.weight"]) is None
    sparse_rcnn = ["rpn_head.init_proposal_features.weight", "roi_head.bbox_head.0.fc_cls.weight"]
    assert system_of(sparse_rcnn) is None
    cascade = ["rpn_head.rpn_conv.weight", "roi_head.bbox_head.0.fc_cls.weight"]
    assert system_of(cascade) is None


def test_names_of_other_parts_are_unknown() -> None:
    names = [
        "detector.neck.lateral_convs.0.conv.weight",
        "detector.roi_head.mask_head.conv_logits.weight",
        "detector.motion.conv1.0.conv.weight",
        "backbone.conv1.weight",
        "motion.conv7.0.conv.weight",
    ]
    assert from_mmtracking({name: torch.zeros(1) for name in names}).unknown == names
