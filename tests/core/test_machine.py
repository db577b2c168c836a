"""Description of the machine; anything missing becomes a line, not a traceback."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest
import torch

from sparsevod_core import machine


def test_names_what_is_installed_and_what_it_runs_on() -> None:
    found = machine.describe_machine()
    assert (
        found.versions["torch"] == torch.__version__.partition("+")[0]
        or "+" in (found.versions["torch"])
    )
    assert {"sparsevod", "python", "torchvision", "av", "numpy"} <= found.versions.keys()
    assert found.ffmpeg["libavcodec"].split(".")[0].isdigit()
    assert found.cpu.cores == len(os.sched_getaffinity(0))
    assert found.memory_gib is not None and found.memory_gib > 0.5
    assert len(found.gpus) == torch.cuda.device_count()


def test_a_package_that_does_not_import_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without_libgl(name: str) -> object:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(machine, "import_module", without_libgl)
    problems = machine.describe_machine().problems
    assert any("cannot import cv2: libGL.so.1" in line and "libgl1" in line for line in problems)


def test_only_settings_of_ours_and_of_the_libraries_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("API_TOKEN", "secret")
    shown = machine.describe_machine().environment
    assert (shown["OMP_NUM_THREADS"], shown["GOMP_SPINCOUNT"]) == ("1", "1000")
    assert shown["LOCAL_RANK"] == "0"
    assert "API_TOKEN" not in shown


XEON = (
    "model name\t: Intel(R) Xeon(R) Platinum 8481C\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n"
)
OLD_PC = "model name\t: Intel(R) Core(TM) i5-6500\nflags\t\t: fpu sse2 avx2\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n"


@pytest.mark.parametrize(
    ("cpuinfo", "bf16", "amx"),
    [(XEON, True, True), (OLD_PC, False, False), (GRAVITON, True, False)],
)
def test_bf16_is_read_from_the_processors_flags(
    cpuinfo: str, bf16: bool, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: cpuinfo)
    cpu = machine.describe_cpu()
    assert (cpu.bf16, cpu.amx) == (bf16, amx)
    assert cpu.model


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n", "535.104.05"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n",
            "570.86.10",
        ),
        ("", None),
    ],
)
def test_driver_version(text: str, driver: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: text)
    assert machine._gpu_driver() == driver


def test_a_system_without_proc_is_described_too(monkeypatch: pytest.MonkeyPatch) -> None:
    read = machine._read
    monkeypatch.setattr(machine, "_read", lambda path: read(Path("/absent") / path.name))
    found = machine.describe_machine()
    assert found.memory_gib is None
    assert found.cpu.cores >= 1
