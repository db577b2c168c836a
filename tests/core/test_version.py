"""The version of an installed package and of a source folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sparsevod_core.version import version

REPOSITORY = Path(__file__).parents[2]

WITHOUT_METADATA = """
import importlib.metadata as metadata
installed = metadata.version
def version(name):
    if name == "sparsevod":
        raise metadata.PackageNotFoundError(name)
    return installed(name)
metadata.version = version
import runpy, sys
sys.argv = ["sparsevod", *sys.argv[1:]]
runpy.run_module("sparsevod_cli", run_name="__main__")
"""


def test_an_installed_package_says_its_own() -> None:
    assert version() == installed_version("sparsevod")


def run_from_source(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_METADATA, *words]
    return subprocess.run(
        command, cwd=folder, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_source_folder_that_was_never_installed_runs(tmp_path: Path) -> None:
    for name in ("sparsevod_core", "sparsevod_cli"):
        shutil.copytree(
            REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    done = run_from_source(tmp_path, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"sparsevod {installed_version('sparsevod')}+source"
    bench = run_from_source(
        tmp_path, "bench", "--size", "64x96", "--repeats", "1", "--warmup", "0", "--json", "-"
    )
    assert bench.returncode == 0, bench.stderr
    assert "+source" in bench.stdout


def test_without_a_project_file_it_is_unknown(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "sparsevod_core", tmp_path / "sparsevod_core")
    shutil.copytree(REPOSITORY / "sparsevod_cli", tmp_path / "sparsevod_cli")
    assert run_from_source(tmp_path, "--version").stdout.strip() == "sparsevod unknown"
