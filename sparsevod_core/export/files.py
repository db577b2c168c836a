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
from sparsevod_core.export.systems import graphs_of
from sparsevod_core.files.kinds import Kind
from sparsevod_core.files.lock import locked
from sparsevod_core.files.names import fitted
from sparsevod_core.files.unfinished import writing, writing_bytes
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category

SUFFIXES = (".onnx", ".pt2")
FRAME_OUTPUTS = ("boxes_xyxy", "scores", "labels")
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
    returns what a target frame needs of a support frame: one or more of

    - `support_maps` [1, HW, C]: HW positions of a map,
    - `support_proposals`: keys and values of n proposals, [1, T, 2, n, C] with T stages (SparseVOD;
      [1, T, 1, n, C], only values, if it averages proposals) or layers of the box head,
    - `support_valid` [1, n]: which of the rows are proposals.

    Concatenate those of S >= 2 frames along the first dimension for the frame graph. It returns
    `boxes_xyxy` [M, 4] in pixels of the image, `scores` [M] in 0..1 and `labels` [M], best first;
    rows with score 0 are no detections. The metadata of both files contains classes, size and names
    as JSON under "sparsevod". A detector of single frames has no support graph.

    Returns:
        Paths of the files written.

    Raises:
        ConfigError: a detector that cannot be exported, another suffix, a size too large, packages
            for ONNX are missing, or there is another file.
        DataError: a file cannot be written, or another process is writing it.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: expected a file name ending in .onnx or .pt2")
    if max(image_size) > MAX_SIDE:
        height, width = image_size
        raise ConfigError(f"size {height}x{width}: expected at most {MAX_SIDE:,} pixels per side")
    if path.suffix == ".onnx":
        _need_onnx()
    graphs = graphs_of(detector, image_size)
    image = torch.zeros(1, 3, *image_size, dtype=torch.uint8)
    description = {
        "schema": SCHEMA,
        "image_size": list(image_size),
        "categories": [{"id": one.id, "name": one.name} for one in categories],
    }
    path, support_path = graph_files(path)
    remembered: tuple[Tensor, ...] = ()
    jobs = []
    if graphs.support is not None:
        with torch.inference_mode():
            remembered = tuple(part.clone() for part in graphs.support(image))
        jobs.append(
            _Job(support_path, graphs.support, (image,), ("image",), graphs.remembered, (None,))
        )
    examples = (part.repeat(3, *[1] * (part.dim() - 1)) for part in remembered)
    supports = Dim("supports", min=2, max=4096)
    shapes = (None, *({0: supports} for _ in remembered))
    inputs = ("image", *graphs.remembered)
    jobs.insert(0, _Job(path, graphs.frame, (image, *examples), inputs, FRAME_OUTPUTS, shapes))
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
        custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
        dynamo=True,
        verbose=False,
    )
    onnx.model.metadata_props["sparsevod"] = text
    with writing(job.path, OWN_GRAPH) as temporary:
        onnx.save(temporary, external_data=False)


def _stable_sort(
    values: Any, *, stable: bool, dim: int = -1, descending: bool = False
) -> tuple[Any, Any]:
    """Return the ONNX operation for `torch.sort`; of equal values, it takes the first one first."""
    from onnxscript import opset18

    length = opset18.Shape(values, start=dim, end=None if dim == -1 else dim + 1)
    return opset18.TopK(values, length, axis=dim, largest=int(descending))


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
