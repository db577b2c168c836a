"""Roofline plot (Williams et al., 2009) of a measured frame.

python benchmarks/plot_roofline.py benchmarks/results/inference_cpu.json docs/pictures/roofline.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

RIGHT = (
    "backbone",
    "pyramid",
    "head",
    "spfa",
)  # these labels are right of their markers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measured", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    measured = json.loads(arguments.measured.read_text(encoding="utf-8"))
    roof = measured["roofline"]
    peak, bandwidth = roof["bf16_peak_gflops"], roof["bandwidth_gb_s"]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    intensity = np.geomspace(1, 2000, 200)
    axes.loglog(intensity, np.minimum(peak, bandwidth * intensity), color="0.35")
    axes.annotate(f"bf16 products: {peak:.0f} GFLOP/s", (1900, peak * 1.08), ha="right")
    axes.annotate(
        f"memory: {bandwidth:.0f} GB/s", (3, bandwidth * 3 * 0.62), rotation=40, ha="left"
    )
    for name, part in roof["parts"].items():
        moved_gb = part["mib_moved"] * 2**20 / 1e9
        rate = part["gflop"] / (part["milliseconds"] / 1000)
        x = part["gflop"] / moved_gb
        axes.scatter(x, rate, s=12 + 2 * part["milliseconds"], zorder=3, alpha=0.8)
        label = f"{name}, {part['milliseconds']:.0f} ms"
        side = ("left", 12) if name in RIGHT else ("right", -12)
        axes.annotate(
            label, (x, rate), xytext=(side[1], -3), textcoords="offset points", ha=side[0]
        )
    axes.set_ylim(bandwidth * 0.9, peak * 1.6)
    axes.set_xlabel("operations per byte of the operators' inputs and outputs")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"A frame of R50 at 600x1000, 6 supports: {measured['machine']['processor']}")
    figure.savefig(arguments.picture, dpi=130)


if __name__ == "__main__":
    main()
