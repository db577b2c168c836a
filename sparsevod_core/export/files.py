"""Files of exported graphs: ONNX, or `.pt2` of torch.export."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from sparsevod_core.errors import ConfigError
from sparsevod_core.export.graphs import FrameGraph, SupportGraph
from sparsevod_core.files.kinds import Kind
from sparsevod_core.files.lock import locked
from sparsevod_core.files.names import fitted
from sparsevod_core.files.unfinished import writing, writing_bytes
from sparsevod_core.model.detector import SparseVOD
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category

SUFFIXES = (".onnx", ".pt2")
FRAME_INPUTS = ("image", "support_maps", "support_proposals")
FRAME_OUTPUTS = ("boxes_xyxy", "scores", "labels")
SUPPORT_OUTPUTS = ("support_maps", "support_proposals")
SCHEMA = "sparsevod.export/1"
MAX_SIDE = 8192


def _is_own(path: Path) -> bool:
    content = path.read_bytes()
    return SCHEMA.encode("ascii") in content or b"sparsevod.json" in content


OWN_GRAPH = Kind("a graph exported by sparsevod", _is_own)


def export_detector(
    detector: VideoDetector,
    path: Path,
    *,
    image_size: tuple[int, int],
    categories: Sequence[Category],
    reporter: Reporter,
) -> list[Path]:
    """Write the frame graph to `path` and the support graph beside it, as `NAME_support`.

    Both have the input `image`: uint8 RGB [1, 3, height, width] of `image_size`. The support graph
    returns `support_maps` [1, HW, C] (HW positions of a map) and `support_proposals`
    [1, T, 2, N, C] (keys and values; [1, T, 1, N, C], only values, if the detector averages
    proposals). Concatenate those of S >= 2 frames along the first dimension for the frame graph. It
    returns `boxes_xyxy` [N, 4] in pixels of the image, `scores` [N] in 0..1 and `labels` [N], best
    first. The metadata of both files contains classes, size and names as JSON under "sparsevod".

    Returns:
        Paths of the files written.

    Raises:
        ConfigError: another detector than SparseVOD, another suffix, a size too large, packages
            for ONNX are missing, or there is another file.
        DataError: a file cannot be written, or another process is writing it.
    """
    if not isinstance(detector, SparseVOD):
        raise ConfigError(f"{type(detector).__name__} cannot be exported")
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected a file name ending in .onnx or .pt2")
    if max(image_size) > MAX_SIDE:
        height, width = image_size
        raise ConfigError(f"size {height}x{width}: expected at most {MAX_SIDE:,} pixels per side")
    if path.suffix == ".onnx":
        _need_onnx()
    frame, support = FrameGraph(detector, image_size), SupportGraph(detector, image_size)
    image = torch.zeros(1, 3, *image_size, dtype=torch.uint8)
    description = {
        "schema": SCHEMA,
        "image_size": list(image_size),
        "categories": [{"id": one.id, "name": one.name} for one in categories],
    }
    with torch.inference_mode():
        maps, proposals = (part.clone() for part in support(image))
    examples = tuple(part.repeat(3, *[1] * (part.dim() - 1)) for part in (maps, proposals))
    supports = Dim("supports", min=2, max=4096)
    path, support_path = graph_files(path)
    shapes = (None, {0: supports}, {0: supports})
    jobs = [
        _Job(path, frame, (image, *examples), FRAME_INPUTS, FRAME_OUTPUTS, shapes),
        _Job(support_path, support, (image,), FRAME_INPUTS[:1], SUPPORT_OUTPUTS, (None,)),
    ]
    with (
        locked([job.path for job in jobs]),
        reporter.progress("export", len(jobs), "graphs") as progress,
    ):
        for job in jobs:
            with _quiet():
                _write(job, description | {"graph": job.path.stem})
            progress.advance(note=job.path.name)
    return [job.path for job in jobs]


def graph_files(path: Path) -> tuple[Path, Path]:
    """Return the paths of the frame graph and the support graph."""
    return path, path.with_name(fitted(f"{path.stem}_support", path.suffix))


@dataclass(frozen=True, slots=True)
class _Job:
    """Graph to export, with example inputs and the names for its file."""

    path: Path
    graph: nn.Module
    examples: tuple[Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dynamic_shapes: tuple[Any, ...]


def _write(job: _Job, description: dict[str, Any]) -> None:
    """Export a graph to its file, which is complete or absent."""
    text = json.dumps(description | {"inputs": job.inputs, "outputs": job.outputs})
    program = torch.export.export(
        job.graph, job.examples, dynamic_shapes=job.dynamic_shapes, strict=False
    )
    if job.path.suffix == ".pt2":
        with writing_bytes(job.path, OWN_GRAPH) as file:
            torch.export.save(program, file, extra_files={"sparsevod.json": text})
        return
    onnx: Any = torch.onnx.export(
        program,
        (),
        input_names=job.inputs,
        output_names=job.outputs,
        dynamo=True,
        verbose=False,
    )
    onnx.model.metadata_props["sparsevod"] = text
    with writing(job.path, OWN_GRAPH) as temporary:
        onnx.save(temporary, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide exporters' warnings and disable attention's fast path, which cannot be exported."""
    optimizer = logging.getLogger("onnxscript")
    level = optimizer.level
    optimizer.setLevel(logging.ERROR)
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optimizer.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(enabled)


def _need_onnx() -> None:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ConfigError(
            "ONNX export needs packages that are not installed",
            hint="run pip install 'sparsevod[export]', or use -o model.pt2, which needs none",
        ) from None
