"""Convert a training checkpoint to the file that comes with the package.

    python examples/embedded/package.py runs/embedded/checkpoints/best.pth \\
        -o sparsevod_core/weights/sparsevod_lite0.pth

Weights are rounded to half precision, which halves the size, and converted to float32 when they are
loaded. Paths of the data and the training state are removed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparsevod_cli import console
from sparsevod_core.checkpoint import (
    Checkpoint,
    compact_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from sparsevod_core.errors import CheckpointError, SparseVodError

MAX_PARAMETERS = 8_000_000
MAX_BYTES = 16_000_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        packaged = compact_checkpoint(load_checkpoint(arguments.checkpoint))
        num_parameters = sum(value.numel() for value in packaged.model.values())
        require("parameters", num_parameters, MAX_PARAMETERS)
        num_bytes = write(packaged, arguments.output)
    except SparseVodError as error:
        console.error(error.message, error.hint)
        sys.exit(error.exit_code)
    names = ", ".join(category.name for category in packaged.categories)
    print(f"{arguments.output}: {num_bytes:,} bytes, {num_parameters:,} parameters; {names}")


def write(checkpoint: Checkpoint, output: Path) -> int:
    """Write the file only if it is small enough, and return its size in bytes."""
    candidate = output.with_name(output.name + ".candidate")
    save_checkpoint(candidate, checkpoint)
    try:
        num_bytes = candidate.stat().st_size
        require("bytes", num_bytes, MAX_BYTES)
        candidate.replace(output)
    finally:
        candidate.unlink(missing_ok=True)
    return num_bytes


def require(what: str, number: int, at_most: int) -> None:
    if number > at_most:
        raise CheckpointError(f"{number:,} {what}: a packaged model has at most {at_most:,}")


if __name__ == "__main__":
    main()
