"""Memory of evaluation and detection over many video files: the curve against frames.

Renders small videos of moving squares, with labels, and runs a small model with random weights on
them, in this process and with the allocator configured as `sparsevod` does. After every 500
frames it reads how much anonymous memory the process has (/proc/self/smaps_rollup). Evaluation
keeps all detections, 46 bytes each; nothing else may grow.

    python benchmarks/video_memory.py --frames 20000 --out video_memory.json
    python benchmarks/video_memory.py --frames 1500 --frames-per-video 150 --size 512x640 \\
        --model bundled
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hardware import about_this_machine

EVERY = 500
DETECTIONS_PER_FRAME = 100  # COCO's limit


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--frames-per-video", type=int, default=50)
    parser.add_argument("--size", default="64x64", help="HEIGHTxWIDTH of the videos")
    parser.add_argument("--model", choices=("small", "bundled"), default="small")
    parser.add_argument("--run", choices=("eval", "detect"), default="eval")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from sparsevod_core.allocator import keep_freed_memory

    if not keep_freed_memory():
        raise SystemExit("needs glibc and no allocator settings in the environment")
    height, width = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        annotations = render(
            Path(folder), arguments.frames, arguments.frames_per_video, height, width
        )
        run = {"eval": evaluate, "detect": detect}[arguments.run]
        samples = run(annotations, small_model() if arguments.model == "small" else bundled_model())
    if arguments.out:
        machine = about_this_machine("torch")
        conditions = {
            "run": arguments.run,
            "model": arguments.model,
            "frames": arguments.frames,
            "frames_per_video": arguments.frames_per_video,
            "size": [height, width],
        }
        content = {"machine": machine, **conditions, "samples": samples}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


def render(folder: Path, num_frames: int, frames_per_video: int, height: int, width: int) -> Path:
    """Write videos of a moving square and their annotations; return the path of the latter."""
    import av
    import numpy as np

    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    side = height // 4
    for start in range(0, num_frames, frames_per_video):
        number, name = len(videos) + 1, f"{len(videos):04}.mp4"
        videos.append({"id": number, "name": name, "file_name": name})
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in range(min(frames_per_video, num_frames - start)):
                pixels = np.full((height, width, 3), (number * 37) % 256, np.uint8)
                left = frame * 3 % (width - side)
                pixels[side : 2 * side, left : left + side] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                image = {"id": start + frame + 1, "video_id": number, "frame_id": frame}
                images.append(image | {"file_name": name, "width": width, "height": height})
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": image["id"],
                        "category_id": 1,
                        "instance_id": number,
                        "bbox": [left, side, side, side],
                    }
                )
            container.mux(stream.encode(None))
    categories = [{"id": 1, "name": "square"}]
    content = {"videos": videos, "categories": categories, "images": images, "annotations": boxes}
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def evaluate(annotations: Path, predictor: Any) -> list[dict[str, float]]:
    """Evaluate on all videos and return the samples."""
    from sparsevod_core.data.records import VideoSet
    from sparsevod_core.evaluation.evaluate import evaluate as run

    sampler = Sampler()
    run(predictor, VideoSet.load(annotations, for_scoring=True), reporter=sampler)
    sampler.sample("scored")
    return sampler.samples


def detect(annotations: Path, predictor: Any) -> list[dict[str, float]]:
    """Detect in all videos, each with a file of detections, and return the samples."""
    from sparsevod_core.inference.detect_video import detect_video

    sampler = Sampler()
    for video in sorted(annotations.parent.glob("*.mp4")):
        files = {"json": video.with_suffix(".json")}
        detect_video(predictor, video, None, results=files, reporter=sampler)
    return sampler.samples


def bundled_model() -> Any:
    from sparsevod_core.inference import Predictor

    return Predictor.from_checkpoint(device="cpu")


def small_model() -> Any:
    import torch

    from sparsevod_core.config import load_config
    from sparsevod_core.inference import Predictor
    from sparsevod_core.model.build import build_detector
    from sparsevod_core.structures import Category

    small = ["model.num_stages=1", "model.channels=16", "model.ffn_dim=32", "model.dynamic_dim=4"]
    small += ["model.num_heads=2", "model.spfa_heads=2", "model.num_classes=1"]
    small += [f"model.num_proposals={DETECTIONS_PER_FRAME}"]
    small += ["data.short_side=64", "data.long_side=96", "inference.supports=2"]
    torch.manual_seed(0)
    config = load_config("tiny", overrides=small)
    detector = build_detector(config.model)
    return Predictor(detector, config, [Category(1, "square")], device="cpu")


class Sampler:
    """Reporter that samples the memory while frames are counted."""

    def __init__(self) -> None:
        self.samples: list[dict[str, float]] = []
        self._frames = 0
        self._start = time.monotonic()

    @contextmanager
    def progress(self, label: str, total: int | None, unit: str = "frames") -> Iterator[Sampler]:
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._frames += steps
        if steps and self._frames % EVERY == 0:
            self.sample(f"{self._frames} frames")

    def message(self, text: str) -> None:
        pass

    warning = message

    def sample(self, label: str) -> None:
        """Print and keep the anonymous memory of this process."""
        text = Path("/proc/self/smaps_rollup").read_text()
        kib = int(re.findall(r"^Anonymous:\s+(\d+) kB", text, re.MULTILINE)[0])
        seconds = round(time.monotonic() - self._start, 1)
        self.samples.append({"frames": self._frames, "mib": round(kib / 1024, 1), "s": seconds})
        sys.stdout.write(f"{label}: {kib / 1024:.1f} MiB, {seconds} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
