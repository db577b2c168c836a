"""Parity with MMTracking's SELSA aggregator."""

from __future__ import annotations

from report import FEATURES, Report

from sparsevod_core.model.proposal_aggregation import AttentionAggregation


def check_selsa(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check attention over support proposals only, without residual."""
    for blocks in config["blocks"]:
        aggregation = AttentionAggregation(channels=config["C"], num_heads=blocks)
        names = {
            "query": "fc_embed",
            "key": "ref_fc_embed",
            "value": "ref_fc",
            "output": "fc",
        }
        for ours, theirs in names.items():
            getattr(aggregation, ours).load_state_dict(
                {part: weights[f"{theirs}.{part}"] for part in ("weight", "bias")}
            )
        out = aggregation.attend(io["x"][None], *aggregation.project(io["ref_x"][None]))
        report.forced(f"out.blocks{blocks}", out, io[f"out.blocks{blocks}"], FEATURES)
