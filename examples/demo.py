"""Detection, training and evaluation from start to end with `sparsevod` commands.

    python examples/demo.py [--video MY.mp4] [--output demo]

The demo first detects objects with the bundled model, within a minute. It then renders training
videos, trains a model, evaluates it and detects with it. Each command is printed before it runs.
Run the demo again to resume it; finished steps are skipped. Options after `--` are passed to
`sparsevod train`, e.g. `-- --max-steps 50` for a quick look.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="also detect objects in this video")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("train_options", nargs="*", help="options for `sparsevod train`, after --")
    arguments = parser.parse_args()
    out, started = arguments.output, time.monotonic()
    data, first_run, run = out / "synthetic", out / "single_frame_run", out / "run"
    annotations = ["--annotations", data / "train.json", "--val", data / "val.json"]
    best, clip = run / "checkpoints" / "best.pth", data / "preview.mp4"

    made = boxes_at_once(out, arguments.video)
    if not clip.exists():
        step("Render a video set in ImageNet VID's layout and convert it")
        sparsevod("prepare-vid", "--synthetic", data)
    step("Train a small detector on single frames, on a GPU if there is one")
    single = ["--set", "model.tfe=off", "--set", "model.spfa=off"]
    train(first_run, [*annotations, *single, *arguments.train_options])
    # With random weights, TFE would blend features that mean nothing yet
    # (docs/results_from_noise.md).
    step("Continue with TFE and SPFA, which use other frames of the video")
    start = ["--init-from", first_run / "checkpoints" / "last.pth", "--seed", "1"]
    briefly = ["--set", "train.epochs=1", "--set", "train.eval_every=1"]
    train(run, [*annotations, *start, *briefly, *arguments.train_options])
    step("Compute average precision on the validation videos")
    sparsevod("eval", best, "--json", out / "eval.json")
    step("Draw boxes on one of these videos")
    detections = ["--checkpoint", best, "--json", out / "detections.json"]
    sparsevod("detect", clip, "-o", out / "detections.mp4", *detections)
    made += [out / "detections.mp4", out / "detections.json"]
    if arguments.video is not None:
        own = out / f"{arguments.video.stem}_detections.mp4"
        sparsevod("detect", "-o", own, "--checkpoint", best, "--", arguments.video)
        made.append(own)
    step("Show how the stages refine the proposals (the paper's Fig. 3)")
    sparsevod("visualize-stages", clip, "--checkpoint", best, "-o", out / "stages.png")

    step(f"Done in {(time.monotonic() - started) / 60:.1f} minutes. Results:")
    others = [out / "stages.png", out / "stages.pdf", out / "eval.json", run / "metrics.jsonl"]
    for path in [*made, *others]:
        print(f"  {path}")


def boxes_at_once(out: Path, own_video: Path | None) -> list[Path]:
    """Detect with the bundled model in a rendered video and the user's; return the outputs."""
    clip = out / "first" / "preview.mp4"
    if not clip.exists():
        step("Render a video")
        one = ["--videos", "1", "--frames", "1", "--val-videos", "1"]
        sparsevod("prepare-vid", "--synthetic", clip.parent, *one)
    step("Draw boxes on it with the bundled model")
    made = [out / "embedded.mp4"]
    sparsevod("detect", clip, "-o", made[0])
    if own_video is not None:
        made.append(out / f"{own_video.stem}_embedded.mp4")
        sparsevod("detect", "-o", made[-1], "--", own_video)
    step(f"Written: {' and '.join(map(str, made))}. Training a model takes longer")
    return made


def train(run: Path, options: Sequence[str | Path]) -> None:
    """Train in the folder `run`, or resume there."""
    processes = both_cores()
    if (run / "checkpoints" / "last.pth").exists():
        sparsevod("train", "--resume", run, *processes)
        return
    batch = ["--set", f"train.clips_per_gpu={4 if processes else 8}"]
    sparsevod("train", *processes, "--backbone", "tiny", "--output", run, *batch, *options)


def both_cores() -> list[str]:
    """Return options for two CPU processes, which are faster than two threads in one process."""
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
