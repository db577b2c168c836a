"""Inference on a CPU: time per frame, ablation of the optimizations, accuracy, scaling.

Unless stated otherwise, the model is R50 at 600x1000 with 100 proposals, 6 stages and 6 support
frames, and seeded random weights scaled to feature maps of unit standard deviation. Untrained FPN
maps are 30 times as large, unlike trained ones, and make TFE's softmax select a single frame.
Compared programs take turns in one process. `make bench` runs all measurements.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from hardware import about_this_machine
from scene import random_detector, scene_frames
from torch import Tensor
from torchvision.models import get_model
from traffic import Traffic

from sparsevod_core.allocator import keep_freed_memory
from sparsevod_core.benchmark.accuracy import stage_differences
from sparsevod_core.benchmark.inference import PLAIN, BenchmarkSettings, benchmark
from sparsevod_core.checkpoint import embedded_checkpoint, load_detector
from sparsevod_core.fast import optimized, plan_for
from sparsevod_core.inference import Predictor
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.video.writer import VideoWriter

CPU = torch.device("cpu")
PLAN = plan_for(CPU, "bf16")
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
PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
DEMANDS = {"times_plain": 4.0, "times_rival": 4.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("inference.json"))
    parser.add_argument("--only", nargs="*", help="run only these measurements")
    parser.add_argument("--process", choices=("fast", PLAIN, RIVAL), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process is not None:
        sys.stdout.write(json.dumps(in_this_process(arguments.process)))
        return
    keep_freed_memory()
    measures: dict[str, Callable[[int], Any]] = {
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
    result["threads"] = torch.get_num_threads()
    for name, measure in measures.items():
        if arguments.only and name not in arguments.only:
            continue
        sys.stdout.write(f"--- {name}\n")
        result[name] = measure(arguments.rounds)
        sys.stdout.write(json.dumps(result[name], indent=1) + "\n")
        sys.stdout.flush()
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, demand in DEMANDS.items():
        for where, found in (
            ("in one process", result.get("speed", {}).get("proposals all over the image")),
            ("in separate processes", result.get("processes")),
        ):
            if found:
                sys.stdout.write(f"{name}, {where}: {found[name]:.2f} (target: {demand})\n")


def speed(rounds: int) -> dict[str, Any]:
    """Compare the optimized model with our plain fp32 model and torchvision's detector in fp32."""
    found = {}
    for name, init in (("proposals all over the image", "image"), ("small proposals", "grid")):
        detector = r50(init)
        settings = BenchmarkSettings(repeats=rounds, warmup=1)
        result = benchmark(detector, settings, device=CPU, against=[PLAIN, RIVAL])
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
            "share_of_p2_that_is_made": share_of_p2(detector),
            "first_box_seconds": result["first_box_seconds"],
            "memory_seconds": result["memory_seconds"],
            "memory_mib_a_support": result["memory_mib"] / SUPPORTS,
        }
    return found


def processes(rounds: int) -> dict[str, Any]:
    """Compare milliseconds per frame in fresh processes, each with its usual allocator settings.

    `sparsevod` configures glibc to keep freed memory (benchmarks/allocator.py). A script that calls
    a model, ours or torchvision's, has glibc's defaults.
    """
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
    """Return the median milliseconds per frame of one program."""
    images, sizes = frames()
    if name == RIVAL:
        network = get_model(RIVAL, weights=None, weights_backbone=None).eval()
        image = images[0, :, : SIZE[0], : SIZE[1]].float() / 255
        return turns({name: lambda: network([image])}, 4)[name]
    detector = r50()
    if name == PLAIN:
        return turns({name: call(detector, images[:1], sizes[:1], kept(detector, images))}, 4)[name]
    keep_freed_memory()
    fast = optimized(detector, PLAN)
    return turns({name: call(fast, images[:1], sizes[:1], kept(fast, images))}, 8)[name]


