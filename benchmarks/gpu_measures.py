"""Measurements of gpu_check.py. Each runs in its own process and yields its results one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import torch
from scene import random_detector, scene_frames
from torch import Tensor

from sparsevod_core.benchmark.accuracy import stage_differences
from sparsevod_core.benchmark.timing import autocast, now, seconds_of, synchronize
from sparsevod_core.benchmark.training_step import TrainingStep
from sparsevod_core.checkpoint import load_detector
from sparsevod_core.config import Config, load_config
from sparsevod_core.data.loader import TrainingBatch
from sparsevod_core.embedded import embedded_checkpoint
from sparsevod_core.fast import Plan, computing_in, optimized, plan_for
from sparsevod_core.fast.graphed_training import GraphedTraining
from sparsevod_core.fast.plan import plan_for_training
from sparsevod_core.fast.recorded import RecordedDetector
from sparsevod_core.inference import Predictor
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.structures import Category, Clip, Targets

REPOSITORY = Path(__file__).parents[1]
SUPPORTS = 6
RIVAL = "fasterrcnn_resnet50_fpn_v2"
UNTIL_RECORDED = 3  # calls with one shape: launch, compile and record, replay

Model: TypeAlias = SparseVOD | RecordedDetector
Found: TypeAlias = Iterator[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Size of the measurements.

    Attributes:
        preset: Preset of the model.
        size: (height, width) of its input in pixels.
        batches: Small and large batch size.
        repeats: Number of timed runs.
        videos: (height, width) of the videos for `detect`.
        video_frames: Number of frames of each video.
        image_frames: Number of JPEG files for `eval`.
        changes: Number of batches during which memory must not grow.
    """

    preset: str
    size: tuple[int, int]
    batches: tuple[int, int]
    repeats: int
    videos: tuple[tuple[int, int], ...]
    video_frames: int
    image_frames: int
    changes: int


WHOLE = Scale(
    preset="r50",
    size=(600, 1000),
    batches=(1, 16),
    repeats=20,
    videos=((720, 1280), (1080, 1920)),
    video_frames=160,
    image_frames=600,
    changes=200,
)
SMALL = Scale(
    preset="tiny",
    size=(96, 160),
    batches=(1, 16),
    repeats=2,
    videos=((96, 160),),
    video_frames=20,
    image_frames=24,
    changes=12,
)


