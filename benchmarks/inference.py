"""How fast a frame is, what makes it so, how exact it stays, and how its cost grows.

Everything is R50 at 600x1000 with 100 proposals, 6 stages and 6 support frames unless it says
otherwise, with seeded random weights whose maps have unit deviation (untrained FPN maps are 30
times as large, which no trained one is, and drive TFE's softmax into a choice of one frame).
Programs that are compared take turns in one process. `make bench` runs it all on this machine; on
a GPU: python benchmarks/inference.py --device cuda --out benchmarks/results/inference_gpu.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from hardware import about_this_machine
from torch import Tensor
from torchvision.models import get_model
from traffic import Traffic

from sparsevod_core.allocator import keep_freed_memory
from sparsevod_core.benchmark.accuracy import stage_differences
from sparsevod_core.benchmark.inference import PLAIN, BenchmarkSettings, benchmark
from sparsevod_core.checkpoint import embedded_checkpoint, load_detector
from sparsevod_core.config import load_config
from sparsevod_core.data.transforms import pad_to_multiple
from sparsevod_core.fast import FastDetector, GraphedDetector
from sparsevod_core.fast.pyramid import LazyPyramid
from sparsevod_core.inference import Predictor
from sparsevod_core.model.build import build_detector
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.video.writer import VideoWriter

SIZE = (600, 1000)
SUPPORTS = 6
RIVAL = "fasterrcnn_resnet50_fpn_v2"
PARTS = ("backbone", "pyramid", "tfe", "spfa", "head")
PAPER = (
    ("Table 2: frame baseline", "off", "off", 0),
    ("Table 2: TFE", "attention", "off", 6),
    ("Table 2: SPFA", "off", "attention", 6),
    ("Tables 2 and 5: TFE and SPFA, 6 supports", "attention", "attention", 6),
    ("Table 4: average, average", "average", "average", 6),
    ("Table 4: TFE average, SPFA attention", "average", "attention", 6),
    ("Table 4: TFE attention, SPFA average", "attention", "average", 6),
    ("Table 5: TFE and SPFA, 2 supports", "attention", "attention", 2),
)
DEMANDS = {"times_plain": 4.0, "times_rival": 4.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("inference.json"))
    parser.add_argument(
        "--only",
        nargs="*",
        help="of the measures, some",
    )
    parser.add_argument("--process", choices=("fast", PLAIN, RIVAL), help="used by `processes`")
    arguments = parser.parse_args()
    if arguments.process is not None:
        sys.stdout.write(json.dumps(in_this_process(arguments.process)))
        return
    keep_freed_memory()
    device = torch.device(arguments.device)
    measures: dict[str, Callable[[torch.device, int], Any]] = {
        "speed": speed,
        "processes": processes,
        "effects": effects,
        "accuracy": accuracy,
        "scaling": scaling,
        "video_length": video_length,
        "rows_of_the_paper": rows_of_the_paper,
        "roofline": roofline,
    }
    result: dict[str, Any] = {}
    if arguments.out.exists():
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
    result["machine"] = about_this_machine("torch", "torchvision")
    result["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    result["threads"] = torch.get_num_threads()
    for name, measure in measures.items():
        if arguments.only and name not in arguments.only:
            continue
        sys.stdout.write(f"--- {name}\n")
        result[name] = measure(device, arguments.rounds)
        sys.stdout.write(json.dumps(result[name], indent=1) + "\n")
        sys.stdout.flush()
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, demand in DEMANDS.items():
        for where, found in (
            ("in one process", result.get("speed", {}).get("proposals all over the image")),
            ("in processes of their own", result.get("processes")),
        ):
            if found:
                sys.stdout.write(f"{name}, {where}: {found[name]:.2f} (asked for: {demand})\n")


def speed(device: torch.device, rounds: int) -> dict[str, Any]:
    """A frame as it is used, against our plain fp32 model and torchvision's detector in fp32."""
    found = {}
    for name, init in (("proposals all over the image", "image"), ("small proposals", "grid")):
        detector = random_detector(device, init)
        settings = BenchmarkSettings(repeats=rounds, warmup=1)
        result = benchmark(detector, settings, device=device, against=[PLAIN, RIVAL])
        found[name] = {
            "milliseconds": 1000 * result["seconds_per_frame"]["median"],
            "precision": result["settings"]["precision"],
            "times_plain": result["against"][PLAIN]["times_as_long"],
            "times_rival": result["against"][RIVAL]["times_as_long"],
            "plain_milliseconds": 1000 * result["against"][PLAIN]["seconds_per_frame"]["median"],
            "rival_milliseconds": 1000 * result["against"][RIVAL]["seconds_per_frame"]["median"],
            "parts_milliseconds": {
                part: 1000 * times["median"] for part, times in result["parts"].items()
            },
            "share_of_p2_that_is_made": share_of_p2(detector, device),
            "first_box_seconds": result["first_box_seconds"],
            "memory_seconds": result["memory_seconds"],
            "memory_mib_a_support": result["memory_mib"] / SUPPORTS,
        }
    return found


