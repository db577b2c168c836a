"""Benchmark of inference: seconds per frame of the model, of its parts, and of other detectors.

Times are measured after a warm-up with the device synchronized. The contestants take turns on the
same input, so that all see the machine in the same state. Compare medians.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from sparsevod_core.benchmark.cost import frame_cost
from sparsevod_core.benchmark.kept import Kept, filled, keep, mib_of
from sparsevod_core.benchmark.parts import part_seconds
from sparsevod_core.benchmark.timing import (
    autocast,
    now,
    peak_memory_mib,
    seconds_of,
    summary,
    synchronize,
)
from sparsevod_core.config import Config, DataConfig
from sparsevod_core.data.transforms import RESIZERS, pad_to_multiple
from sparsevod_core.errors import ConfigError
from sparsevod_core.fast import Plan, computing_in, optimized, plan_for
from sparsevod_core.fast.recorded import RecordedDetector
from sparsevod_core.inference.device import resolve_precision
from sparsevod_core.machine import describe_machine, describe_run
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.writer import VideoWriter

SCHEMA = "sparsevod.bench/1"

Model: TypeAlias = VideoDetector | RecordedDetector

PLAIN = "plain"
BASELINES = ("fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSettings:
    """Conditions of the benchmark.

    Attributes:
        size: (height, width) in pixels of the frames that enter the model.
        supports: number of support frames, S; 0: none.
        global_supports: number of global support frames, for MEGA.
        batch: number of target frames per forward pass.
        precision: precision of our model, `fp32`, `tf32`, `bf16` or `auto`; others run in fp32.
        fast: if True, our model is optimized; else it runs as in training, with bf16 by autocast.
        compile: compile our model on a GPU: `on`, `off`, or `auto`, which means `on` here. Parts
            are timed without compilation.
        repeats: number of timed runs of each contestant.
        warmup: number of runs before them.
        seed: seed of the frames, and of random weights.
        pad_multiple: number of pixels to whose multiples frames are padded.
        resize: one of `RESIZERS`.
    """

    size: tuple[int, int] = (600, 1000)
    supports: int = 6
    global_supports: int = 0
    batch: int = 1
    precision: str = "auto"
    fast: bool = True
    compile: str = "auto"
    repeats: int = 10
    warmup: int = 2
    seed: int = 0
    pad_multiple: int = DataConfig().pad_multiple
    resize: str = DataConfig().resize

    def __post_init__(self) -> None:
        smallest = {"size": min(self.size), "batch": self.batch, "repeats": self.repeats}
        for name, value in smallest.items():
            if value < 1:
                raise ConfigError(f"bench: {name}={value}: expected at least 1")
        for name in ("supports", "global_supports", "warmup"):
            if getattr(self, name) < 0:
                raise ConfigError(f"bench: {name}={getattr(self, name)}: expected at least 0")


@torch.inference_mode()
def benchmark(
    detector: VideoDetector,
    settings: BenchmarkSettings,
    *,
    device: torch.device,
    against: Sequence[str] = (),
    config: Config | None = None,
    reporter: Reporter | None = None,
) -> dict:
    """Time `detector` and the detectors to compare with.

    The result can be written as JSON. Keys: `seconds_per_frame` {median, min, p95},
    `frames_per_second`, `parts` {name: {median, min, p95}} in seconds per frame,
    `gflop_per_frame` {kept, published} (see `cost.FrameCost`), `first_box_seconds` (preparing the
    model, support frames and one target frame), `memory_seconds` (all support frames, once per
    video), `memory_mib` (of the support frames), `kept_mib` {memory, state, encodings, total},
    `parameters`, `against` {name: {seconds_per_frame, parameters, times_as_long}},
    `peak_memory_mib`, `settings`, `run`, `machine`.

    A detector that goes through a video in order has the state that many frames leave.

    Args:
        detector: our model.
        settings: conditions of the benchmark.
        device: device for all models.
        against: detectors to compare with: `plain` (ours as in training, fp32) or torchvision's.
        reporter: receives progress.

    Raises:
        ConfigError: unknown detector to compare with, or a batch of frames for a detector that
            needs them one by one.
    """
    if detector.is_ordered and settings.batch > 1:
        raise ConfigError(
            f"bench: batch={settings.batch}: this detector processes frames one by one",
            hint="use --batch 1",
        )
    unknown = [name for name in against if name not in (PLAIN, *BASELINES)]
    if unknown:
        raise ConfigError(
            f"bench --against {unknown[0]}: expected plain, torchvision or one of "
            f"{', '.join(BASELINES)}"
        )
    settings = replace(settings, precision=resolve_precision(settings.precision, device))
    reporter = reporter or SilentReporter()
    images = _smooth_frames(settings, device)
    targets, sizes = pad_to_multiple(list(images[: settings.batch]), settings.pad_multiple)
    targets, sizes = targets.to(device), sizes.to(device)
    detector = detector.to(device).eval()
    plan = _plan(settings, device)
    start = now(device)
    model = optimized(detector, plan) if settings.fast else detector
    kept, memory_seconds = _keep(model, images, settings, device)
    ours = _frame_of(model, detector, targets, sizes, kept, settings)
    ours()
    first_box_seconds = now(device) - start
    contestants: dict[str, Callable[[], object]] = {"ours": ours}
    parameters = {}
    for name in against:
        if name == PLAIN:
            plain_settings = replace(settings, fast=False, precision="fp32")
            plain_kept, _ = _keep(detector, images, plain_settings, device)
            contestants[name] = _frame_of(
                detector, detector, targets, sizes, plain_kept, plain_settings
            )
            parameters[name] = _num_parameters(detector)
            continue
        network = get_model(name, weights=None, weights_backbone=None).to(device).eval()
        parameters[name] = _num_parameters(network)
        frames = [image.float() / 255 for image in images[: settings.batch].to(device)]
        contestants[name] = _call(network, frames)
    times = _alternate(contestants, settings, device, reporter)
    peak = peak_memory_mib(device)  # the parts need no more
    parts = _time_parts(detector, kept, targets, sizes, settings, device)
    cost = frame_cost(detector, targets[:1], sizes[:1], settings.supports, settings.global_supports)
    median = float(np.median(times["ours"]))
    return {
        "schema": SCHEMA,
        "seconds_per_frame": summary(times["ours"], settings.batch),
        "frames_per_second": settings.batch / median,
        "parts": {**_time_input(settings), **parts},
        "gflop_per_frame": asdict(cost),
        "first_box_seconds": first_box_seconds,
        "memory_seconds": memory_seconds,
        "memory_mib": mib_of(kept.memory),
        "kept_mib": {
            "memory": mib_of(kept.memory),
            "state": mib_of(kept.state),
            "encodings": mib_of(kept.encodings),
            "total": mib_of(kept),
        },
        "parameters": _num_parameters(detector),
        "against": {
            name: {
                "seconds_per_frame": summary(times[name], settings.batch),
                "parameters": parameters[name],
                "times_as_long": float(np.median(times[name])) / median,
            }
            for name in against
        },
        "peak_memory_mib": peak,
        "settings": {**asdict(settings), "size": list(settings.size)},
        "run": describe_run(
            str(device), settings.precision, None if config is None else config.flat()
        ),
        "machine": asdict(describe_machine()),
    }


def _keep(
    model: Model, images: Tensor, settings: BenchmarkSettings, device: torch.device
) -> tuple[Kept, float]:
    """Return what is kept of a video, and the seconds that its support frames took."""
    count = settings.supports + settings.global_supports
    is_used = isinstance(model, RecordedDetector) or model.uses_supports
    if count == 0 or not is_used:
        return Kept(), 0.0
    supports, _ = pad_to_multiple(list(images[-count:]), settings.pad_multiple)
    supports = supports.to(device)
    sizes = torch.tensor([settings.size] * count, device=device)
    synchronize(device)
    start = time.perf_counter()
    with _computing(settings, device):
        if isinstance(model, RecordedDetector):
            kept = Kept(model.remember(model.encode(supports, sizes)))
        else:
            kept = keep(model, supports, sizes, settings.supports)
    synchronize(device)
    seconds = time.perf_counter() - start
    if not isinstance(model, RecordedDetector) and model.is_ordered:
        with _computing(settings, device):
            target = model.encode(supports[:1], sizes[:1])
            _, state = model.advance(target, kept.memory, None)
        kept = replace(kept, state=filled(model, state))
    return kept, seconds


def _plan(settings: BenchmarkSettings, device: torch.device) -> Plan:
    return plan_for(device, settings.precision, compiled=settings.compile != "off")  # type: ignore[arg-type]


@contextmanager
def _computing(settings: BenchmarkSettings, device: torch.device) -> Iterator[None]:
    """Set the precision; only the plain model in bf16 needs autocast."""
    of_autocast = "fp32" if settings.fast else settings.precision
    with computing_in(settings.precision), autocast(device, of_autocast):  # type: ignore[arg-type]
        yield


def _frame_of(
    model: Model,
    detector: VideoDetector,
    targets: Tensor,
    sizes: Tensor,
    kept: Kept,
    settings: BenchmarkSettings,
) -> Callable[[], object]:
    """Return a function that does everything timed for a batch of frames."""
    detect = _detect_with(model, detector, kept)

    def frame() -> None:
        with _computing(settings, targets.device):
            detector.top(detect(model.encode(targets, sizes)))

    return frame


def _detect_with(model: Any, detector: VideoDetector, kept: Kept) -> Callable[[Any], Any]:
    """Return a function from encodings of target frames to the output."""
    if detector.is_ordered:
        return lambda encoded: model.advance(encoded, kept.memory, kept.state)[0]
    return lambda encoded: model.detect(encoded, kept.memory)


def _alternate(
    contestants: dict[str, Callable[[], object]],
    settings: BenchmarkSettings,
    device: torch.device,
    reporter: Reporter,
) -> dict[str, list[float]]:
    """Let the contestants take turns, and return the seconds of every timed run."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    rounds = settings.warmup + settings.repeats
    with reporter.progress("bench", rounds * len(contestants), "runs") as progress:
        for number in range(rounds):
            for name, run in contestants.items():
                seconds = seconds_of(run, device)
                if number >= settings.warmup:
                    times[name].append(seconds)
                progress.advance(note=name)
    return times