def tests(device: torch.device, scale: Scale) -> Found:
    """Run `tests/gpu`, one process per file; they skip what lacks a package or a second GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    running = {
        file.stem: subprocess.Popen(
            [*command, str(file)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        for file in sorted((REPOSITORY / "tests" / "gpu").glob("test_*.py"))
    }
    exit_codes = []
    for name, process in running.items():
        output, _ = process.communicate()
        sys.stdout.write(output)
        exit_codes.append(process.returncode)
        yield {name: (output.splitlines() or [""])[-1]}
    yield {"exit_code": max(exit_codes)}


@torch.inference_mode()
def model(device: torch.device, scale: Scale) -> Found:
    """Frames per second by batch (compiled and recorded, recorded, launched), and first use."""
    detector = random_detector(scale.preset, scale.size).to(device)
    plan = plan_for(device, "bf16", compiled=True)
    quick, first_s = _first_use(detector, plan, device, scale)
    yield {"first_use_s": first_s}
    plans = {
        "compiled": plan,
        "recorded": replace(plan, compiled=False),
        "launched": replace(plan, compiled=False, recorded=False),
    }
    # Figures with a target come first.
    for name in plans:
        for batch in reversed(scale.batches):
            # A detector that has seen a larger batch pads smaller ones to it.
            is_ready = name == "compiled" and batch == max(scale.batches)
            made = quick if is_ready else optimized(detector, plans[name])
            call = _batch_of(made, device, scale, batch)
            rate = batch / _seconds({name: call}, device, scale.repeats)[name]
            yield {f"{name}_batch_{batch}": rate}


@torch.inference_mode()
def warm_start(device: torch.device, scale: Scale) -> Found:
    """First use with the compiler cache that `model` has filled."""
    detector = random_detector(scale.preset, scale.size).to(device)
    plan = plan_for(device, "bf16", compiled=True)
    yield {"first_use_s": _first_use(detector, plan, device, scale)[1]}


@torch.inference_mode()
def temporal(device: torch.device, scale: Scale) -> Found:
    """Time that TFE and SPFA add to Sparse R-CNN with the same optimizations."""
    plan = plan_for(device, "bf16", compiled=True)
    variants = {"baseline": ("model.tfe=off", "model.spfa=off"), "whole": ()}
    models = {
        name: optimized(random_detector(scale.preset, scale.size, *settings).to(device), plan)
        for name, settings in variants.items()
    }
    for batch in scale.batches:
        calls = {
            name: _batch_of(made, device, scale, batch, supports=SUPPORTS * (name == "whole"))
            for name, made in models.items()
        }
        seconds = _seconds(calls, device, scale.repeats)
        yield {f"{name}_batch_{batch}": batch / seconds[name] for name in seconds}
        yield {f"share_batch_{batch}": seconds["whole"] / seconds["baseline"] - 1}


@torch.inference_mode()
def rival(device: torch.device, scale: Scale) -> Found:
    """Compare with torchvision's Faster R-CNN in its fastest precision, one frame at a time.

    By default it enlarges the frame to 800 pixels; `at_our_size` it does not.
    """
    from torchvision.models import get_model

    height, width = scale.size
    frame = scene_frames(1, scale.size)[0][0, :, :height, :width].to(device).float() / 255
    detector = random_detector(scale.preset, scale.size).to(device)
    fast = optimized(detector, plan_for(device, "bf16", compiled=True))
    ours = _batch_of(fast, device, scale, 1)
    same = {"min_size": min(scale.size), "max_size": max(scale.size)}
    sizes = {
        "_at_our_size": same,
        "": {},
    }  # cheaper first: on a CPU the other times out
    for name, how in sizes.items():
        network = get_model(RIVAL, weights=None, weights_backbone=None, **how).to(device).eval()
        calls: dict[str, Callable[[], object]] = {"ours": ours}
        for precision, call in _in_precisions(network, frame).items():
            try:
                call()
            except RuntimeError as error:  # an operator does not support this dtype
                yield {f"rival_{precision}_refuses": str(error).splitlines()[0]}
            else:
                calls[precision] = call
        seconds = _seconds(calls, device, scale.repeats)
        yield {f"{precision}{name}_s": value for precision, value in seconds.items()}
        best = min(value for precision, value in seconds.items() if precision != "ours")
        yield {f"times_as_fast{name}": best / seconds["ours"]}


def _in_precisions(network: torch.nn.Module, frame: Tensor) -> dict[str, Callable[[], object]]:
    """Return calls of a torchvision network by precision."""

    def call(products: Any, dtype: torch.dtype | None) -> Callable[[], object]:
        def run() -> object:
            narrow = nullcontext() if dtype is None else torch.autocast(frame.device.type, dtype)
            with torch.inference_mode(), computing_in(products), narrow:
                return network([frame])

        return run

    return {
        "fp32": call("fp32", None),
        "tf32": call("tf32", None),
        "bf16": call("tf32", torch.bfloat16),
        "fp16": call("tf32", torch.float16),
    }


def accuracy(device: torch.device, scale: Scale) -> Found:
    """Largest difference of any stage from the plain model on the CPU, with equal stage inputs."""
    trained = load_detector(embedded_checkpoint())[0].eval()
    yield from _differences("embedded", trained, (320, 400), device)
    detector = random_detector(scale.preset, scale.size, "model.proposal_init=grid")
    yield from _differences(scale.preset, detector, scale.size, device)


def _differences(
    name: str, detector: SparseVOD, size: tuple[int, int], device: torch.device
) -> Found:
    images, _ = scene_frames(SUPPORTS + 1, size)
    for precision in ("fp32", "bf16"):
        plan = replace(plan_for(device, precision), compiled=False, recorded=False)
        fast = optimized(detector, plan).to(device)
        for maps, shared in (("shared_maps", True), ("own_maps", False)):
            with computing_in(precision):
                stages = stage_differences(
                    detector, fast, images[:1], images[1:], size, shared_maps=shared
                )
            key = f"{name}_{precision}_{maps}"
            yield {
                f"{key}_logits": max(stage.logits for stage in stages),
                f"{key}_boxes_px": max(stage.boxes_px for stage in stages),
                f"{key}_boxes_share": max(stage.boxes_share[2] for stage in stages),
            }


def training(device: torch.device, scale: Scale) -> Found:
    """Training steps of one clip and of `tiny`'s eight, recorded and launched; scaling."""
    cases = [(scale.preset, scale.size, 1), ("tiny", (96, 160), 8)]
    for preset, size, clips in cases:
        for record in (True, False):
            seconds = _step_seconds(preset, size, clips, device, scale, record=record)
            yield {f"{preset}_{clips}_{'recorded' if record else 'launched'}_s": seconds}
    for precision in ("fp32", "bf16"):
        yield from _recorded_against_launched(device, precision)
    for clips in (1, 2, 4):
        seconds = _step_seconds(scale.preset, scale.size, clips, device, scale, record=True)
        yield {f"{scale.preset}_clips_a_second_of_{clips}": clips / seconds}
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device) / 2**30
            yield {f"{scale.preset}_peak_gib_of_{clips}": peak}


