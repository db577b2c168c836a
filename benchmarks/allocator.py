"""Time saved by keeping freed memory on a CPU: R50 at 600x1000 with 6 support frames.

Fresh processes take turns, one with glibc's default allocator, one as `sparsevod` configures it.

    python benchmarks/allocator.py --rounds 3 --out allocator.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from hardware import about_this_machine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", choices=("as it is", "kept"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        json.dump(measure(arguments.frames, keeps=arguments.measure == "kept"), sys.stdout)
        return
    rows: dict[str, list[dict[str, Any]]] = {"as it is": [], "kept": []}
    for _ in range(arguments.rounds):
        for name, found in rows.items():
            words = [sys.executable, __file__, "--measure", name, "--frames", str(arguments.frames)]
            child = subprocess.run(words, capture_output=True, text=True, check=True)
            found.append(json.loads(child.stdout))
    result = {
        name: {
            "seconds_per_frame": round(median(s for one in found for s in one["seconds"]), 3),
            "peak_mib": max(one["peak_mib"] for one in found),
            "page_faults_per_frame": round(median(one["page_faults"] for one in found)),
        }
        for name, found in rows.items()
    }
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.out:
        machine = about_this_machine("torch")
        arguments.out.write_text(json.dumps({"machine": machine, **result}, indent=1) + "\n")


def measure(frames: int, *, keeps: bool) -> dict[str, Any]:
    """Measure in this process, which is a fresh one."""
    from sparsevod_core.allocator import keep_freed_memory

    if keeps and not keep_freed_memory():
        raise SystemExit("needs glibc and no allocator settings in the environment")
    import torch

    from sparsevod_core.config import load_config
    from sparsevod_core.model.build import build_detector

    detector = build_detector(load_config("r50").model).eval()
    image = torch.randint(0, 255, (1, 3, 608, 1024), dtype=torch.uint8)
    sizes = torch.tensor([[600, 1000]])
    seconds = []
    with torch.inference_mode():
        supports = detector.encode(image.expand(6, -1, -1, -1), sizes.expand(6, 2))
        memory = detector.remember(supports)
        detector.detect(detector.encode(image, sizes), memory)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(frames):
            start = time.perf_counter()
            detector.detect(detector.encode(image, sizes), memory)
            seconds.append(time.perf_counter() - start)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "peak_mib": usage.ru_maxrss // 1024,
        "page_faults": (usage.ru_minflt - before) / frames,
    }


if __name__ == "__main__":
    main()
