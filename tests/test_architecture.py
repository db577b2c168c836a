"""Rules on imports, public names, defaults and safe loading, checked on the source code."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sparsevod_cli.app import app
from sparsevod_core.config import (
    SYSTEMS,
    Config,
    load_config,
    preset_names,
    preset_settings,
)

REPOSITORY = Path(__file__).parents[1]
CORE, CLI = REPOSITORY / "sparsevod_core", REPOSITORY / "sparsevod_cli"
SOURCES = {
    str(path.relative_to(REPOSITORY)): ast.parse(path.read_text(encoding="utf-8"))
    for package in (CORE, CLI)
    for path in sorted(package.rglob("*.py"))
}


def imports(tree: ast.AST, *, top_level: bool) -> Iterator[str]:
    """Return the dotted names that a file imports, at top level only or anywhere."""
    nodes = list(ast.iter_child_nodes(tree))
    while nodes:
        node = nodes.pop()
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        never = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif not (top_level and (late or never)):
            nodes += ast.iter_child_nodes(node)


def importers(module: str, *, top_level: bool) -> set[str]:
    """Return the files that import `module` or a submodule of it."""
    return {
        name
        for name, tree in SOURCES.items()
        for imported in imports(tree, top_level=top_level)
        if imported == module or imported.startswith(f"{module}.")
    }


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with its dotted name as written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


# --- layers -------------------------------------------------------------------------------------


def test_imports_point_down() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout


def test_the_contract_names_every_module_of_the_core() -> None:
    """A new module that is in no layer would silently escape the contract."""
    import tomllib

    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    layered = {name.strip() for layer in contract["layers"] for name in layer.split("|")}
    modules = {
        f"sparsevod_core.{path.stem}"
        for path in CORE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem != "__init__"
    }
    assert modules <= layered


def test_av_stays_behind_the_video_package_and_is_imported_late() -> None:
    # Importing av and cv2 together clashes on some systems, and not every command needs either.
    inside = {name for name in importers("av", top_level=False) if "/video/" not in name}
    assert inside <= {"sparsevod_core/machine.py"}  # only reads its version
    assert importers("av", top_level=True) == set()


def test_cv2_is_imported_late_and_used_for_images_only() -> None:
    assert importers("cv2", top_level=True) == set()
    banned = {"cv2.VideoCapture", "cv2.VideoWriter", "cv2.imshow", "cv2.waitKey"}
    for name, tree in SOURCES.items():
        assert banned.isdisjoint(function for function, _ in calls(tree)), name


def test_the_command_line_imports_only_light_modules_on_top() -> None:
    names = ("allocator", "errors", "printable", "reporting", "spinning")
    ours = {f"sparsevod_core.{name}" for name in names}
    allowed = sys.stdlib_module_names | {"typer", "sparsevod_cli"}
    for name, tree in SOURCES.items():
        if name.startswith("sparsevod_cli/"):
            heavy = [
                module
                for module in imports(tree, top_level=True)
                if module not in ours
                and not module.startswith("sparsevod_core.files.")  # standard library only
                and module.partition(".")[0] not in allowed
            ]
            assert heavy == [], name


# --- the public names ---------------------------------------------------------------------------


def test_the_seven_public_names_come_when_asked_for() -> None:
    probe = """
import json, sys
import sparsevod_core
light = "torch" not in sys.modules and "numpy" not in sys.modules
names = {name: getattr(sparsevod_core, name).__name__ for name in sparsevod_core.__all__}
print(json.dumps([light, names]))
"""
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, timeout=600, check=True
    )
    light, names = json.loads(done.stdout)
    assert light
    assert names == {
        name: name
        for name in (
            "Config",
            "Detections",
            "Predictor",
            "SparseVodError",
            "Trainer",
            "build_detector",
            "evaluate",
        )
    }


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    import sparsevod_core

    with pytest.raises(AttributeError, match="Detector"):
        _ = sparsevod_core.Detector


# --- defaults are stated once -------------------------------------------------------------------


PRESETS = [(system, preset) for system in SYSTEMS for preset in preset_names(system)]


@pytest.mark.parametrize(("system", "preset"), PRESETS)
def test_presets_set_known_keys(system: str, preset: str) -> None:
    config = load_config(preset, system=system)  # raises for an unknown key
    assert config.model.system == system


@pytest.mark.parametrize(("system", "preset"), PRESETS)
def test_presets_state_only_what_differs_from_the_default(system: str, preset: str) -> None:
    resolved, defaults = load_config(preset, system=system).flat(), Config().flat()
    repeated = [k for k in preset_settings(system, preset) if resolved[k] == defaults[k]]
    # Those of `tiny` undo what its system changes.
    assert preset == "tiny" or repeated == (["model.backbone"] if preset == "r50" else [])


def test_options_that_set_a_setting_have_no_default_of_their_own() -> None:
    """`bench` is an exception: it documents the conditions of its measurements."""
    settings = {key.rpartition(".")[2] for key in Config().flat()}

    def options(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        for parameter in command.params:
            if parameter.name in settings:
                yield f"{name} --{parameter.name}", parameter.default
        for word, below in getattr(command, "commands", {}).items():
            if word != "bench":
                yield from options(below, f"{name} {word}")

    stated = {
        option: default
        for option, default in options(typer.main.get_command(app), "sparsevod")
        if default not in (None, (), [])
    }
    assert stated == {}


# --- untrusted files -----------------------------------------------------------------------------


def test_nothing_unpickles_or_loads_yaml_unsafely() -> None:
    for name, tree in SOURCES.items():
        for function, call in calls(tree):
            assert function not in (
                "yaml.load",
                "yaml.unsafe_load",
                "pickle.load",
                "pickle.loads",
            ), name
            assert function not in ("eval", "exec"), name
            if function == "torch.load":
                weights_only = {word.arg: word.value for word in call.keywords}["weights_only"]
                assert ast.unparse(weights_only) == "True", name