def _step_seconds(
    preset: str,
    size: tuple[int, int],
    clips: int,
    device: torch.device,
    scale: Scale,
    *,
    record: bool,
) -> float:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    config = load_config(preset, overrides=["train.precision=bf16", f"train.record={record}"])
    step = TrainingStep(config, device)
    batch = _clips(clips, size)
    for _ in range(UNTIL_RECORDED):
        step(batch)
    return median(seconds_of(lambda: step(batch), device) for _ in range(scale.repeats))


def _recorded_against_launched(device: torch.device, precision: Any) -> Found:
    """Compare loss and gradients of equal weights and clips, recorded and launched."""
    torch.manual_seed(0)
    config = load_config("tiny")
    detector = load_detector(embedded_checkpoint())[0].to(device).train()
    plan = plan_for_training(device, precision)
    detector.use_kernels(plan.chosen_kernels(trains=True))
    ways: dict[str, torch.nn.Module] = {"launched": detector}
    if plan.recorded:
        ways["recorded"] = GraphedTraining(detector).train()
    batch = _clips(1, (320, 400)).to(device)
    parameters = [one for one in detector.parameters() if one.requires_grad]
    criterion = SetCriterion(config.loss)
    losses, gradients = {}, {}
    for name, way in ways.items():
        for _ in range(UNTIL_RECORDED):
            for parameter in parameters:
                parameter.grad = None
            with computing_in(precision):
                with autocast(device, precision):
                    output = way(batch.clip)
                total = criterion(output, batch.targets, 2.0).total
                total.backward()
        losses[name] = total.item()
        gradients[name] = torch.cat(
            [one.grad.flatten().double() for one in parameters if one.grad is not None]
        )
    if "recorded" in ways:
        difference = gradients["recorded"] - gradients["launched"]
        share = difference.norm() / gradients["launched"].norm()
        yield {
            f"{precision}_loss_difference": abs(losses["recorded"] - losses["launched"]),
            f"{precision}_gradient_difference": share.item(),
        }
    yield {f"{precision}_loss": losses["launched"]}


def _clips(count: int, size: tuple[int, int]) -> TrainingBatch:
    """Return clips with a target, two support frames and two boxes, pinned if possible."""
    images, sizes = scene_frames(3, size)
    height, width = size
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.3, 0.2, 0.9, 0.9]])
    boxes = boxes * torch.tensor([width, height, width, height])
    batch = TrainingBatch(
        Clip(
            images[:1].repeat(count, 1, 1, 1),
            images[None, 1:].repeat(count, 1, 1, 1, 1),
            sizes[:1].repeat(count, 1),
        ),
        [Targets(boxes, torch.tensor([0, 0])) for _ in range(count)],
        [("scene",) * 3 for _ in range(count)],
    )
    return batch.pin_memory() if torch.cuda.is_available() else batch


