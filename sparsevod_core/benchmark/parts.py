"""Seconds of the parts of a detector per target frame.

They are timed in separate passes, as synchronizing after each part slows a pass down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsevod_core.benchmark.timing import now
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.two_stage.troi import Troi
from sparsevod_core.model.video_detector import VideoDetector

OF_SPARSEVOD = ("backbone", "pyramid", "head", "tfe", "spfa", "output")
OF_OTHERS = ("backbone", "proposals", "head", "output")
BACKBONE_CALLS = ("forward", "stage_maps", "roi_map")


def part_seconds(
    model: VideoDetector,
    targets: Tensor,
    sizes: Tensor,
    detect: Callable[[Any], Any],
    passes: int,
    device: torch.device,
) -> dict[str, list[float]]:
    """Return the seconds of each part in several passes over the same target frames.

    SparseVOD: `backbone` includes the FPN unless it is computed lazily; `pyramid` is the lazy FPN
    and pooling. Others: `proposals` is the rest of `encode` (RPN; TransVOD's transformer), `head`
    all that follows, without `tfe` (Temporal RoI Align) or `aggregation` (FGFA's flow, warped maps
    and their mean).

    Args:
        model: detector whose parts are launched one by one.
        targets, sizes: frames as `encode` takes them.
        detect: encoding to output.
        passes: number of passes.
        device: device of the model.
    """
    spent: dict[str, float] = {}
    rows = []
    with _timers(model, spent, device):
        for _ in range(passes):
            spent.clear()
            marks = [now(device)]
            encoded = model.encode(targets, sizes)
            marks.append(now(device))
            if isinstance(model, SparseVOD):
                encoded.pool = _timed(encoded.pool, "pyramid", spent, device)
            output = detect(encoded)
            marks.append(now(device))
            model.top(output)
            marks.append(now(device))
            encode, refine, top = np.diff(marks).tolist()
            rows.append(_row(model, encode, refine, top, spent))
    return {name: [row[name] for row in rows] for name in rows[0]}


def _row(
    model: VideoDetector, encode: float, refine: float, output: float, spent: dict[str, float]
) -> dict[str, float]:
    """Return the seconds of each part in one pass."""
    if isinstance(model, SparseVOD):
        inside = {name: spent.get(name, 0.0) for name in ("pyramid", "tfe", "spfa")}
        head = refine - sum(inside.values())
        row = {"backbone": encode, "head": head, "output": output, **inside}
        return {name: row[name] for name in OF_SPARSEVOD}
    inside = {name: seconds for name, seconds in spent.items() if name != "backbone"}
    row = {
        "backbone": spent["backbone"],
        "proposals": encode - spent["backbone"],
        "head": refine - sum(inside.values()),
        "output": output,
    }
    return {name: row[name] for name in OF_OTHERS} | inside


@contextmanager
def _timers(model: VideoDetector, spent: dict[str, float], device: torch.device) -> Iterator[None]:
    """Add the seconds in parts of the model to `spent`, by name."""
    places = _calls(model)
    for owner, call, name in places:
        setattr(owner, call, _timed(getattr(owner, call), name, spent, device))
    try:
        yield
    finally:
        for owner, call, _ in places:
            delattr(owner, call)


def _calls(model: VideoDetector) -> list[tuple[nn.Module, str, str]]:
    """Return modules, the names of their methods to time, and the names of the parts."""
    if isinstance(model, SparseVOD):
        parts: list[tuple[nn.Module | None, str]] = []
        for stage in model.stages:
            parts += [(stage.temporal_roi, "tfe"), (stage.aggregation, "spfa")]
        return [(module, "forward", name) for module, name in parts if module is not None]
    backbone: Any = model.backbone
    calls = [call for call in BACKBONE_CALLS if hasattr(backbone, call)]
    places: list[tuple[nn.Module, str, str]] = [(backbone, call, "backbone") for call in calls]
    if isinstance(model, Troi):
        places.append((model, "temporal_rois", "tfe"))
    if isinstance(model, FGFA):
        places.append((model.map_aggregation, "forward", "aggregation"))
    return places


def _timed(
    call: Callable[..., Any], name: str, spent: dict[str, float], device: torch.device
) -> Callable[..., Any]:
    def timed(*inputs: Any, **options: Any) -> Any:
        before, start = spent.get(name, 0.0), now(device)
        result = call(*inputs, **options)
        spent[name] = before + now(device) - start  # timed calls inside this one count once
        return result

    return timed