def effects(rounds: int) -> dict[str, Any]:
    """Return milliseconds per frame without each optimization; the variants take turns."""
    plans = {
        "as it is": PLAN,
        "without bf16": plan_for(CPU, "fp32"),
        "without integers in the search": replace(PLAN, int8_search=False),
        "without taps of the supports": replace(PLAN, taps=False),
        "without the lazy pyramid": replace(PLAN, lazy_pyramid=False),
        "without packed and fused layers": replace(PLAN, fused="none"),
    }
    detector = r50()
    images, sizes = frames()
    contestants: dict[str, Callable[[], Any]] = {}
    for name, plan in plans.items():
        fast = optimized(detector, plan)
        contestants[name] = call(fast, images[:1], sizes[:1], kept(fast, images))
    return turns(contestants, rounds)


def accuracy(rounds: int) -> dict[str, Any]:
    """Return the largest differences of any stage; see `sparsevod_core.benchmark.accuracy`."""
    found: dict[str, Any] = {}
    for name, detector in (
        ("R50, proposals all over the image", r50()),
        ("R50, small proposals", r50("grid")),
        ("R50, untrained maps as they are", r50(unit_maps=False)),
        ("the embedded model, trained", load_detector(embedded_checkpoint())[0].eval()),
    ):
        size = (320, 400) if "embedded" in name else SIZE
        images, _ = frames(size)
        for precision in PRECISIONS:
            fast: Any = optimized(detector, plan_for(CPU, precision))
            for shared in (True, False):
                stages = stage_differences(
                    detector, fast, images[:1], images[1:], size, shared_maps=shared
                )
                maps = "the plain path's maps" if shared else "maps of its own"
                found[f"{name}, {maps}, {precision}"] = {
                    "logits": max(stage.logits for stage in stages),
                    "logits_by_stage": [stage.logits for stage in stages],
                    "boxes_px": max(stage.boxes_px for stage in stages),
                    "boxes_share_median": max(stage.boxes_share[0] for stage in stages),
                    "boxes_share_p99": max(stage.boxes_share[1] for stage in stages),
                    "boxes_share": max(stage.boxes_share[2] for stage in stages),
                }
    return found