def evaluation(device: torch.device, scale: Scale) -> Found:
    """Frames per second of `evaluate` on folders of JPEG files, and of reading them only."""
    from sparsevod_core.data.frames import FrameReader
    from sparsevod_core.data.records import VideoSet
    from sparsevod_core.evaluation.evaluate import evaluate

    predictor = _predictor(device, scale)
    with tempfile.TemporaryDirectory() as folder:
        videos = VideoSet.load(_write_jpegs(Path(folder), scale))
        reader = FrameReader(videos)
        start = time.perf_counter()
        count = sum(1 for _ in reader.in_order(range(scale.image_frames), 32))
        yield {"reading_fps": count / (time.perf_counter() - start)}
        reader.close()
        few = list(range(min(2, videos.num_videos)))
        predictor.expect(None)
        evaluate(predictor, videos, only=few)  # compiles and records
        start = now(device)
        evaluate(predictor, videos)
        yield {"fps": scale.image_frames / (now(device) - start)}
        yield from _data_wait(videos.annotations_path, device, scale)


def _data_wait(annotations: Path, device: torch.device, scale: Scale) -> Found:
    """Share of training time spent waiting for data, as in `sparsevod bench train`."""
    from sparsevod_core.benchmark.train import benchmark_training

    workers = max(1, min(8, len(os.sched_getaffinity(0)) - 1)) if device.type == "cuda" else 0
    config = load_config(
        scale.preset,
        overrides=[
            f"data.train_annotations={annotations}",
            f"data.workers={workers}",
            "train.precision=bf16",
            f"data.short_side={scale.size[0]}",
            f"data.long_side={scale.size[1]}",
        ],
    )
    found = benchmark_training(config, device=device, steps=scale.repeats, warmup=4)
    yield {
        "train_data_wait_share": found["data_wait_share"],
        "train_seconds_per_step": found["seconds_per_step"]["median"],
    }


def detect(device: torch.device, scale: Scale) -> Found:
    """Frames per second of `detect_video` on H.264 videos, and of each of its parts."""
    import av  # noqa: F401  # fails early if it is missing

    from sparsevod_core.inference.detect_video import detect_video
    from sparsevod_core.inference.drawing import Drawing, Painter
    from sparsevod_core.video.reader import VideoReader
    from sparsevod_core.video.writer import VideoWriter

    predictor = _predictor(device, scale)
    predictor.expect(None)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out.mp4"
        for height, width in scale.videos:
            video = Path(name) / f"{height}.mp4"
            with VideoWriter(video, width, height, frame_rate=Fraction(30)) as writer:
                for frame in _moving((height, width), scale.video_frames):
                    writer.write(frame)
            with VideoReader(video) as reader:
                frames = list(reader)
            painter = Painter(Drawing(), predictor.categories, width, height, SUPPORTS)
            found = list(predictor.frames(_InMemory(frames)))  # compiles and records

            def decode(video: Path = video) -> None:
                with VideoReader(video) as reader:
                    for _ in reader:
                        pass

            def compute(frames: list[Any] = frames) -> None:
                for _ in predictor.frames(_InMemory(frames)):
                    pass

            def encode(
                found: list[Any] = found, painter: Painter = painter, size: Any = (width, height)
            ) -> None:
                with VideoWriter(out, *size, frame_rate=Fraction(30)) as writer:
                    for one in found:
                        writer.write(painter.paint(one.frame.image, one.detections))

            def whole(video: Path = video) -> None:
                detect_video(predictor, video, out)

            parts = {"decode": decode, "model": compute, "draw_and_encode": encode}
            calls: dict[str, Callable[[], object]] = {**parts, "detect": whole}
            fps: dict[str, float] = {}
            for part, call in calls.items():  # one by one, so that a time limit keeps the others
                fps[part] = len(frames) / _seconds({part: call}, device, 1)[part]
                yield {f"{height}p_{part}_fps": fps[part]}
            slowest = min(parts, key=fps.__getitem__)
            yield {
                f"{height}p_slowest": slowest,
                f"{height}p_share_of_the_slowest": fps["detect"] / fps[slowest],
            }


