"""The main job from end to end, each step a `sparsevod` command that is shown before it runs.

    python examples/demo.py [--video MY.mp4] [--output demo]

Run again, it goes on where it was cut off and keeps what is done. Options after `--` go to
`sparsevod train`, e.g. `-- --max-steps 50` for a quick look.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="also detect in this video")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("train_options", nargs="*", help="options of `sparsevod train`, after --")
    arguments = parser.parse_args()
    out, started = arguments.output, time.monotonic()
    data, run = out / "synthetic", out / "run"
    annotations = ["--annotations", data / "train.json", "--val", data / "val.json"]
    best, clip = run / "checkpoints" / "best.pth", data / "preview.mp4"

    if not clip.exists():
        step("Render a video set in ImageNet VID's layout and convert it")
        sparsevod("prepare-vid", "--synthetic", data)
    step("Train the small model, on the CPU where there is no GPU")
    processes = both_cores()
    if (run / "checkpoints" / "last.pth").exists():
        sparsevod("train", "--resume", run, *processes)
    else:
        batch = ["--set", f"train.clips_per_gpu={4 if processes else 8}"]
        training = ["--backbone", "tiny", "--output", run, *batch, *arguments.train_options]
        sparsevod("train", *annotations, *processes, *training)
    step("Measure average precision on videos that it has not seen")
    sparsevod("eval", best, "--json", out / "eval.json")
    step("Draw boxes on one of them")
    detections = ["--checkpoint", best, "--json", out / "detections.json"]
    sparsevod("detect", clip, "-o", out / "detections.mp4", *detections)
    made = [out / "detections.mp4", out / "detections.json", out / "stages.png", out / "stages.pdf"]
    if arguments.video is not None:
        own = out / f"{arguments.video.stem}_detections.mp4"
        sparsevod("detect", "-o", own, "--checkpoint", best, "--", arguments.video)
        made.insert(0, own)
    step("Show how proposals are refined stage by stage (the paper's Fig. 3)")
    sparsevod("visualize-stages", clip, "--checkpoint", best, "-o", out / "stages.png")

    step(f"Done in {(time.monotonic() - started) / 60:.1f} minutes. Look at")
    for path in [*made, out / "eval.json", run / "metrics.jsonl"]:
        print(f"  {path}")


def both_cores() -> list[str]:
    """Without a GPU two processes share each step's 8 clips: faster than two threads in one."""
    import torch

    if torch.cuda.is_available() or (os.cpu_count() or 1) < 2:
        return []
    return ["--device", "cpu", "--gpus", "2"]


def step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def sparsevod(*arguments: str | Path) -> None:
    words = [str(argument) for argument in arguments]
    print(f"$ sparsevod {shlex.join(words)}", flush=True)
    finished = subprocess.run([sys.executable, "-m", "sparsevod_cli", *words], check=False)
    if finished.returncode:
        sys.exit(finished.returncode)


if __name__ == "__main__":
    main()
