"""Inputs of the measurements: frames of a rendered scene, and detectors with random weights."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsevod_core.config import load_config
from sparsevod_core.data.transforms import pad_to_multiple
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD


def scene_frames(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return padded frames of a scene with detail at all scales, moving camera, and their sizes."""
    generator = torch.Generator().manual_seed(1)
    scene = torch.zeros(1, 3, *size)
    for octave in range(7):
        noise = torch.randn(1, 3, 5 * 2**octave, 8 * 2**octave, generator=generator)
        scene += 0.75**octave * torch.nn.functional.interpolate(noise, size=size, mode="bicubic")
    scene = ((scene / scene.std() * 0.22 + 0.5).clamp(0, 1) * 255).byte()[0]
    return pad_to_multiple(
        [scene.roll((5 * number, 9 * number), dims=(1, 2)) for number in range(count)],
        32,
    )


def random_detector(
    preset: str, size: tuple[int, int], *settings: str, unit_maps: bool = True
) -> SparseVOD:
    """Return a detector with seeded random weights, on the CPU.

    SPFA's output layer is zero at initialization; it is drawn too, so that SPFA has an effect.

    Args:
        preset: Name of the preset.
        size: (height, width) of the frames.
        settings: Overrides, as `a.b=c`.
        unit_maps: If True, scale the feature maps to unit standard deviation, as in trained models.
    """
    torch.manual_seed(0)
    config = load_config(preset, overrides=list(settings))
    detector = build_detector(config.model).eval().requires_grad_(False)
    for stage in detector.stages:
        if stage.aggregation is not None:
            torch.nn.init.normal_(stage.aggregation.output.weight, std=0.02)
    if not unit_maps:
        return detector
    with torch.inference_mode():
        levels = detector.feature_maps(*scene_frames(1, size))
    for block, level in zip(detector.backbone.fpn.layer_blocks, levels, strict=True):
        block[0].weight /= level.std().item()
        block[0].bias /= level.std().item()
    return detector
