"""Time per frame on a busy CPU, by the way OpenMP threads wait for each other.

One process per policy takes a turn of a few seconds, in which it computes frame after frame (the
first second is not counted) while other processes, started for this purpose, keep the CPU busy. A
round starts when no unrelated process uses the CPU. A round that was disturbed is repeated until
the time is up.

    python benchmarks/company.py --out benchmarks/results/company.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from hardware import about_this_machine

Process: TypeAlias = "subprocess.Popen[str]"

OURS = "sparsevod"
POLICIES = {
    "spinning, as libgomp does": {},
    "sleeping (OMP_WAIT_POLICY=passive)": {"OMP_WAIT_POLICY": "passive"},
    OURS: {},
}
SIZES = {"r50": (600, 1000), "embedded": (320, 400)}
COUNTS = "while True: pass"
COUNTS_HALF_THE_TIME = """
import time
while True:
    end = time.monotonic() + 0.05
    while time.monotonic() < end: pass
    time.sleep(0.05)
"""
MULTIPLIES = """
import torch
a = torch.randn(1024, 1024)
while True: a @ a
"""
COMPANY = {
    "nobody": [],
    "one that is busy half the time": [COUNTS_HALF_THE_TIME],
    "one busy process": [COUNTS],
    "three busy processes": [COUNTS] * 3,
    "torch on all cores": [MULTIPLIES],
}
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--company", nargs="*", choices=COMPANY, default=list(COMPANY))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="length of a turn")
    parser.add_argument(
        "--patience",
        type=float,
        default=120,
        help="time limit for all rounds of one case, in seconds",
    )
    parser.add_argument(
        "--strangers",
        type=float,
        default=0.1,
        help="number of cores that unrelated processes may use",
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        compute(*arguments.measure)
        return
    result: dict[str, Any] = {"machine": about_this_machine("torch")}
    for model in arguments.models:
        result[model] = {}
        with ExitStack() as running:
            contestants = {
                name: running.enter_context(
                    process([__file__, "--measure", model, name], **environment)
                )
                for name, environment in POLICIES.items()
            }
            for contestant in contestants.values():
                turn(contestant, 0.1)
            for name in arguments.company:
                result[model][name] = found = compare(contestants, COMPANY[name], arguments)
                sys.stdout.write(f"{model} beside {name}: {json.dumps(found, indent=1)}\n")
                sys.stdout.flush()
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


@contextmanager
def process(words: list[str], **environment: str) -> Iterator[Process]:
    """Start a Python process with only the given OpenMP settings, and kill it at the end."""
    clean = {name: text for name, text in os.environ.items() if "OMP_" not in name}
    with subprocess.Popen(
        [sys.executable, *words],
        env={**clean, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def compare(
    contestants: dict[str, Process], company: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return the median seconds per frame of each policy, and ours relative to the better other."""
    rounds: list[tuple[float, dict[str, float]]] = []
    end = time.monotonic() + arguments.patience
    while sum(strangers <= arguments.strangers for strangers, _ in rounds) < arguments.rounds:
        is_quiet = wait_for_quiet(list(contestants.values()), arguments.strangers, end)
        if rounds and not is_quiet:
            break
        rounds.append(one_round(contestants, company, arguments.seconds))
    rounds = sorted(rounds, key=lambda found: found[0])[: arguments.rounds]
    seconds = {name: median(found[name] for _, found in rounds) for name in contestants}
    better = min(value for name, value in seconds.items() if name != OURS)
    return {
        "seconds_per_frame": {name: round(value, 4) for name, value in seconds.items()},
        "ours_to_the_better": round(seconds[OURS] / better, 3),
        "rounds": len(rounds),
        "cores_that_strangers_used": round(max(strangers for strangers, _ in rounds), 2),
    }


def one_round(
    contestants: dict[str, Process], company: list[str], length_s: float
) -> tuple[float, dict[str, float]]:
    """Return the most cores unrelated processes used in a turn, and seconds per frame by policy."""
    strangers, seconds = 0.0, {}
    with ExitStack() as beside:
        known = [
            *contestants.values(),
            *(beside.enter_context(process(["-c", code])) for code in company),
        ]
        time.sleep(4 if MULTIPLIES in company else 0)  # to import torch
        for name, contestant in contestants.items():
            before, start = time_of_strangers(known), time.monotonic()
            seconds[name] = turn(contestant, length_s)
            took = time.monotonic() - start
            strangers = max(strangers, (time_of_strangers(known) - before) / took)
    return strangers, seconds


def wait_for_quiet(known: list[Process], strangers: float, end: float) -> bool:
    """Wait until unrelated processes used few cores for three seconds; return False after `end`."""
    quiet_looks = 0
    while quiet_looks < 3:
        if time.monotonic() > end:
            return False
        before = time_of_strangers(known)
        time.sleep(1)
        is_quiet = time_of_strangers(known) - before <= strangers
        quiet_looks = quiet_looks + 1 if is_quiet else 0
    return True


def turn(contestant: Process, seconds: float) -> float:
    assert contestant.stdin and contestant.stdout
    contestant.stdin.write(f"{seconds}\n")
    contestant.stdin.flush()
    return float(contestant.stdout.readline())


def time_of_strangers(known: list[Process]) -> float:
    """Return the CPU time in seconds used so far by unrelated processes and the host (steal)."""
    fields = Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields)
    used = user + nice + system + irq + softirq + steal
    for one in known:
        fields = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
        used -= int(fields[11]) + int(fields[12])
    return used * TICK_S


def compute(model: str, policy: str) -> None:
    """Child process: for each line read, compute for that many seconds, print seconds per frame."""
    from sparsevod_core.allocator import keep_freed_memory
    from sparsevod_core.spinning import spin_only_on_free_cores

    keep_freed_memory()
    if policy == OURS and not spin_only_on_free_cores():
        raise SystemExit("needs a system that reports how long threads wait for a core")
    import torch
    from inference import PLAN, call, frames, kept, r50

    from sparsevod_core.checkpoint import embedded_checkpoint, load_detector
    from sparsevod_core.fast import optimized

    is_embedded = model == "embedded"
    detector = load_detector(embedded_checkpoint())[0].eval() if is_embedded else r50()
    fast = optimized(detector, PLAN)
    images, sizes = frames(SIZES[model])
    frame = call(fast, images[:1], sizes[:1], kept(fast, images, SIZES[model]))
    with torch.inference_mode():
        for line in sys.stdin:
            for seconds in (1.0, float(line)):
                count, start = 0, time.perf_counter()
                while (took := time.perf_counter() - start) < seconds:
                    frame()
                    count += 1
            sys.stdout.write(f"{took / count}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
