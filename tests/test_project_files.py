"""Consistency of the project files: versions, pins, license, citation, make targets, CI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def pins() -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", read("constraints.txt"), re.MULTILINE))


def direct_requirements() -> list[Requirement]:
    extras = [text for group in PROJECT["optional-dependencies"].values() for text in group]
    return [Requirement(text) for text in PROJECT["dependencies"] + extras]


@pytest.mark.parametrize("requirement", direct_requirements(), ids=lambda item: item.name)
def test_every_direct_requirement_is_pinned_to_a_version_it_allows(
    requirement: Requirement,
) -> None:
    by_name = {name.lower(): pin for name, pin in pins().items()}
    pin = by_name[requirement.name.lower()]
    assert pin in requirement.specifier
    assert "+" not in pin  # a local build, which other package indexes do not have


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert PROJECT["version"] == version("sparsevod") == citation["version"]
    assert f"## {PROJECT['version']}" in read("CHANGELOG.md")


def test_the_paper_is_cited_and_its_sources_are_credited() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    paper = citation["preferred-citation"]
    assert "Learnable Proposals for End-to-End Video Object Detection" in paper["title"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Hashmi",
        "Stricker",
        "Afzal",
    ]
    titles = " ".join(reference["title"] for reference in citation["references"])
    for source in ("Sparse R-CNN", "Temporal ROI Align", "Sequence Level Semantics Aggregation"):
        assert source in titles


def test_the_license_is_complete() -> None:
    text = read("LICENSE")
    assert text.lstrip().startswith("Apache License\n")
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == yaml.safe_load(read("CITATION.cff"))["license"] == "Apache-2.0"


def commands_of(target: str) -> list[str]:
    """Return the commands of a target of the Makefile."""
    rule = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE)
    assert rule is not None
    return [line.strip() for line in rule[1].splitlines()]


def test_ci_runs_what_every_change_must_pass() -> None:
    job = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]["checks"]
    actions = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in actions)
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    targets = re.findall(r"^make (\w+) \|\| status=1$", read(".ci/run"), re.MULTILINE)
    assert targets == ["lint", "docs", "test"]
    assert all(commands_of(target) for target in targets)
    assert "-W" in commands_of("docs")[0].split()  # warnings are errors


def test_pre_commit_runs_the_commands_of_make_lint() -> None:
    (local,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == commands_of("lint")
    assert not any(hook["pass_filenames"] for hook in local["hooks"])


def test_paths_and_names_in_the_contributing_guide_exist() -> None:
    text = read("CONTRIBUTING.md")
    paths = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:toml|md|txt|yaml))`", text)
    assert len(paths) > 40
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    sources = [*REPOSITORY.glob("sparsevod_c*/**/*.py"), *REPOSITORY.glob("tests/**/*.py")]
    code = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    names = re.findall(r"`(\w*[a-z]_\w+|[A-Z][a-z]+[A-Z]\w+|[A-Z_]{5,})`", text)
    assert len(names) > 10
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []


def make(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Under `make test` this runs inside make, whose flags must not be inherited.
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=600
    )


@pytest.fixture
def bare_clone(tmp_path: Path) -> Path:
    """Folder with the files that `make` reads, without an environment; its name has a space."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    clone = tmp_path / "a clone"
    clone.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, clone)
    return clone


def test_make_shows_its_targets(bare_clone: Path) -> None:
    shown = make(cwd=bare_clone).stdout
    assert all(f"make {target}" in shown for target in ("demo", "test", "lint", "docs", "clean"))


def test_demo_passes_on_the_users_video_whatever_its_name(bare_clone: Path) -> None:
    planned = make("-n", "demo", "VIDEO=my holiday.mp4", cwd=bare_clone).stdout
    assert 'examples/demo.py --video "my holiday.mp4"' in planned
    assert "--video" not in make("-n", "demo", cwd=bare_clone).stdout


def test_a_missing_python_is_reported_in_one_line(bare_clone: Path) -> None:
    # A name that does not exist, and a program that is not Python.
    done = make("test", "PYTHON=absent-python false", cwd=bare_clone)
    assert done.returncode != 0
    assert "error: no Python 3.11 or newer" in done.stderr
    assert not (bare_clone / ".venv").exists()


def test_the_first_usable_python_is_chosen(bare_clone: Path, tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"  # as pyenv creates them: present, but not working
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    chosen = tmp_path / "python3.12"
    chosen.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n')
    for script in (shim, chosen):
        script.chmod(0o755)
    make("test", f"PYTHON={shim} {chosen}", cwd=bare_clone)
    assert "-m venv --clear .venv" in Path(f"{chosen}.log").read_text()
