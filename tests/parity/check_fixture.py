"""Compare our modules with the results of a reference implementation.

    python tests/parity/check_fixture.py FOLDER

FOLDER holds `weights.safetensors`, `config.json`, and `io.safetensors` (or, for an entire model,
`frames.safetensors` and `expected.safetensors`) of a reference, identified by the names of its
weights (see `CHECKS`). The script prints the largest absolute difference of every quantity. The
exit code is 1 if a teacher-forced quantity (each step gets the reference's inputs) exceeds its
tolerance. Free-running quantities, in which our differences accumulate, are only printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from box_head import check_box_head
from faster_rcnn import check_faster_rcnn
from fgfa import check_fgfa
from mega import check_mega
from mmtracking import check_mmtracking
from report import Report
from safetensors.torch import load_file
from selsa_aggregator import check_selsa
from sparse_rcnn import check_sparse_rcnn
from temporal_roi_align import check_temporal_roi_align
from transvod import check_transvod

Check = Callable[[dict, dict, dict, Report], None]

# The first entry whose texts all begin the name of some weight is the reference.
CHECKS: list[tuple[tuple[str, ...], Check]] = [
    (("detector.rpn_head.rpn_conv",), check_mmtracking),
    (("rpn_head.init_proposal",), check_sparse_rcnn),
    (("embed_network.",), check_temporal_roi_align),
    (("fc_embed",), check_selsa),
    (("l_Wgs.",), check_mega),
    (("bbox_head.shared_fcs.", "bbox_head.aggregator."), check_box_head),
    (("transformer.temporal_query_layer1.",), check_transvod),
    (("neck.", "rpn_head.rpn_conv"), check_faster_rcnn),
    (("motion.conv", "aggregator.embed_convs"), check_fgfa),
]


def main(folder: Path) -> int:
    """Return 0 if all teacher-forced quantities agree, 1 if not, 2 if FOLDER is no fixture."""
    try:
        weights = load_file(folder / "weights.safetensors")
        io = {}
        for part in ("io", "frames", "expected"):  # an entire model has the last two
            if (folder / f"{part}.safetensors").exists():
                io |= load_file(folder / f"{part}.safetensors")
        config = json.loads((folder / "config.json").read_text())
    except OSError as error:
        print(f"error: {folder} is not a fixture folder: {error}", file=sys.stderr)
        return 2
    for starts, check in CHECKS:
        if all(any(name.startswith(start) for name in weights) for start in starts):
            report = Report()
            check(weights, io, config, report)
            print(f"{len(report.failed)} of the teacher-forced quantities failed")
            return 1 if report.failed else 0
    print(f"error: {folder}: no known reference has weights like {min(weights)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    sys.exit(main(parser.parse_args().folder))
