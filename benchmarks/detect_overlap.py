"""Overlap of decoding, model and encoding in `sparsevod detect`: wall time against its parts.

Decoding, the model, and drawing with encoding are each timed separately, then `detect_video` as a
whole, in turn, on a 720p video. The models are R50 at 600x1000, and a stand-in for a GPU that waits
a given time for each batch, so that each of the three parts is the slowest once.

    OMP_NUM_THREADS=1 python benchmarks/detect_overlap.py --out detect_overlap.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from hardware import about_this_machine

from sparsevod_core.config import load_config
from sparsevod_core.inference import Predictor, detect_video
from sparsevod_core.inference.drawing import Drawing, Painter
from sparsevod_core.inference.intake import InputBatch, Intake
from sparsevod_core.inference.transfers import PlainTransfers
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category, Detections
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.writer import VideoWriter

WIDTH, HEIGHT = 1280, 720
RATE = Fraction(30)
BOXES = 8  # drawn on each frame


class Waiting(Predictor):
    """Predictor that returns fixed detections after a delay that uses no CPU, like a GPU."""

    wait_s = 0.0
    _is_done_s = 0.0

    def _start(
        self, inputs: InputBatch, memory: Any, *, clip: bool
    ) -> Callable[[], list[Detections]]:
        count = len(inputs.frames)
        done_s = max(self._is_done_s, time.perf_counter()) + self.wait_s * count
        self._is_done_s = done_s

        def read() -> list[Detections]:
            time.sleep(max(done_s - time.perf_counter(), 0))
            return [same_detections()] * count

        return read


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--r50-frames", type=int, default=12, help="0 skips R50")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wait-ms", type=float, nargs="+", default=[5, 20, 69])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = make_video(folder / "long.mp4", arguments.frames)
        for wait_ms in arguments.wait_ms:
            model = waiting(wait_ms / 1000)
            rows.append({"detector": f"waits {wait_ms:g} ms", **measure(model, video, arguments)})
            show(rows[-1])
        if arguments.r50_frames:
            video = make_video(folder / "short.mp4", arguments.r50_frames)
            arguments.rounds = min(arguments.rounds, 3)
            rows.append({"detector": "r50", **measure(r50(), video, arguments)})
            show(rows[-1])
    result = {
        "machine": about_this_machine("torch", "av", "numpy"),
        "video": f"{WIDTH}x{HEIGHT}, H.264",
        "rounds": arguments.rounds,
        "seconds": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(predictor: Predictor, video: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return median seconds of each part and of `detect_video`, which take turns."""
    with VideoReader(video) as reader:
        frames = list(reader)
    painter = Painter(Drawing(), predictor.categories, WIDTH, HEIGHT, 0)
    out = video.with_name("out.mp4")

    def decode() -> None:
        with VideoReader(video) as reader:
            for _ in reader:
                pass

    def model() -> None:
        for _ in predictor.frames(Recorded(frames)):
            pass

    def encode() -> None:
        with VideoWriter(out, WIDTH, HEIGHT, frame_rate=RATE) as writer:
            for frame in frames:
                writer.write(painter.paint(frame.image, same_detections()), frame.time_s)

    def whole() -> None:
        detect_video(predictor, video, out)

    parts = {"decode": decode, "model": model, "draw and encode": encode, "detect": whole}
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(arguments.rounds):
        for name, part in parts.items():
            times[name].append(seconds(part))
    found = {name: round(median(values), 3) for name, values in times.items()}
    slowest = max(found[name] for name in ("decode", "model", "draw and encode"))
    return {"frames": len(frames), **found, "over_the_slowest": round(found["detect"] / slowest, 3)}


class Recorded:
    """Decoded frames with the interface of a video."""

    def __init__(self, frames: list[Any]) -> None:
        self._frames = frames

    def __iter__(self) -> Any:
        return iter(self._frames)

    def num_frames(self) -> int:
        return len(self._frames)

    def frames_at(self, indices: Any) -> list[Any]:
        return [self._frames[index] for index in indices]


def seconds(part: Callable[[], None]) -> float:
    start = time.perf_counter()
    part()
    return time.perf_counter() - start


def show(row: dict[str, Any]) -> None:
    sys.stdout.write(" ".join(f"{key} {value}" for key, value in row.items()) + "\n")
    sys.stdout.flush()


def make_video(path: Path, count: int) -> Path:
    """Write a video of a moving image with some noise."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(40, 215, (HEIGHT // 40, WIDTH // 40, 3), np.uint8)
    picture = coarse.repeat(40, 0).repeat(40, 1)
    with VideoWriter(path, WIDTH, HEIGHT, frame_rate=RATE) as writer:
        for number in range(count):
            grain = generator.integers(-6, 7, picture.shape, np.int16)
            moved = np.roll(picture, 4 * number, axis=1) + grain
            writer.write(moved.clip(0, 255).astype(np.uint8), number / RATE)
    return path


def same_detections() -> Detections:
    x, y = np.meshgrid(np.arange(4) * 300 + 40, np.arange(2) * 300 + 60)
    low = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    scores = np.linspace(0.95, 0.5, BOXES, dtype=np.float32)
    return Detections(np.concatenate([low, low + 180], axis=1), scores, np.arange(BOXES) % 3)


def waiting(wait_s: float) -> Predictor:
    config = load_config(
        "tiny", overrides=["model.num_classes=3", "model.tfe=off", "model.spfa=off"]
    )
    categories = [Category(n, name) for n, name in enumerate(("car", "dog", "bird"), start=1)]
    predictor = Waiting(build_detector(config.model), config, categories, device="cpu")
    to_device = PlainTransfers(predictor.device)
    predictor.intake = Intake(config.data, to_device, where="device", ahead=1)
    predictor.wait_s = wait_s
    return predictor


def r50() -> Predictor:
    overrides = ["model.num_classes=3", "inference.precision=auto"]
    config = load_config("r50", overrides=overrides)
    categories = [Category(n, name) for n, name in enumerate(("car", "dog", "bird"), start=1)]
    return Predictor(build_detector(config.model), config, categories, device="cpu")


if __name__ == "__main__":
    main()
