"""Parity with MMTracking's SELSA aggregator."""

from __future__ import annotations

from report import FEATURES, Report

from sparsevod_core.model.proposal_aggregation import AttentionAggregation


def check_selsa(weights: dict, io: dict, config: dict, report: Report) -> None:
    """Check attention over support proposals only, without residual, as in the reference."""
    for blocks in config["blocks"]:
        spfa = AttentionAggregation(channels=config["C"], num_heads=blocks)
        names = {
            "query": "fc_embed",
            "key": "ref_fc_embed",
            "value": "ref_fc",
            "output": "fc",
        }
        for ours, theirs in names.items():
            getattr(spfa, ours).load_state_dict(
                {part: weights[f"{theirs}.{part}"] for part in ("weight", "bias")}
            )
        supports = [projected[:, None] for projected in spfa.project(io["ref_x"][None])]
        # The reference has neither the target's own keys nor a residual.
        spfa.project = lambda features: (features[:, :0],) * 2
        out = spfa(io["x"][None], supports) - io["x"]
        report.forced(f"out.blocks{blocks}", out, io[f"out.blocks{blocks}"], FEATURES)
