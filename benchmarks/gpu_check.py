"""Check of tests, speed, accuracy and memory on a GPU against fixed targets.

It needs the source folder, torch, torchvision and NumPy, but no installation and no network. A
measurement that needs a missing package reports it. Each measurement runs in its own process with
its own time limit, the most important first, and the results are saved after each, so that an
interrupted run keeps them. `make gpu-check` runs all; `--device cpu` tests the script itself on
small sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))  # the source folder may never have been installed

from sparsevod_core.machine import describe_machine  # noqa: E402


@dataclass(frozen=True, slots=True)
class Demand:
    """Target for one figure of a measurement: an upper bound, or a lower bound if `is_least`."""

    text: str
    measure: str
    figure: str
    asked: float
    is_least: bool = False

    def verdict(self, found: dict[str, Any]) -> tuple[float | None, str]:
        """Return the figure, and whether it meets the target."""
        value = found.get(self.measure, {}).get(self.figure)
        if value is None:
            return None, "not measured"
        is_met = value >= self.asked if self.is_least else value <= self.asked
        return value, "ok" if is_met else "MISSED"


DEMANDS = (
    Demand("tests/gpu: pytest's exit code", "tests", "exit_code", 0),
    Demand("frames/s, one at a time", "model", "compiled_batch_1", 250, True),
    Demand("frames/s, batches of 16", "model", "compiled_batch_16", 500, True),
    Demand("first use until recorded, s", "model", "first_use_s", 15),
    Demand("TFE and SPFA, added share, one at a time", "temporal", "share_batch_1", 0.25),
    Demand("TFE and SPFA, added share, batches", "temporal", "share_batch_16", 0.25),
    Demand("times as fast as Faster R-CNN v2", "rival", "times_as_fast", 4, True),
    Demand("fp32 = CPU, logits, own maps", "accuracy", "embedded_fp32_own_maps_logits", 1e-3),
    Demand("fp32 = CPU, px, own maps", "accuracy", "embedded_fp32_own_maps_boxes_px", 0.05),
    Demand("fp32 = CPU, logits, same maps", "accuracy", "embedded_fp32_shared_maps_logits", 1e-3),
    Demand("fp32 = CPU, px, same maps", "accuracy", "embedded_fp32_shared_maps_boxes_px", 0.05),
    Demand("bf16, logits, own maps", "accuracy", "embedded_bf16_own_maps_logits", 0.1),
    Demand("training step of R50, one clip, s", "training", "r50_1_recorded_s", 0.060),
    Demand("training step of tiny, 8 clips, s", "training", "tiny_8_recorded_s", 0.030),
    Demand("gradients, recorded against launched", "training", "fp32_gradient_difference", 1e-3),
    Demand("training, share of time waiting for data", "evaluation", "train_data_wait_share", 0.05),
    Demand(
        "detect, 720p, relative to its slowest part",
        "detect",
        "720p_share_of_the_slowest",
        0.9,
        True,
    ),
    Demand(
        "detect, 1080p, relative to its slowest part",
        "detect",
        "1080p_share_of_the_slowest",
        0.9,
        True,
    ),
    Demand("eval over JPEG folders, frames/s", "evaluation", "fps", 294, True),
    Demand("memory growth, MiB", "memory", "grown_mib", 1),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu (with small sizes)")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these measurements")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        run_here(arguments.measure, arguments.device, arguments.out)
        return 0

    import torch

    if arguments.device != "cpu" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; use --device cpu to test the script itself")
    names = chosen(parser, arguments.only)
    result: dict[str, Any] = {
        "schema": "sparsevod.gpu-check/1",
        "device": arguments.device,
        "commit": commit(),
        "machine": asdict(describe_machine()),
        "measures": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, limit_s in names.items():
            say(f"--- {name}, time limit {limit_s} s")
            found = run_apart(name, arguments.device, limit_s, Path(folder))
            result["measures"][name] = found
            say(json.dumps(found, indent=1))
            write(arguments.out, result)
    rows = list(table(result["measures"]))
    result["demands"] = [
        dict(zip(("demand", "figure", "asked", "verdict"), row, strict=True)) for row in rows
    ]
    write(arguments.out, result)
    say("")
    for text, value, asked, verdict in rows:
        figure = "" if value is None else f"{value:.4g}"
        say(f"{text:<48} {figure:>10}   {asked:<12} {verdict}")
    return int(any(verdict != "ok" for *_, verdict in rows))


def chosen(parser: argparse.ArgumentParser, only: list[str] | None) -> dict[str, int]:
    """Return the measurements to run with their time limits in seconds."""
    from gpu_measures import MEASURES

    for name in only or []:
        if name not in MEASURES:
            parser.error(f"--only {name}: expected some of {', '.join(MEASURES)}")
    return {name: limit for name, (_, limit) in MEASURES.items() if not only or name in only}


def environment(name: str, folder: Path) -> dict[str, str]:
    """Return an environment that imports the source folder with empty compiler caches."""
    paths = filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])
    caches = folder / ("tests" if name == "tests" else "speed")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
    }


def run_apart(name: str, device: str, limit_s: int, folder: Path) -> dict[str, Any]:
    """Run a measurement in a child process; return its results up to its end or time limit."""
    out, log = folder / f"{name}.json", folder / f"{name}.log"
    command = [sys.executable, __file__, "--measure", name, "--device", device, "--out", str(out)]
    start = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=environment(name, folder),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its own children can be killed with it
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    found = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if code is None:
        found["error"] = f"out of time after {limit_s} s"
    elif code:
        found["error"] = lines[-1] if lines else f"exit code {code}"
    if code != 0 or name == "tests":
        say("\n".join(lines[-60:]))
    return {**found, "took_s": round(time.monotonic() - start, 1)}


def run_here(name: str, device: str, out: Path) -> None:
    """Run a measurement in this process, and write `out` after each result."""
    import torch
    from gpu_measures import MEASURES, SMALL, WHOLE

    from sparsevod_core.allocator import keep_freed_memory

    keep_freed_memory()
    found: dict[str, Any] = {}
    measure, _ = MEASURES[name]
    try:
        for part in measure(torch.device(device), SMALL if device == "cpu" else WHOLE):
            found |= part
            write(out, found)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("sparsevod"):
            raise
        write(out, {**found, "skipped": f"needs {error.name}, which is not installed"})


def table(found: dict[str, Any]) -> Iterator[tuple[str, float | None, str, str]]:
    """Yield each target's text, measured figure, bound and verdict."""
    for demand in DEMANDS:
        value, verdict = demand.verdict(found)
        note = found.get(demand.measure, {})
        if value is None and (reason := note.get("skipped") or note.get("error")):
            verdict = f"not measured: {reason}"
        yield demand.text, value, f"{'>=' if demand.is_least else '<='} {demand.asked:g}", verdict


def commit() -> str:
    """Return the commit of the source folder, or `unknown`."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that is replaced only when complete."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
