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
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.model.support import SupportMemory
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
        if self.supports < 0 or self.warmup < 0:
            raise ConfigError(
                f"bench: supports={self.supports}, warmup={self.warmup}: expected at least 0"
            )


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
    `first_box_seconds` (preparing the model, support frames and one target frame),
    `memory_seconds` (all support frames, once per video), `memory_mib`, `parameters`, `against`
    {name: {seconds_per_frame, parameters, times_as_long}}, `peak_memory_mib`, `settings`, `run`,
    `machine`.

    Args:
        detector: our model.
        settings: conditions of the benchmark.
        device: device for all models.
        against: detectors to compare with: `plain` (ours as in training, fp32) or torchvision's.
        reporter: receives progress.

    Raises:
        ConfigError: unknown detector to compare with.
    """
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
    memory, memory_seconds = _measure_memory(model, images, settings, device)
    ours = _frame_of(model, targets, sizes, memory, settings)
    ours()
    first_box_seconds = now(device) - start
    contestants: dict[str, Callable[[], object]] = {"ours": ours}
    parameters = {}
    for name in against:
        if name == PLAIN:
            plain_settings = replace(settings, fast=False, precision="fp32")
            plain_memory, _ = _measure_memory(detector, images, plain_settings, device)
            contestants[name] = _frame_of(detector, targets, sizes, plain_memory, plain_settings)
            parameters[name] = _num_parameters(detector)
            continue
        network = get_model(name, weights=None, weights_backbone=None).to(device).eval()
        parameters[name] = _num_parameters(network)
        frames = [image.float() / 255 for image in images[: settings.batch].to(device)]
        contestants[name] = _call(network, frames)
    times = _alternate(contestants, settings, device, reporter)
    peak = peak_memory_mib(device)  # the parts need no more
    # Parts can be timed only if they are launched one by one.
    parts_of: Model = detector
    if settings.fast:
        parts_of = optimized(detector, replace(plan, compiled=False, recorded=False))
    model_parts = {}
    if isinstance(parts_of, SparseVOD):
        model_parts = _time_parts(parts_of, targets, sizes, memory, settings, device)
    median = float(np.median(times["ours"]))
    return {
        "schema": SCHEMA,
        "seconds_per_frame": summary(times["ours"], settings.batch),
        "frames_per_second": settings.batch / median,
        "parts": {**_time_input(settings), **model_parts},
        "first_box_seconds": first_box_seconds,
        "memory_seconds": memory_seconds,
        "memory_mib": _memory_mib(memory),
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


def _measure_memory(
    model: Model, images: Tensor, settings: BenchmarkSettings, device: torch.device
) -> tuple[SupportMemory | None, float]:
    """Return the memory of all support frames, computed at once, and the seconds it took."""
    if settings.supports == 0:
        return None, 0.0
    supports, _ = pad_to_multiple(list(images[-settings.supports :]), settings.pad_multiple)
    sizes = torch.tensor([settings.size] * settings.supports, device=device)
    synchronize(device)
    start = time.perf_counter()
    with _computing(settings, device):
        memory = model.remember(model.encode(supports.to(device), sizes))
    synchronize(device)
    return memory, time.perf_counter() - start


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
    targets: Tensor,
    sizes: Tensor,
    memory: SupportMemory | None,
    settings: BenchmarkSettings,
) -> Callable[[], object]:
    """Return a function that does everything timed for a batch of frames."""

    def frame() -> None:
        with _computing(settings, targets.device):
            top_detections(model.detect(model.encode(targets, sizes), memory))

    return frame


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
    model: SparseVOD,
    targets: Tensor,
    sizes: Tensor,
    memory: SupportMemory | None,
    settings: BenchmarkSettings,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Time the parts of the model in separate passes, as synchronizing slows a pass down.

    `backbone` includes the FPN unless it is computed lazily; `pyramid` is the lazy FPN and pooling.
    """
    times: dict[str, list[float]] = {
        name: [] for name in ("backbone", "pyramid", "head", "tfe", "spfa", "output")
    }
    computing = _computing(settings, device)
    with _module_timers(model, device) as inside, computing:
        for number in range(settings.warmup + settings.repeats):
            inside.clear()
            marks = [now(device)]
            encoded = model.encode(targets, sizes)
            marks.append(now(device))
            encoded.pool = _timed(encoded.pool, "pyramid", inside, device)  # type: ignore
            output = model.detect(encoded, memory)
            marks.append(now(device))
            top_detections(output)
            marks.append(now(device))
            if number < settings.warmup:
                continue
            backbone, refine, output_s = np.diff(marks).tolist()
            parts = [inside.get(name, 0.0) for name in ("pyramid", "tfe", "spfa")]
            row = (backbone, parts[0], refine - sum(parts), *parts[1:], output_s)
            for values, seconds in zip(times.values(), row, strict=True):
                values.append(seconds)
    return {name: summary(values, settings.batch) for name, values in times.items()}


@contextmanager
def _module_timers(model: SparseVOD, device: torch.device) -> Iterator[dict[str, float]]:
    """Yield the seconds spent in all TFE and SPFA modules since the dict was last cleared."""
    spent: dict[str, float] = {}
    handles = []
    for stage in model.stages:
        for name, module in (("tfe", stage.temporal_roi), ("spfa", stage.aggregation)):
            if module is not None:
                handles += _time_module(module, name, spent, device)
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def _time_module(
    module: nn.Module, name: str, spent: dict[str, float], device: torch.device
) -> list[torch.utils.hooks.RemovableHandle]:
    started = 0.0

    def before(*_: object) -> None:
        nonlocal started
        started = now(device)

    def after(*_: object) -> None:
        spent[name] = spent.get(name, 0.0) + now(device) - started

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


def _timed(
    call: Callable[..., Any], name: str, spent: dict[str, float], device: torch.device
) -> Callable[..., Any]:
    def timed(*inputs: Any) -> Any:
        start = now(device)
        result = call(*inputs)
        spent[name] = spent.get(name, 0.0) + now(device) - start
        return result

    return timed


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
    count = max(settings.batch, settings.supports)
    coarse = torch.rand(count, 3, 12, 20, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=settings.size, mode="bicubic").clamp(0, 1)
    return (smooth * 255).byte().to(device)


def _call(network: nn.Module, frames: list[Tensor]) -> Callable[[], object]:
    return lambda: network(frames)


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _memory_mib(memory: SupportMemory | None) -> float:
    return 0.0 if memory is None else memory.nbytes / 2**20