def processes(device: torch.device, rounds: int) -> dict[str, Any]:
    """Milliseconds a frame of fresh processes that take turns, each with the allocator it has.

    `sparsevod` has glibc keep freed memory (benchmarks/allocator.py); who calls a model from a
    script of their own, ours or torchvision's, has glibc as it is.
    """
    if device.type != "cpu":
        return {}
    times: dict[str, list[float]] = {"fast": [], PLAIN: [], RIVAL: []}
    for _ in range(3):
        for name, found in times.items():
            command = [sys.executable, __file__, "--process", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    milliseconds = {name: median(found) for name, found in times.items()}
    return {
        "milliseconds": milliseconds,
        "times_plain": milliseconds[PLAIN] / milliseconds["fast"],
        "times_rival": milliseconds[RIVAL] / milliseconds["fast"],
    }


@torch.inference_mode()
def in_this_process(name: str) -> float:
    """Median milliseconds of some frames of one program alone."""
    device = torch.device("cpu")
    images, sizes = frames(device)
    if name == RIVAL:
        network = get_model(RIVAL, weights=None, weights_backbone=None).eval()
        image = images[0, :, : SIZE[0], : SIZE[1]].float() / 255
        return turns({name: lambda: network([image])}, device, 4)[name]
    detector = random_detector(device)
    if name == PLAIN:
        memory = detector.remember(images[1:], SIZE)
        plain = {name: lambda: top_detections(detector.detect(images[:1], sizes[:1], memory))}
        return turns(plain, device, 4)[name]
    keep_freed_memory()
    fast = FastDetector(detector, torch.bfloat16)
    return turns({name: call(fast, images[:1], sizes[:1], bank_of(fast, images))}, device, 8)[name]


def effects(device: torch.device, rounds: int) -> dict[str, Any]:
    """Each means taken away alone, in milliseconds a frame and as a share; they take turns."""
    detector = random_detector(device)
    images, sizes = frames(device)
    with plain_layers():
        unfused = FastDetector(detector, torch.bfloat16)
    fast, exact = FastDetector(detector, torch.bfloat16), FastDetector(detector, torch.float32)
    with floating_point_search():
        searched = bank_of(fast, images)
    with mock.patch("sparsevod_core.fast.temporal_roi.MOST_POSITIONS", 0):
        untapped = bank_of(fast, images)
    bank = bank_of(fast, images)
    exact_bank = bank_of(exact, images)
    target = images[:1]

    def whole_pyramid() -> None:
        pyramid = fast.pyramid(target, sizes[:1])
        for level in range(4):
            pyramid.level(level)
        fast.refine(pyramid, sizes[:1], bank)

    contestants: dict[str, Callable[[], Any]] = {
        "as it is": lambda: fast.detect(target, sizes[:1], bank),
        "without bf16": lambda: exact.detect(target, sizes[:1], exact_bank),
        "without integers in the search": lambda: fast.detect(target, sizes[:1], searched),
        "without taps of the supports": lambda: fast.detect(target, sizes[:1], untapped),
        "without the lazy pyramid": whole_pyramid,
        "without packed and fused layers": lambda: unfused.detect(target, sizes[:1], bank),
    }
    if device.type == "cuda":
        graphed = GraphedDetector(fast)
        contestants["as one CUDA graph"] = lambda: graphed.detect(target, sizes[:1], bank)
    return turns(contestants, device, rounds)


def accuracy(device: torch.device, rounds: int) -> dict[str, Any]:
    """The largest differences of any stage; see `sparsevod_core.benchmark.accuracy`."""
    found: dict[str, Any] = {}
    for name, detector in (
        ("R50, proposals all over the image", random_detector(device)),
        ("R50, small proposals", random_detector(device, "grid")),
        ("R50, untrained maps as they are", random_detector(device, unit_maps=False)),
        ("the embedded model, trained", load_detector(embedded_checkpoint())[0].eval().to(device)),
    ):
        size = (224, 280) if "embedded" in name else SIZE
        images, _ = frames(device, size)
        for dtype in (torch.float32, torch.bfloat16):
            fast = FastDetector(detector, dtype)
            for shared in (True, False):
                stages = stage_differences(
                    detector, fast, images[:1], images[1:], size, shared_maps=shared
                )
                maps = "the plain path's maps" if shared else "maps of its own"
                found[f"{name}, {maps}, {str(dtype).removeprefix('torch.')}"] = {
                    "logits": max(stage.logits for stage in stages),
                    "logits_by_stage": [stage.logits for stage in stages],
                    "boxes_px": max(stage.boxes_px for stage in stages),
                    "boxes_share_median": max(stage.boxes_share[0] for stage in stages),
                    "boxes_share_p99": max(stage.boxes_share[1] for stage in stages),
                    "boxes_share": max(stage.boxes_share[2] for stage in stages),
                }
    return found


def scaling(device: torch.device, rounds: int) -> dict[str, Any]:
    """Milliseconds a frame by supports, size and batch; what is kept of the supports."""
    detector = random_detector(device)
    fast = FastDetector(detector, torch.bfloat16)
    few = max(3, rounds // 2)
    images, sizes = frames(device, count=15)
    target = images[:1]
    supports: dict[str, Callable[[], Any]] = {}
    kept: dict[str, float] = {}
    for count in (0, 1, 2, 6, 10, 14):
        bank = bank_of(fast, images[: count + 1]) if count else None
        kept[str(count)] = bank.nbytes / 2**20 if bank else 0.0
        supports[str(count)] = call(fast, target, sizes[:1], bank)
    whole = GraphedDetector(fast) if device.type == "cuda" else fast
    some = bank_of(fast, images[:7])
    batches = {}
    for count in (1, 2, 4, 8) if device.type == "cpu" else (1, 2, 4, 8, 16, 32):
        many, many_sizes = images[0].expand(count, -1, -1, -1), sizes[:1].expand(count, 2)
        batches[str(count)] = call(whole, many, many_sizes, some)
    resolutions = {}
    for height in (300, 450, 600, 750):
        size = (height, height * 5 // 3)
        few_images, few_sizes = frames(device, size)
        bank = bank_of(fast, few_images, size)
        resolutions[f"{size[0]}x{size[1]}"] = call(fast, few_images[:1], few_sizes[:1], bank)
    by_batch = turns(batches, device, few)
    return {
        "supports": turns(supports, device, few),
        "supports_kept_mib": kept,
        "batch": {count: times / int(count) for count, times in by_batch.items()},
        "size": turns(resolutions, device, few),
    }


def rows_of_the_paper(device: torch.device, rounds: int) -> dict[str, float]:
    """Milliseconds a frame of the variants in the paper's Tables 2, 4 and 5; they take turns."""
    contestants: dict[str, Callable[[], Any]] = {}
    for name, tfe, spfa, count in PAPER:
        detector = random_detector(device, tfe=tfe, spfa=spfa)
        fast = FastDetector(detector, torch.bfloat16)
        images, sizes = frames(device, count=count + 1)
        bank = bank_of(fast, images) if count else None
        contestants[name] = call(fast, images[:1], sizes[:1], bank)
    return turns(contestants, device, max(3, rounds // 2))


def roofline(device: torch.device, rounds: int) -> dict[str, Any]:
    """Operations and memory traffic of each part, beside what the machine can do at most."""
    detector = random_detector(device)
    images, sizes = frames(device)
    with plain_layers():  # those that can be counted
        counted = FastDetector(detector, torch.bfloat16)
    bank = bank_of(counted, images)
    with Traffic(counted) as traffic:
        counted.detect(images[:1], sizes[:1], bank)
    result = benchmark(
        detector, BenchmarkSettings(repeats=max(3, rounds // 2), warmup=1), device=device
    )
    peak, bandwidth = matrix_peak(device), memory_bandwidth(device)
    parts = {}
    for part in PARTS:
        seconds = result["parts"][part]["median"]
        flops, moved = traffic.flops[part], traffic.bytes[part]
        least = max(flops / peak, moved / bandwidth)
        parts[part] = {
            "milliseconds": 1000 * seconds,
            "gflop": flops / 1e9,
            "of_them_in_8_bits": traffic.integer_flops[part] / 1e9,
            "mib_moved": moved / 2**20,
            "share_of_matrix_peak": flops / seconds / peak,
            "share_of_bandwidth": moved / seconds / bandwidth,
            "bound_by": "matrix products" if flops / peak > moved / bandwidth else "memory",
            "share_of_the_bound": least / seconds,
        }
    return {
        "bf16_peak_gflops": peak / 1e9,
        "bandwidth_gb_s": bandwidth / 1e9,
        "parts": parts,
        "without_supports_gflop": {
            part: parts[part]["gflop"] for part in ("backbone", "pyramid", "head")
        },
    }


def random_detector(
    device: torch.device,
    init: str = "image",
    *,
    tfe: str = "attention",
    spfa: str = "attention",
    unit_maps: bool = True,
) -> SparseVOD:
    """Seeded R50; SPFA's output, zero at the start, is drawn too, so that it matters."""
    torch.manual_seed(0)
    variant = [f"model.proposal_init={init}", f"model.tfe={tfe}", f"model.spfa={spfa}"]
    config = load_config("r50", overrides=variant)
    detector = build_detector(config.model).eval().requires_grad_(False)
    for stage in detector.stages:
        if stage.aggregation is not None:
            torch.nn.init.normal_(stage.aggregation.output.weight, std=0.02)
    if unit_maps:
        images, sizes = frames(torch.device("cpu"))
        with torch.inference_mode():
            levels = detector.pyramid(images[:1], sizes[:1])
        for block, level in zip(detector.backbone.fpn.layer_blocks, levels, strict=True):
            block[0].weight /= level.std().item()
            block[0].bias /= level.std().item()
    return detector.to(device)


def frames(
    device: torch.device, size: tuple[int, int] = SIZE, count: int = SUPPORTS + 1
) -> tuple[Tensor, Tensor]:
    """A still scene with detail of every size, seen from a camera that moves."""
    generator = torch.Generator().manual_seed(1)
    scene = torch.zeros(1, 3, *size)
    for octave in range(7):
        noise = torch.randn(1, 3, 5 * 2**octave, 8 * 2**octave, generator=generator)
        scene += 0.75**octave * torch.nn.functional.interpolate(noise, size=size, mode="bicubic")
    scene = ((scene / scene.std() * 0.22 + 0.5).clamp(0, 1) * 255).byte()[0]
    moved = [scene.roll((5 * number, 9 * number), dims=(1, 2)) for number in range(count)]
    images, sizes = pad_to_multiple(moved)
    return images.to(device), sizes.to(device)


@torch.inference_mode()
def bank_of(fast: FastDetector, images: Tensor, size: tuple[int, int] = SIZE) -> Any:
    """Of all frames but the first."""
    return fast.remember(images[1:], size)


def call(
    fast: FastDetector | GraphedDetector, images: Tensor, sizes: Tensor, bank: Any
) -> Callable[[], Any]:
    return lambda: top_detections(fast.detect(images, sizes, bank))


@torch.inference_mode()
def turns(
    contestants: dict[str, Callable[[], Any]], device: torch.device, rounds: int
) -> dict[str, float]:
    """Median milliseconds of each, taking turns, after one run that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            synchronise(device)
            start = time.perf_counter()
            run()
            synchronise(device)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: median(each[1:]) for name, each in times.items()}


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def plain_layers() -> Iterator[None]:
    with (
        mock.patch("sparsevod_core.fast.backbone.can_pack", lambda _: False),
        mock.patch("sparsevod_core.fast.stage.can_pack", lambda _: False),
    ):
        yield


@contextmanager
def floating_point_search() -> Iterator[None]:
    with mock.patch("sparsevod_core.fast.temporal_roi.can_quantise", lambda *_: False):
        yield


@torch.inference_mode()
def share_of_p2(detector: SparseVOD, device: torch.device) -> float | None:
    """Of the finest map's tiles those that a frame makes; None where it makes whole maps."""
    fast = FastDetector(detector, torch.bfloat16)
    images, sizes = frames(device)
    pyramid = fast.pyramid(images[:1], sizes[:1])
    if not isinstance(pyramid, LazyPyramid):
        return None
    fast.refine(pyramid, sizes[:1], bank_of(fast, images))
    return pyramid._is_made[0].float().mean().item()


def video_length(device: torch.device, rounds: int) -> dict[str, float]:
    """Milliseconds a frame of whole videos after the first batch, by the embedded model.

    `Predictor.video` decodes, resizes and detects; of three rounds in turn the shortest.
    """
    predictor = Predictor.from_checkpoint(
        device=str(device), overrides=["inference.precision=auto"]
    )
    batch = predictor.config.inference.batch
    images, _ = frames(torch.device("cpu"), (224, 280), 1)
    times: dict[int, list[float]] = {50: [], 200: [], 800: []}
    with tempfile.TemporaryDirectory() as folder:
        for length in times:
            path = Path(folder) / f"{length}.mp4"
            with VideoWriter(path, 280, 224, frame_rate=Fraction(25)) as writer:
                for number in range(length):  # there and back: all lengths show the same
                    moved = images[0, :, :224, :280].roll(abs(number % 50 - 25), dims=2)
                    writer.write(moved.permute(1, 2, 0).contiguous().numpy())
        for _ in range(3):
            for length, found in times.items():
                detections = predictor.video(Path(folder) / f"{length}.mp4")
                next(detections)  # the supports are remembered, and the first batch is done
                start = time.perf_counter()
                rest = sum(1 for _ in detections) + 1 - batch
                found.append(1000 * (time.perf_counter() - start) / rest)
    return {str(length): min(found) for length, found in times.items()}


@torch.inference_mode()
def matrix_peak(device: torch.device) -> float:
    """Operations a second of the best of some bf16 matrix products."""
    best = 0.0
    for side in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192, 16384):
        a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
        times = turns({"product": lambda a=a, b=b: a @ b.t()}, device, 5)
        best = max(best, 2 * side**3 / (times["product"] / 1000))
    return best


@torch.inference_mode()
def memory_bandwidth(device: torch.device) -> float:
    """Bytes a second, read and written, of a copy that no cache holds."""
    source = torch.zeros(2**28 if device.type == "cpu" else 2**30, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    times = turns({"copy": lambda: target.copy_(source)}, device, 5)
    return 2 * source.nbytes / (times["copy"] / 1000)


if __name__ == "__main__":
    main()