def _time_parts(
    detector: VideoDetector,
    kept: Kept,
    targets: Tensor,
    sizes: Tensor,
    settings: BenchmarkSettings,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Time the parts of the model, which is neither compiled nor recorded for this."""
    model: Any = detector
    if settings.fast:
        plan = replace(_plan(settings, device), compiled=False, recorded=False)
        model = optimized(detector, plan)
    passes = settings.warmup + settings.repeats
    with _computing(settings, device):
        detect = _detect_with(model, detector, kept)
        times = part_seconds(model, targets, sizes, detect, passes, device)
    return {
        name: summary(seconds[settings.warmup :], settings.batch) for name, seconds in times.items()
    }


def _time_input(settings: BenchmarkSettings) -> dict[str, dict[str, float]]:
    """Time decoding (H.264) and resizing of frames of the model's size, in seconds per frame."""
    count = settings.warmup + settings.repeats
    frame = _smooth_frames(settings, torch.device("cpu"))[0]
    decode, preprocess = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.mp4"
        height, width = settings.size
        with VideoWriter(path, width, height, frame_rate=Fraction(25)) as writer:
            for shift in range(count):
                writer.write(frame.roll(3 * shift, dims=2).permute(1, 2, 0).numpy())
        with VideoReader(path) as reader:
            start = time.perf_counter()
            for decoded in reader:
                decode.append(time.perf_counter() - start)
                start = time.perf_counter()
                image = torch.from_numpy(decoded.image).permute(2, 0, 1)
                resized = RESIZERS[settings.resize](image, settings.size)
                pad_to_multiple([resized], settings.pad_multiple)
                preprocess.append(time.perf_counter() - start)
                start = time.perf_counter()
    timed = slice(settings.warmup, None)
    return {"decode": summary(decode[timed]), "preprocess": summary(preprocess[timed])}


def _smooth_frames(settings: BenchmarkSettings, device: torch.device) -> Tensor:
    """Return random smooth frames [F, 3, H, W] uint8, as easy to encode as video."""
    generator = torch.Generator().manual_seed(settings.seed)
    count = max(settings.batch, settings.supports + settings.global_supports)
    coarse = torch.rand(count, 3, 12, 20, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=settings.size, mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().to(device)


def _call(network: nn.Module, frames: list[Tensor]) -> Callable[[], object]:
    return lambda: network(frames)


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
