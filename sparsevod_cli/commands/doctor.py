"""`sparsevod doctor`: print versions and devices for a bug report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sparsevod_cli import console
from sparsevod_cli.options import JsonOut

if TYPE_CHECKING:
    from sparsevod_core.machine import Machine

SCHEMA = "sparsevod.doctor/1"


def doctor(json_out: JsonOut = None) -> None:
    """Print versions and devices for a bug report.

    The exit code is 1 if something that other commands need does not work.

    Keys of --json: schema ("sparsevod.doctor/1"), versions, ffmpeg, platform, cpu,
    memory_gib, memory_available_gib, gpus, cuda, gpu_driver, environment, problems.

    Example: sparsevod doctor --json machine.json
    """
    from dataclasses import asdict

    from sparsevod_core.machine import describe_machine

    console.check_outputs(json_out, SCHEMA, {})
    machine = describe_machine()
    if json_out is not None:
        console.write_json(json_out, {"schema": SCHEMA, **asdict(machine)})
    if str(json_out) != "-":
        for label, value in _lines(machine):
            console.out(f"{label:<22} {value}")
    for problem in machine.problems:
        console.say(f"problem: {problem}")
    if machine.problems:
        raise typer.Exit(1)


def _lines(machine: Machine) -> list[tuple[str, str]]:
    """Return label and text of each line."""
    cpu = machine.cpu
    bf16 = "bf16 in hardware" if cpu.bf16 else "no bf16 in hardware"
    ffmpeg = " ".join(f"{name} {number}" for name, number in machine.ffmpeg.items())
    lines = [
        *machine.versions.items(),
        ("FFmpeg of PyAV", ffmpeg or "none"),
        ("system", machine.platform),
        ("CPU", f"{cpu.model}, {cpu.cores} cores, {bf16}{', AMX' if cpu.amx else ''}"),
    ]
    if machine.memory_gib is not None:
        available = f"{machine.memory_available_gib} GiB available"
        lines.append(("memory", f"{machine.memory_gib} GiB, {available}"))
    lines.append(("torch built for CUDA", machine.cuda or "no"))
    lines.append(("GPU driver", machine.gpu_driver or "none"))
    lines += [
        (
            f"GPU {index}",
            f"{gpu.name}, {gpu.memory_gib} GiB ({gpu.free_gib} free), "
            f"compute capability {gpu.compute_capability}",
        )
        for index, gpu in enumerate(machine.gpus)
    ]
    return lines + list(machine.environment.items())
