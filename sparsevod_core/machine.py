"""Description of this machine for bug reports and benchmarks: versions, processor, memory, GPUs."""

from __future__ import annotations

import os
import platform
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from sparsevod_core.version import version

PACKAGES = {  # package name -> module name
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "scipy": "scipy",
    "av": "av",
    "opencv-python": "cv2",
    "opencv-python-headless": "cv2",
    "pycocotools": "pycocotools.mask",
    "matplotlib": "matplotlib",
    "jaxtyping": "jaxtyping",
    "PyYAML": "yaml",
    "rich": "rich",
    "typer": "typer",
}
ENVIRONMENT = re.compile(
    r"(SPARSEVOD|CUDA|NVIDIA|PYTORCH|TORCH|NCCL|GLOO|G?OMP|MKL|KMP|OPENBLAS|OPENCV)_\w+"
    r"|(GROUP_|LOCAL_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)|LD_LIBRARY_PATH|VIRTUAL_ENV"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Processor available to this process."""

    model: str
    cores: int
    """Number of cores that this process may use, which may be fewer than the machine has."""
    bf16: bool
    """Whether the processor multiplies bf16 (AVX-512, AMX or Arm); otherwise it is slow."""
    amx: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """GPU that torch can use."""

    name: str
    memory_gib: float
    free_gib: float
    compute_capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Contents of a bug report."""

    versions: dict[str, str]
    """Versions of `python`, `sparsevod` and installed packages."""
    ffmpeg: dict[str, str]
    """Versions of the FFmpeg libraries bundled with PyAV."""
    platform: str
    cpu: Cpu
    memory_gib: float | None
    memory_available_gib: float | None
    gpus: tuple[Gpu, ...]
    cuda: str | None
    """CUDA or ROCm version that torch was built for."""
    gpu_driver: str | None
    environment: dict[str, str]
    """Environment variables that affect this program."""
    problems: tuple[str, ...]
    """One line for each thing that does not work."""


def describe_machine() -> Machine:
    """Describe this machine; anything missing becomes a line in `problems`, not an error."""
    environment = {
        name: os.environ[name] for name in sorted(os.environ) if ENVIRONMENT.fullmatch(name)
    }
    problems = _import_problems()  # after the environment, which importing cv2 changes
    cuda, gpus, gpu_problems = _gpus()
    ffmpeg, ffmpeg_problems = _ffmpeg()
    total_gib, available_gib = _memory_gib()
    return Machine(
        versions=_versions(),
        ffmpeg=ffmpeg,
        platform=platform.platform(),
        cpu=describe_cpu(),
        memory_gib=total_gib,
        memory_available_gib=available_gib,
        gpus=gpus,
        cuda=cuda,
        gpu_driver=_gpu_driver(),
        environment=environment,
        problems=(*problems, *ffmpeg_problems, *gpu_problems),
    )


def num_processors() -> int:
    """Return the number of processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def describe_run(
    device: str, precision: str, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the results of a run depend on, for JSON: they can be made again from it.

    Args:
        device: torch's name of the device.
        precision: Precision of the computation.
        settings: All settings by dotted key, see `Config.flat`; None: they are recorded elsewhere.

    Returns:
        `version`, `device` (with the model of a GPU), `precision` and `threads`; with settings also
        `seed` and `settings`.
    """
    import torch

    kind = torch.device(device)
    gpu = f" ({torch.cuda.get_device_name(kind)})" if kind.type == "cuda" else ""
    return {
        "version": version(),
        "device": f"{device}{gpu}",
        "precision": precision,
        "threads": torch.get_num_threads(),
        **({} if settings is None else {"seed": settings["seed"], "settings": dict(settings)}),
    }


def describe_cpu() -> Cpu:
    """Return model name, usable cores and bf16 support."""
    info = _read(Path("/proc/cpuinfo"))
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.MULTILINE)
    flag_set = set(flags.group(1).split()) if flags else set()
    return Cpu(
        model=model.group(1) if model else platform.processor() or platform.machine(),
        cores=num_processors(),
        bf16=bool(flag_set & {"avx512_bf16", "amx_bf16", "bf16"}),
        amx="amx_tile" in flag_set,
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    found["sparsevod"] = version()
    for package in PACKAGES:
        installed = _version(package)
        if installed is not None:
            found[package] = installed
    return found


def _version(package: str) -> str | None:
    try:
        return installed_version(package)
    except PackageNotFoundError:
        return None


def _import_problems() -> list[str]:
    problems = []
    for module in dict.fromkeys(PACKAGES.values()):
        try:
            import_module(module)
        except Exception as error:  # a broken binary may raise anything, not only ImportError
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            hint = ""
            if module == "cv2" and ".so" in reason:
                hint = " (Debian: apt install libgl1 libglib2.0-0, or use opencv-python-headless)"
            problems.append(f"cannot import {module}: {reason}{hint}")
    if _version("opencv-python") and _version("opencv-python-headless"):
        problems.append("opencv-python and opencv-python-headless overwrite each other: keep one")
    return problems


def _ffmpeg() -> tuple[dict[str, str], list[str]]:
    try:
        import av
    except Exception:  # reported by _import_problems
        return {}, []
    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    if "libx264" in av.codecs_available:
        return libraries, []
    return libraries, ["PyAV has no libx264: cannot write H.264 videos"]


def _gpus() -> tuple[str | None, tuple[Gpu, ...], list[str]]:
    try:
        import torch
    except Exception:
        return None, (), []
    built_for = torch.version.cuda or torch.version.hip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        # torch gives the reason in a warning, e.g. a driver older than its CUDA.
        problems = [str(warning.message).splitlines()[0] for warning in caught]
        if not problems and built_for and Path("/dev/nvidia0").exists():
            problems = [f"torch (built for {built_for}) cannot use the GPU of this machine"]
        return built_for, (), problems
    gpus, problems = [], []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        try:
            free_bytes, _ = torch.cuda.mem_get_info(index)
        except RuntimeError as error:  # e.g. a GPU held exclusively, or in an error state
            problems.append(f"GPU {index} does not answer: {str(error).splitlines()[0]}")
            free_bytes = 0
        gpus.append(
            Gpu(
                name=properties.name,
                memory_gib=_gib(properties.total_memory),
                free_gib=_gib(free_bytes),
                compute_capability=f"{properties.major}.{properties.minor}",
            )
        )
    return built_for, tuple(gpus), problems


def _gpu_driver() -> str | None:
    found = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", _read(Path("/proc/driver/nvidia/version")))
    return found.group() if found else None


def _memory_gib() -> tuple[float | None, float | None]:
    kib = dict(re.findall(r"^(\w+):\s*(\d+) kB$", _read(Path("/proc/meminfo")), re.MULTILINE))
    total, available = (kib.get(name) for name in ("MemTotal", "MemAvailable"))
    return (
        _gib(int(total) * 1024) if total else None,
        _gib(int(available) * 1024) if available else None,
    )


def _gib(num_bytes: int) -> float:
    return round(num_bytes / 2**30, 1)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not on Linux
        return ""
