"""Shared by the GPU tests: skip condition, a small detector, and frames for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsevod_core.config import load_config
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD

CUDA = torch.device("cuda")
ON_A_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]


def build(**changes: Any) -> SparseVOD:
    """Build a detector on the CPU with random weights, also for SPFA's output."""
    torch.manual_seed(0)
    small = {"num_classes": 4, "num_stages": 3, "num_proposals": 20} | changes
    detector = build_detector(dataclasses.replace(load_config("tiny").model, **small)).eval()
    for stage in detector.stages:
        if stage.aggregation is not None:
            torch.nn.init.normal_(stage.aggregation.output.weight, std=0.05)
    return detector


def frames(count: int, size: tuple[int, int] = (96, 160), seed: int = 1) -> tuple[Tensor, Tensor]:
    """Return smooth random frames on the GPU, and their sizes."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 12, 20, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255
    return images.byte().to(CUDA), torch.tensor([size] * count, device=CUDA)