def scaling(rounds: int) -> dict[str, Any]:
    """Return milliseconds per frame by support frames, size and batch; size of the memory."""
    detector = r50()
    fast = optimized(detector, PLAN)
    few = max(3, rounds // 2)
    images, sizes = frames(count=15)
    target = images[:1]
    supports: dict[str, Callable[[], Any]] = {}
    mebibytes: dict[str, float] = {}
    for count in (0, 1, 2, 6, 10, 14):
        memory = kept(fast, images[: count + 1])
        mebibytes[str(count)] = memory.nbytes / 2**20 if memory else 0.0
        supports[str(count)] = call(fast, target, sizes[:1], memory)
    some = kept(fast, images[:7])
    batches = {}
    for count in (1, 2, 4, 8):
        many, many_sizes = images[0].expand(count, -1, -1, -1), sizes[:1].expand(count, 2)
        batches[str(count)] = call(fast, many, many_sizes, some)
    resolutions = {}
    for height in (300, 450, 600, 750):
        size = (height, height * 5 // 3)
        few_images, few_sizes = frames(size)
        memory = kept(fast, few_images, size)
        resolutions[f"{size[0]}x{size[1]}"] = call(fast, few_images[:1], few_sizes[:1], memory)
    by_batch = turns(batches, few)
    return {
        "supports": turns(supports, few),
        "supports_kept_mib": mebibytes,
        "batch": {count: times / int(count) for count, times in by_batch.items()},
        "size": turns(resolutions, few),
    }


def rows_of_the_paper(rounds: int) -> dict[str, float]:
    """Return milliseconds per frame of the variants in the paper's Tables 2, 4 and 5."""
    contestants: dict[str, Callable[[], Any]] = {}
    for name, tfe, spfa, count in PAPER:
        detector = r50(tfe=tfe, spfa=spfa)
        fast = optimized(detector, PLAN)
        images, sizes = frames(count=count + 1)
        contestants[name] = call(fast, images[:1], sizes[:1], kept(fast, images))
    return turns(contestants, max(3, rounds // 2))


def roofline(rounds: int) -> dict[str, Any]:
    """Return operations and memory traffic of each part, relative to the machine's peak."""
    detector = r50()
    images, sizes = frames()
    counted: Any = optimized(detector, replace(PLAN, fused="none"))  # layers FLOP counters know
    frame = call(counted, images[:1], sizes[:1], kept(counted, images))
    with Traffic(counted) as traffic:  # inference mode hides convolutions from it
        frame()
    settings = BenchmarkSettings(repeats=max(3, rounds // 2), warmup=1)
    result = benchmark(detector, settings, device=CPU)
    peak, bandwidth = matrix_peak(), memory_bandwidth()
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


def r50(
    init: str = "image",
    *,
    tfe: str = "attention",
    spfa: str = "attention",
    unit_maps: bool = True,
) -> SparseVOD:
    """Return a variant of R50 with seeded random weights."""
    variant = (f"model.proposal_init={init}", f"model.tfe={tfe}", f"model.spfa={spfa}")
    return random_detector("r50", SIZE, *variant, unit_maps=unit_maps)


def frames(size: tuple[int, int] = SIZE, count: int = SUPPORTS + 1) -> tuple[Tensor, Tensor]:
    """Return padded frames of the scene, and their sizes."""
    return scene_frames(count, size)


@torch.inference_mode()
def kept(model: Any, images: Tensor, size: tuple[int, int] = SIZE) -> SupportMemory | None:
    """Return the support memory of all frames but the first; None if there is only one."""
    if len(images) == 1:
        return None
    sizes = torch.tensor([size]).expand(len(images) - 1, 2)
    return model.remember(model.encode(images[1:], sizes))


def call(
    model: Any, images: Tensor, sizes: Tensor, memory: SupportMemory | None
) -> Callable[[], Any]:
    return lambda: top_detections(model.detect(model.encode(images, sizes), memory))


@torch.inference_mode()
def turns(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return median milliseconds of each, taking turns, after one warm-up run."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: median(each[1:]) for name, each in times.items()}


@torch.inference_mode()
def share_of_p2(detector: SparseVOD) -> float:
    """Return the fraction of P2 tiles computed for a frame."""
    fast: Any = optimized(detector, PLAN)
    images, sizes = frames()
    pyramid = fast.encode(images[:1], sizes[:1])
    fast.detect(pyramid, kept(fast, images))
    return pyramid._is_ready[0].float().mean().item()


def video_length(rounds: int) -> dict[str, float]:
    """Return milliseconds per frame of `Predictor.video` with the bundled model, by length.

    The time includes decoding and resizing, and excludes the first batch. It is the shortest of
    three rounds, in which the lengths take turns.
    """
    predictor = Predictor.from_checkpoint(device="cpu", overrides=["inference.precision=auto"])
    batch = predictor.config.inference.batch
    images, _ = frames((320, 400), 1)
    times: dict[int, list[float]] = {50: [], 200: [], 800: []}
    with tempfile.TemporaryDirectory() as folder:
        for length in times:
            path = Path(folder) / f"{length}.mp4"
            with VideoWriter(path, 400, 320, frame_rate=Fraction(25)) as writer:
                for number in range(length):  # back and forth, so that all lengths show the same
                    moved = images[0, :, :320, :400].roll(abs(number % 50 - 25), dims=2)
                    writer.write(moved.permute(1, 2, 0).contiguous().numpy())
        for _ in range(3):
            for length, found in times.items():
                detections = predictor.video(Path(folder) / f"{length}.mp4")
                next(detections)  # after this, the support memory and the first batch are done
                start = time.perf_counter()
                rest = sum(1 for _ in detections) + 1 - batch
                found.append(1000 * (time.perf_counter() - start) / rest)
    return {str(length): min(found) for length, found in times.items()}


@torch.inference_mode()
def matrix_peak() -> float:
    """Return operations per second of the fastest of several bf16 matrix products."""
    best = 0.0
    for side in (1024, 2048, 4096):
        a, b = (torch.randn(side, side, dtype=torch.bfloat16) for _ in range(2))
        times = turns({"product": lambda a=a, b=b: a @ b.t()}, 5)
        best = max(best, 2 * side**3 / (times["product"] / 1000))
    return best


@torch.inference_mode()
def memory_bandwidth() -> float:
    """Return bytes per second, read and written, of a copy larger than the caches."""
    source = torch.zeros(2**28, dtype=torch.int8)
    target = torch.empty_like(source)
    times = turns({"copy": lambda: target.copy_(source)}, 5)
    return 2 * source.nbytes / (times["copy"] / 1000)


if __name__ == "__main__":
    main()
