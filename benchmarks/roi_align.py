"""RoIAlign over the feature pyramid on a CPU: ours against torchvision's operator.

The reference is what other toolkits do: torchvision's `roi_align` for each level on the boxes of
that level. Both process all stages of a detector, each with its own boxes. They take turns in one
process, forward only and forward with backward, at the paper's frame size and at that of `tiny`.

    OMP_NUM_THREADS=2 python benchmarks/roi_align.py --rounds 15 --out roi_align.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hardware import about_this_machine
from torch import Tensor
from torchvision.ops import roi_align

from sparsevod_core.model.backbone import STRIDES
from sparsevod_core.model.pyramid import WholePyramid
from sparsevod_core.model.roi_align import PyramidRoIAlign

# Stages, images, boxes per image, channels, height and width in pixels.
CASES = {
    "a frame, R50 at 600x1000": (6, 1, 100, 256, 608, 1024),
    "a training step, tiny at 96x128 (8 clips of 3 frames)": (3, 24, 16, 64, 96, 128),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cases = {name: measure(*case, arguments.rounds) for name, case in CASES.items()}
    result = {
        "machine": about_this_machine("torch", "torchvision"),
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "milliseconds": cases,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, times in cases.items():
        sys.stdout.write(f"{name}\n")
        for part in ("forward", "forward and backward"):
            ours, theirs = times["sparsevod"][part], times["torchvision"][part]
            sys.stdout.write(
                f"  {part:21} {ours:7.1f} ms, {theirs:7.1f} ms: {theirs / ours:.1f} times\n"
            )


def measure(
    stages: int, images: int, boxes: int, channels: int, height: int, width: int, rounds: int
) -> dict[str, Any]:
    """Return median milliseconds of both, which take turns, and the largest difference."""
    generator = torch.Generator().manual_seed(0)
    pyramid = [
        torch.randn(images, channels, height // stride, width // stride, generator=generator)
        for stride in STRIDES
    ]
    corner, size = torch.rand(2, stages, images, boxes, 2, generator=generator)
    frame = torch.tensor([width, height])
    sizes = torch.tensor([[height, width]]).expand(images, 2)
    boxes_xyxy = torch.cat([corner * frame, (corner + size) * frame], dim=-1)
    own = PyramidRoIAlign(strides=STRIDES)

    def sparsevod(maps: list[Tensor]) -> Tensor:
        frames = WholePyramid(maps, sizes, own)
        return torch.stack([frames.pool(of_stage) for of_stage in boxes_xyxy])

    def torchvision(maps: list[Tensor]) -> Tensor:
        return torch.stack([level_by_level(maps, of_stage, own) for of_stage in boxes_xyxy])

    programs = {"sparsevod": sparsevod, "torchvision": torchvision}
    times: dict[str, dict[str, list[float]]] = {
        name: {"forward": [], "forward and backward": []} for name in programs
    }
    for _ in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            with torch.no_grad():
                program(pyramid)
            times[name]["forward"].append(time.perf_counter() - start)
            maps = [level.clone().requires_grad_() for level in pyramid]
            start = time.perf_counter()
            program(maps).sum().backward()
            times[name]["forward and backward"].append(time.perf_counter() - start)
    with torch.no_grad():
        difference = programs["sparsevod"](pyramid) - programs["torchvision"](pyramid)
    return {
        name: {part: round(1000 * median(each[1:]), 2) for part, each in of_program.items()}
        for name, of_program in times.items()
    } | {"largest_difference": difference.abs().max().item()}


def level_by_level(pyramid: list[Tensor], boxes_xyxy: Tensor, rule: PyramidRoIAlign) -> Tensor:
    """Apply torchvision's operator to the boxes of each level."""
    levels = rule.levels(boxes_xyxy).flatten()
    image = torch.arange(len(boxes_xyxy)).repeat_interleave(boxes_xyxy.shape[1])
    rois = torch.cat([image[:, None].float(), boxes_xyxy.flatten(0, 1)], dim=1)
    size = (rule.output_size, rule.output_size)
    pooled = pyramid[0].new_zeros(len(rois), pyramid[0].shape[1], *size)
    for level, (level_map, stride) in enumerate(zip(pyramid, rule.strides, strict=True)):
        here = (levels == level).nonzero().flatten()
        features = roi_align(level_map, rois[here], size, 1 / stride, rule.sampling_ratio, True)
        pooled = pooled.index_copy(0, here, features)
    return pooled.unflatten(0, boxes_xyxy.shape[:2])


if __name__ == "__main__":
    main()