@torch.inference_mode()
def profile(device: torch.device, scale: Scale) -> Found:
    """Time and number of kernels of a replayed batch, and the twenty slowest."""
    from torch.profiler import ProfilerActivity, profile

    is_gpu = device.type == "cuda"
    detector = random_detector(scale.preset, scale.size).to(device)
    fast = optimized(detector, plan_for(device, "bf16", compiled=True))
    for batch in sorted(scale.batches):  # smaller batches would be padded to larger ones
        call = _batch_of(fast, device, scale, batch)
        activity = ProfilerActivity.CUDA if is_gpu else ProfilerActivity.CPU
        with profile(activities=[activity]) as recorded:
            call()
            synchronize(device)
        time_of = "self_device_time_total" if is_gpu else "self_cpu_time_total"
        events = sorted(recorded.key_averages(), key=lambda event: -getattr(event, time_of))
        yield {
            f"kernels_ms_batch_{batch}": sum(getattr(one, time_of) for one in events) / 1000,
            f"kernels_batch_{batch}": sum(event.count for event in events),
            f"most_batch_{batch}": [
                {"kernel": one.key[:120], "ms": getattr(one, time_of) / 1000, "count": one.count}
                for one in events[:20]
            ],
        }


@torch.inference_mode()
def memory(device: torch.device, scale: Scale) -> Found:
    """Growth of allocated memory while frame size, batch size and support memory change."""
    if device.type != "cuda":
        yield {"grown_mib": 0.0, "note": "measures GPU memory; this machine has no GPU"}
        return
    detector = random_detector("tiny", SMALL.size).to(device)
    fast = optimized(detector, plan_for(device, "bf16"))
    sizes = [(96 + 32 * number, 160) for number in range(8)]
    half = 0
    for number in range(scale.changes):
        size = sizes[number // 3 % len(sizes)]  # three times each, so that it is recorded
        call = _batch_of(fast, device, replace(scale, size=size), 1 + number // 3 % 2, warm=1)
        call()
        del call
        if number == scale.changes // 2:
            half = torch.cuda.memory_allocated(device)
    grown = torch.cuda.memory_allocated(device) - half
    yield {"grown_mib": grown / 2**20, "allocated_mib": half / 2**20}


MEASURES: dict[str, tuple[Callable[[torch.device, Scale], Found], int]] = {
    "tests": (tests, 240),
    "model": (model, 90),
    "accuracy": (accuracy, 55),
    "training": (training, 70),
    "detect": (detect, 80),
    "evaluation": (evaluation, 50),
    "temporal": (temporal, 70),
    "rival": (rival, 50),
    "warm_start": (warm_start, 45),
    "profile": (profile, 45),
    "memory": (memory, 40),
}
"""Measurements and their time limits in seconds, the most important first; `tests`
apart, 595 in total."""


def _first_use(
    detector: SparseVOD, plan: Plan, device: torch.device, scale: Scale
) -> tuple[Model, float]:
    """Return a detector that is ready to replay large batches, and the seconds this took."""
    images, sizes = (one.to(device) for one in scene_frames(SUPPORTS + 1, scale.size))
    batch = scale.batches[-1]
    many = images[torch.arange(batch) % len(images)], sizes[:1].expand(batch, 2)
    start = now(device)
    made = optimized(detector, plan)
    with computing_in("bf16"):
        kept = made.remember(made.encode(images[1:], sizes[1:]))  # type: ignore[arg-type]
        for _ in range(UNTIL_RECORDED):
            top_detections(made.detect(made.encode(*many), kept))  # type: ignore[arg-type]
    return made, now(device) - start


def _batch_of(
    made: Model,
    device: torch.device,
    scale: Scale,
    batch: int,
    *,
    supports: int = SUPPORTS,
    warm: int = UNTIL_RECORDED,
) -> Callable[[], object]:
    """Return a warmed-up call that detects in a batch of frames with a support memory."""
    images, sizes = (one.to(device) for one in scene_frames(supports + 1, scale.size))
    targets: Tensor = images[torch.arange(batch) % len(images)]
    target_sizes = sizes[:1].repeat(batch, 1)
    kept: SupportMemory | None = None
    with torch.inference_mode(), computing_in("bf16"):
        if supports:
            kept = made.remember(made.encode(images[1:], sizes[1:]))  # type: ignore[arg-type]

    def call() -> object:
        with torch.inference_mode(), computing_in("bf16"):
            return top_detections(made.detect(made.encode(targets, target_sizes), kept))  # type: ignore[arg-type]

    for _ in range(warm):
        call()
    return call


def _seconds(
    calls: dict[str, Callable[[], object]], device: torch.device, repeats: int
) -> dict[str, float]:
    """Return median seconds of each, taking turns, after one warm-up run."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            times[name].append(seconds_of(call, device))
    return {name: median(each[1:]) for name, each in times.items()}


def _predictor(device: torch.device, scale: Scale) -> Predictor:
    overrides = [
        "model.num_classes=1",
        "inference.precision=bf16",
        f"inference.supports={SUPPORTS}",
    ]
    overrides += [f"data.short_side={scale.size[0]}", f"data.long_side={scale.size[1]}"]
    if device.type == "cuda":
        overrides.append(f"inference.batch={scale.batches[-1]}")
    config: Config = load_config(scale.preset, overrides=overrides)
    detector = random_detector(scale.preset, scale.size, "model.num_classes=1")
    return Predictor(detector, config, [Category(1, "thing")], device=str(device))


def _moving(size: tuple[int, int], count: int) -> Iterator[np.ndarray]:
    """Yield RGB frames of a moving image."""
    height, width = size
    picture = scene_frames(1, size)[0][0, :, :height, :width].permute(1, 2, 0).contiguous().numpy()
    for number in range(count):
        yield np.roll(picture, 4 * number, axis=1)


def _write_jpegs(folder: Path, scale: Scale) -> Path:
    """Write videos as JPEG files, and return their COCO-VID JSON."""
    import cv2

    size = scale.videos[0]
    videos = max(2, scale.image_frames // 150)
    each = scale.image_frames // videos
    files = [cv2.imencode(".jpg", one[..., ::-1])[1].tobytes() for one in _moving(size, each)]
    content: dict[str, Any] = {
        "categories": [{"id": 1, "name": "thing"}],
        "videos": [],
        "images": [],
        "annotations": [],
    }
    for video in range(1, videos + 1):
        (folder / str(video)).mkdir()
        content["videos"].append({"id": video, "name": str(video)})
        for index, data in enumerate(files):
            file, number = f"{video}/{index:06d}.jpg", len(content["images"]) + 1
            (folder / file).write_bytes(data)
            content["images"].append(
                {
                    "id": number,
                    "video_id": video,
                    "frame_id": index,
                    "file_name": file,
                    "height": size[0],
                    "width": size[1],
                    "is_vid_train_frame": True,
                }
            )
            content["annotations"].append(
                {
                    "id": number,
                    "image_id": number,
                    "category_id": 1,
                    "instance_id": video,
                    "bbox": [10, 10, 60, 40],
                }
            )
    path = folder / "annotations.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


class _InMemory:
    """Decoded frames with the interface of a video."""

    def __init__(self, frames: Sequence[Any]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[Any]:
        return iter(self._frames)

    def num_frames(self) -> int:
        return len(self._frames)

    def frames_at(self, indices: Sequence[int]) -> list[Any]:
        return [self._frames[index] for index in indices]
