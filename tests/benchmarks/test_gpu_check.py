"""The script of `make gpu-check`, run on a CPU with small sizes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_it_runs_from_any_folder_and_reports_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--only", "warm_start", "--out", out],
        cwd=tmp_path,  # not the source folder
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr  # nearly nothing was measured
    found = json.loads(out.read_text())
    assert found["measures"]["warm_start"]["first_use_s"] > 0
    assert found["machine"]["cpu"]["cores"] >= 1 and found["commit"]
    verdicts = {row["demand"]: row["verdict"] for row in found["demands"]}
    assert set(verdicts.values()) == {"not measured"}
    assert "not measured" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["check.json"]


def test_a_target_is_met_missed_or_not_measured(script: Any) -> None:
    least = script.Demand("speed", "model", "fps", 250, is_least=True)
    most = script.Demand("error", "model", "error", 0.1)
    found = {"model": {"fps": 251.0, "error": 0.2}}
    assert least.verdict(found) == (251.0, "ok")
    assert most.verdict(found) == (0.2, "MISSED")
    assert least.verdict({"model": {"fps": 249.0}})[1] == "MISSED"
    assert most.verdict({}) == (None, "not measured")


def test_every_target_belongs_to_a_measurement_and_all_fit_ten_minutes(script: Any) -> None:
    from gpu_measures import MEASURES

    assert {demand.measure for demand in script.DEMANDS} <= set(MEASURES)
    assert sum(limit for name, (_, limit) in MEASURES.items() if name != "tests") < 600


@pytest.mark.parametrize("is_cut", [True, False])
def test_a_measurement_that_ends_early_keeps_its_results(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    end = "import time; time.sleep(60)" if is_cut else "raise RuntimeError('no such kernel')"
    stand_in = tmp_path / "stand_in.py"
    out = "sys.argv[sys.argv.index('--out') + 1]"
    stand_in.write_text(f"import sys; open({out}, 'w').write('{{\"fps\": 3}}'); {end}")
    monkeypatch.setattr(script, "__file__", str(stand_in))
    found = script.run_apart("model", "cpu", 3 if is_cut else 60, tmp_path)
    assert found["fps"] == 3
    assert found["error"] == ("out of time after 3 s" if is_cut else "RuntimeError: no such kernel")


def test_a_package_that_is_missing_is_named(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gpu_measures

    def measure(*_: object) -> Any:
        yield {"fps": 1.0}
        raise ModuleNotFoundError("No module named 'av'", name="av")

    monkeypatch.setitem(gpu_measures.MEASURES, "detect", (measure, 1))
    out = tmp_path / "detect.json"
    script.run_here("detect", "cpu", out)
    found = json.loads(out.read_text())
    assert found == {"fps": 1.0, "skipped": "needs av, which is not installed"}
    rows = {text: verdict for text, *_, verdict in script.table({"detect": found})}
    assert rows["detect, 720p, relative to its slowest part"].endswith(
        "needs av, which is not installed"
    )
