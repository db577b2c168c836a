"""Seconds per frame: the model, its parts, and torchvision's detectors on the same input.

Times are measured after a warm-up, with the device synchronised, the contestants taking turns
so that all see the same machine; medians are what to compare.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

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
    synchronise,
)
from sparsevod_core.data.transforms import pad_to_multiple, resize_image
from sparsevod_core.errors import ConfigError
from sparsevod_core.machine import describe_machine
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.writer import VideoWriter

YARDSTICKS = ("fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkSettings:
    """What is measured.

    Attributes:
        size: (height, width) in pixels of the frames that enter the model.
        supports: support frames in the memory, S; 0 for none.
        batch: target frames that go through the model together.
        precision: `fp32` or `bf16` (autocast) of our model; yardsticks always run in fp32.
        repeats: timed runs of each contestant.
        warmup: runs before them that are not counted.
        seed: of the frames, and of the weights where they are random.
    """

    size: tuple[int, int] = (600, 1000)
    supports: int = 6
    batch: int = 1
    precision: str = "fp32"
    repeats: int = 10
    warmup: int = 2
    seed: int = 0

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
    detector: SparseVOD,
    settings: BenchmarkSettings,
    *,
    device: torch.device,
    against: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> dict:
    """Time `detector` and the yardsticks; the result is ready for JSON.

    Keys: `seconds_per_frame` {median, min, p95}, `frames_per_second`, `parts` {name: {median, min,
    p95}} in seconds per frame, `memory_seconds` (once per video, all supports), `against` {name:
    {seconds_per_frame, parameters}}, `peak_memory_mib`, `settings`, `machine`.

    Raises:
        ConfigError: an unknown yardstick.
    """
    unknown = [name for name in against if name not in YARDSTICKS]
    if unknown:
        raise ConfigError(
            f"bench --against {unknown[0]}: expected torchvision or one of {', '.join(YARDSTICKS)}"
        )
    reporter = reporter or SilentReporter()
    images = _smooth_frames(settings, device)
    targets, sizes = pad_to_multiple(list(images[: settings.batch]))
    targets, sizes = targets.to(device), sizes.to(device)
    detector = detector.to(device).eval()
    memory, memory_seconds = _measure_memory(detector, images, settings, device)

    def ours() -> None:
        with autocast(device, settings.precision):
            top_detections(detector.detect(targets, sizes, memory))

    contestants: dict[str, Callable[[], object]] = {"ours": ours}
    parameters = {}
    for name in against:
        network = get_model(name, weights=None, weights_backbone=None).to(device).eval()
        parameters[name] = _num_parameters(network)
        frames = [image.float() / 255 for image in images[: settings.batch].to(device)]
        contestants[name] = _call(network, frames)
    times = _alternate(contestants, settings, device, reporter)
    peak = peak_memory_mib(device)  # before the parts, which hold nothing more
    model_parts = _time_parts(detector, targets, sizes, memory, settings, device)
    return {
        "schema": "sparsevod.bench/1",
        "seconds_per_frame": summary(times["ours"], settings.batch),
        "frames_per_second": settings.batch / float(np.median(times["ours"])),
        "parts": {**_time_input(settings), **model_parts},
        "memory_seconds": memory_seconds,
        "memory_mib": _memory_mib(memory),
        "parameters": _num_parameters(detector),
        "against": {
            name: {
                "seconds_per_frame": summary(times[name], settings.batch),
                "parameters": parameters[name],
            }
            for name in against
        },
        "peak_memory_mib": peak,
        "settings": {**asdict(settings), "size": list(settings.size)},
        "device": str(device),
        "threads": torch.get_num_threads(),
        "machine": asdict(describe_machine()),
    }


def _measure_memory(
    detector: SparseVOD, images: Tensor, settings: BenchmarkSettings, device: torch.device
) -> tuple[SupportMemory | None, float]:
    """The support memory, made one frame at a time as a video would, and the seconds it took."""
    if settings.supports == 0:
        return None, 0.0
    supports, _ = pad_to_multiple(list(images[-settings.supports :]))
    synchronise(device)
    start = time.perf_counter()
    with autocast(device, settings.precision):
        memory = detector.remember(supports.to(device), settings.size)
    synchronise(device)
    return memory, time.perf_counter() - start


def _alternate(
    contestants: dict[str, Callable[[], object]],
    settings: BenchmarkSettings,
    device: torch.device,
    reporter: Reporter,
) -> dict[str, list[float]]:
    """Seconds of every timed run, the contestants taking turns."""
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
    detector: SparseVOD,
    targets: Tensor,
    sizes: Tensor,
    memory: SupportMemory | None,
    settings: BenchmarkSettings,
    device: torch.device,
) -> dict[str, dict[str, float]]:
    """Parts of the model, in passes of their own: synchronising in between slows a pass down."""
    times: dict[str, list[float]] = {
        name: [] for name in ("backbone_fpn", "head", "tfe", "spfa", "output")
    }
    with _module_timers(detector, device) as inside, autocast(device, settings.precision):
        for number in range(settings.warmup + settings.repeats):
            inside.clear()
            marks = [now(device)]
            pyramid = detector.pyramid(targets, sizes)
            marks.append(now(device))
            output = detector.refine(pyramid, sizes, memory)
            marks.append(now(device))
            top_detections(output)
            marks.append(now(device))
            if number < settings.warmup:
                continue
            backbone, refine, output_s = np.diff(marks).tolist()
            tfe, spfa = inside.get("tfe", 0.0), inside.get("spfa", 0.0)
            row = (backbone, refine - tfe - spfa, tfe, spfa, output_s)
            for values, seconds in zip(times.values(), row, strict=True):
                values.append(seconds)
    return {name: summary(values, settings.batch) for name, values in times.items()}


@contextmanager
def _module_timers(detector: SparseVOD, device: torch.device) -> Iterator[dict[str, float]]:
    """Seconds spent in all TFE and all SPFA modules since the dict was last cleared."""
    spent: dict[str, float] = {}
    handles = []
    for stage in detector.stages:
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


def _time_input(settings: BenchmarkSettings) -> dict[str, dict[str, float]]:
    """Decoding H.264 and resizing, on frames of the model's size, in seconds per frame."""
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
                pad_to_multiple([resize_image(image, settings.size)])
                preprocess.append(time.perf_counter() - start)
                start = time.perf_counter()
    kept = slice(settings.warmup, None)
    return {"decode": summary(decode[kept], 1), "preprocess": summary(preprocess[kept], 1)}


def _smooth_frames(settings: BenchmarkSettings, device: torch.device) -> Tensor:
    """[F, 3, H, W] uint8: seeded low-frequency colour, so that a codec finds it like video."""
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
    if memory is None:
        return 0.0
    tensors = (memory.maps, memory.valid, memory.proposals)
    return sum(tensor.nbytes for tensor in tensors) / 2**20
