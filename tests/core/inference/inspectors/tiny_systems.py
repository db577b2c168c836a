"""Small untrained predictors of every system, whose attention is not uniform."""

from __future__ import annotations

import torch
from torch import nn

from sparsevod_core.config import load_config
from sparsevod_core.inference import Predictor
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

CATEGORIES = (Category(7, "square"), Category(3, "bar"))
SIZE = ["data.short_side=64", "data.long_side=96", "model.num_classes=2"]
SMALL = ["model.num_proposals=12", "model.faster_rcnn.support_proposals=5"]
OF_SYSTEM = {
    "selsa": SMALL,
    "troi": [*SMALL, "model.faster_rcnn.head_layers=2"],
    "mamba": [*SMALL, "model.mamba.bank_rows=30", "model.mamba.read_rows=12"],
    "fgfa": [*SMALL, "model.fgfa.flow=none", "inference.support=window"],
    "mega": [*SMALL, "model.mega.advanced_proposals=3", "model.mega.memory_frames=3"],
    "transvod": ["model.num_proposals=12", "model.transvod.support_queries=[6,4,2]"],
}


def predictor_of(system: str, *settings: str) -> Predictor:
    """Return a predictor with 3 support frames (MEGA: 5 and 2 global ones)."""
    supports = ["inference.supports=3"]
    if system == "mega":
        supports = ["inference.supports=5", "inference.global_supports=2"]
    overrides = [*SIZE, *supports, *OF_SYSTEM.get(system, []), *settings]
    config = load_config("tiny", overrides=overrides, system=system)
    torch.manual_seed(0)
    detector = build_detector(config.model)
    for name, module in detector.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(("query", "key", "class_logits")):
            nn.init.normal_(module.weight, std=0.3)
    return Predictor(detector, config, CATEGORIES, device="cpu").plain()
