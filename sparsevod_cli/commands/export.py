"""`sparsevod export`: a checkpoint as graphs that other programs run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import JsonOut, parse_size
from sparsevod_core.errors import ConfigError


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CKPT", help="Ours, MMDetection's or the original's; else the embedded."
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="model.onnx, or model.pt2 (torch.export)."
        ),
    ] = Path("model.onnx"),
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Frame size, HEIGHTxWIDTH; else short side x long side of the config."
        ),
    ] = None,
    json_out: JsonOut = None,
) -> None:
    """Write a checkpoint as two graphs, fp32, for frames of one size: targets and support frames.

    -o model.onnx writes model_support.onnx too. The support graph makes of `image` (uint8 RGB
    [1, 3, height, width]) `support_maps` and `support_proposals`; of two or more frames, side by
    side along the first dimension, they go into model.onnx with a target's `image`; out come
    `boxes_xyxy` [N, 4] in pixels of the image, `scores` [N] and `labels` [N], best first.

    Resize frames to the size first: as big as fits, the rest black at the right and below. Both
    files carry size, classes and names of inputs and outputs, as JSON under "sparsevod" in their
    metadata.

    Keys of --json: schema ("sparsevod.export/1"), files, image_size, categories.

    Example: sparsevod export runs/r50/checkpoints/best.pth -o model.onnx --size 600x1000
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.checkpoint import load_detector
    from sparsevod_core.export import SUFFIXES, export_detector

    if output.suffix not in SUFFIXES:
        raise ConfigError(f"-o {output}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if not output.parent.is_dir():
        raise ConfigError(f"-o {output}: there is no folder {output.parent}")
    reporter = ConsoleReporter()
    detector, loaded = load_detector(checkpoint, reporter=reporter)
    data = loaded.config.data
    image_size = parse_size(size) if size else (data.short_side, data.long_side)
    files = export_detector(
        detector, output, image_size=image_size, categories=loaded.categories, reporter=reporter
    )
    if json_out is not None:
        console.write_json(
            json_out,
            {
                "schema": "sparsevod.export/1",
                "files": [str(file) for file in files],
                "image_size": list(image_size),
                "categories": [{"id": one.id, "name": one.name} for one in loaded.categories],
            },
        )
    for file in files:
        console.say(str(file))
