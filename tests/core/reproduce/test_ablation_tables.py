"""The grid: models, table rows, tables and figures from made-up results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sparsevod_core.config import SYSTEMS, Config, load_config
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.model.build import build_detector
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.reproduce import figures, grid, results, speed
from sparsevod_core.reproduce import tables as markdown
from sparsevod_core.reproduce.experiment import Experiment
from sparsevod_core.reproduce.reproduce import plan, reproduce


def experiment(output: Path, *settings: str, **options: object) -> Experiment:
    options = {"run_command": lambda *words: pytest.fail(f"ran {words}"), **options}
    return Experiment(output=output, backbone="tiny", settings=settings, **options)


def tables(*numbers: int, preset: str = "tiny") -> list[grid.Table]:
    def config(cell: grid.Cell) -> Config:
        return load_config(preset, overrides=cell.settings, system=cell.system)

    return grid.tables(config, numbers or (2, 3, 4, 5))


def make_up(folder: Path, *, ap50: float | None, seconds: float = 60.0, num_boxes: int = 9) -> None:
    """Write a finished run. AP75 and AP are a half and a quarter of AP50, also for the groups."""
    folder.mkdir(parents=True)
    known, ap50 = ap50 is not None, ap50 or 0.0
    aps = {"AP": ap50 / 4, "AP50": ap50, "AP75": ap50 / 2}
    by_iou = {f"{iou / 100:.2f}": ap50 * (100 - iou) / 50 for iou in range(50, 100, 5)}
    worse, better = ({name: ap * f for name, ap in aps.items()} for f in (0.5, 1.2))
    speeds = {"fast": worse, "medium": aps, "slow": dict.fromkeys(aps)}
    result = {
        **aps,
        "AP_by_iou": by_iou,
        "per_class": {"cat": better, "dog": dict.fromkeys(aps)},
        "motion": {"coco": speeds, "fgfa": {}},
        "degraded": worse,
        "clean": better,
        "num_frames": 4,
        "num_boxes": num_boxes,
    }
    record = {"kind": "train", "step": 40, "seconds": seconds}
    (folder / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    if not known:
        result |= dict.fromkeys(aps) | {"AP_by_iou": dict.fromkeys(by_iou)}
    (folder / "eval.json").write_text(json.dumps(result))


def test_rows_with_equal_settings_are_one_cell():
    chosen = tables()
    names = [cell.name for cell in grid.cells(chosen)]
    assert names == [
        *("baseline", "tfe", "spfa", "full", "stages-1", "stages-2"),
        *("average", "average-tfe", "average-spfa"),
    ]
    full = load_config("r50")
    differing = {
        cell.name: load_config("r50", overrides=cell.settings)
        for cell in grid.cells(tables(preset="r50"))
    }
    assert differing.pop("full") == full
    models = [config.model for config in differing.values()]
    assert all(model != full.model and models.count(model) == 1 for model in models)
    stages = [differing[name].model.num_stages for name in ("stages-1", "stages-3")]
    assert stages == [1, 3]


def test_the_papers_results_are_in_the_rows_with_its_settings():
    (stages,) = tables(3, preset="r50")
    values = {row.label: (row.paper.AP50, row.paper.AP75) for row in stages.rows}
    assert values == {"1 stage": (60.0, 27.2), "3 stages": (78.0, 58.3), "6 stages": (80.3, 60.1)}
    (small,) = tables(3)
    assert [row.paper.AP50 for row in small.rows] == [60.0, None, 78.0]
    (supports,) = tables(5, preset="r50")
    assert [row.supports for row in supports.rows] == [0, 1, 2, 4, None, 10, 14]
    assert [row.paper.fps for row in supports.rows] == [None, None, 17.7, None, 14.4, None, None]
    with pytest.raises(ConfigError, match="table 6: expected some of 1, 2, 3, 4, 5"):
        tables(2, 6, preset="r50")


def test_only_the_chosen_tables_need_their_settings():
    def config(cell: grid.Cell) -> Config:
        if cell.system != "sparsevod":
            raise ConfigError("no such preset")
        return load_config("tiny", overrides=cell.settings)

    assert [table.number for table in grid.tables(config, (5, 2))] == [2, 5]
    with pytest.raises(ConfigError, match="no such preset"):
        grid.tables(config, (1,))


def test_mean_spread_and_gain(tmp_path):
    for name, ap50s in {"baseline": (0.50, 0.52, 0.54), "full": (0.60, 0.61, 0.68)}.items():
        for seed, ap50 in enumerate(ap50s):
            folder = tmp_path / name / f"seed-{seed}"
            make_up(folder, ap50=ap50, seconds=60 * (seed + 1))
    make_up(tmp_path / "tfe" / "seed-1", ap50=0.55)
    chosen = tables(2)
    found = results.load_results(experiment(tmp_path), chosen, [0, 1, 2])
    summary = results.summarize(chosen, found, [0, 1, 2], {"full": 12.34})
    baseline, tfe, spfa, full = summary["tables"][0]["rows"]
    assert baseline["AP50"] == pytest.approx({"mean": 52, "std": 2, "min": 50, "max": 54})
    # 60, 61, 68: mean 63, squares 9 + 4 + 25 over 2
    assert full["AP50"] == pytest.approx({"mean": 63, "std": 19**0.5, "min": 60, "max": 68})
    # seed by seed 10, 9, 14: mean 11, squares 1 + 4 + 9 over 2
    assert full["gain"]["AP50"] == pytest.approx({"mean": 11, "std": 7**0.5, "min": 9, "max": 14})
    assert full["gain"]["AP75"]["mean"] == pytest.approx(5.5)
    assert (tfe["AP50"]["mean"], tfe["AP50"]["std"]) == (pytest.approx(55), None)
    assert tfe["gain"]["AP50"]["mean"] == pytest.approx(3)  # over the baseline of the same seed
    assert spfa["AP50"] is None and spfa["seeds"] == []
    assert full["groups"]["degraded"]["AP50"]["mean"] == pytest.approx(31.5)
    assert full["groups"]["slow"]["AP50"] is None  # no slow boxes
    assert full["AP_by_iou"]["0.75"]["mean"] == pytest.approx(31.5)
    assert full["train_seconds"]["mean"] == 120

    markdown.write_tables(summary, "# About", tmp_path)
    text = (tmp_path / "tables.md").read_text()
    lines = {line.split(" | ")[0].strip("| "): line for line in reversed(text.splitlines())}
    assert lines["+ TFE + SPFA"] == (
        "| + TFE + SPFA | 15.8 ± 1.1 (54.7) | 63.0 ± 4.4 (80.3) | 31.5 ± 2.2 (60.1) | +11.0 ± 2.6 "
        "| +5.5 ± 1.3 | 12.3 (14.4) | 2.0 | 40 | 0, 1, 2 |"
    )
    assert lines["+ TFE"].startswith("| + TFE | 13.8 (52.1) | 55.0 (76.9) | 27.5 (57.5) | +3.0 |")
    assert "| + TFE + SPFA | 75.6 ± 5.2 | - |" in text.splitlines()  # cat, dog
    assert lines["+ SPFA"].startswith("| + SPFA | - (54.1) | - (79.1) |")
    assert json.loads((tmp_path / "tables.json").read_text())["tables"] == summary["tables"]
    files = figures.write_figures(summary, tmp_path)
    assert [file.name for file in files] == ["fig4_ap_by_iou.png", "fig4_ap_by_iou.pdf"]


def test_undefined_ap_is_a_dash_without_a_gain(tmp_path):
    make_up(tmp_path / "baseline" / "seed-0", ap50=None)
    make_up(tmp_path / "full" / "seed-0", ap50=None)
    make_up(tmp_path / "tfe" / "seed-0", ap50=0.5)
    chosen = tables(2)
    found = results.load_results(experiment(tmp_path), chosen, [0])
    summary = results.summarize(chosen, found, [0], {})
    baseline, tfe, _, full = summary["tables"][0]["rows"]
    assert baseline["AP"] is full["AP50"] is full["gain"]["AP"] is tfe["gain"]["AP"] is None
    assert tfe["AP50"]["mean"] == 50
    markdown.write_tables(summary, "# About", tmp_path)
    assert "| frame baseline | - (48.7) | - (71.1) |" in (tmp_path / "tables.md").read_text()
    figures.write_figures(summary, tmp_path)


def test_speed_figure_shows_measured_and_paper_results(tmp_path):
    make_up(tmp_path / "baseline" / "seed-0", ap50=0.5)
    make_up(tmp_path / "full" / "seed-0", ap50=0.6)
    make_up(tmp_path / "with_2", ap50=0.58)
    with_2 = tmp_path / "full" / "seed-0" / "eval_supports_2.json"
    (tmp_path / "with_2" / "eval.json").rename(with_2)
    chosen = tables(2, 5)
    found = results.load_results(experiment(tmp_path), chosen, [0])
    fps = {"full": 20.0, "full, 2 supports": 25.0, "baseline": 30.0}
    summary = results.summarize(chosen, found, [0], fps)
    files = figures.write_figures(summary, tmp_path)
    assert [file.name for file in files[2:]] == ["fig5_ap50_by_fps.png", "fig5_ap50_by_fps.pdf"]
    rows = [row for row in summary["tables"][1]["rows"] if row["fps"]]
    figure = figures.draw_fig_5([rows], summary["tables"][0]["rows"][:1])
    here, there = ([line.get_xydata().tolist() for line in axes.lines] for axes in figure.axes)
    assert np.allclose(here[0], [[25, 58], [20, 60]]) and np.allclose(here[1], [[30, 50]])
    assert there == [[[17.7, 79.0], [14.4, 80.3]], [[24.3, 71.1]], [[7.5, 78.8]]]


def test_gains_of_all_tables_are_over_the_frame_baseline(tmp_path):
    for name, ap50 in {"baseline": 0.5, "full": 0.6, "stages-1": 0.4}.items():
        make_up(tmp_path / name / "seed-0", ap50=ap50)
    result = tmp_path / "full" / "seed-0" / "eval.json"
    result.with_name("eval_supports_0.json").write_text(result.read_text())
    chosen = tables(3, 5)
    found = results.load_results(experiment(tmp_path), chosen, [0])
    stages, supports = results.summarize(chosen, found, [0], {})["tables"]
    gains = {
        row["label"]: row["gain"]["AP50"] and round(row["gain"]["AP50"]["mean"], 6)
        for row in [*stages["rows"], *supports["rows"]]
    }
    assert gains["1 stage"] == -10 and gains["3 stages"] == gains["0 supports"] == 10
    assert gains["2 stages"] is gains["1 support"] is None


def test_a_run_without_its_checkpoint_is_not_trained_again(tmp_path, monkeypatch):
    """Evaluations of another model would be beside its own."""

    class Reporter(SilentReporter):
        def warning(self, text: str) -> None:
            warnings.append(text)

    warnings: list[str] = []
    small = experiment(tmp_path)
    folder = small.folder(grid.FULL, 0)
    make_up(folder, ap50=0.5)
    (folder / "config.yaml").write_text(small.config(grid.FULL).to_yaml())
    chosen = tables(5)
    (run,) = runs = plan(chosen, [0])
    assert small.state(*run) == "done"
    monkeypatch.setattr("sparsevod_core.reproduce.reproduce.frames_per_second", lambda *_: {})
    reproduce(small, chosen, runs, seeds=[0], about="", speed_device="cpu", reporter=Reporter())
    (warning,) = warnings
    assert warning.startswith(f"{folder}: eval_supports_0.json, eval_supports_1.json, ")
    assert "its checkpoint is gone" in warning


def test_runs_that_do_not_fit_together_are_refused(tmp_path):
    make_up(tmp_path / "baseline" / "seed-0", ap50=0.5)
    make_up(tmp_path / "full" / "seed-0", ap50=0.5, num_boxes=10)
    with pytest.raises(DataError, match="not scored on the same videos"):
        chosen = tables(2)
        results.load_results(experiment(tmp_path), chosen, [0])
    trained = load_config("tiny", overrides=["seed=0", "model.num_classes=6"])
    (tmp_path / "full" / "seed-0" / "config.yaml").write_text(trained.to_yaml())
    experiment(tmp_path).require_same_settings(grid.FULL, 0)
    with pytest.raises(ConfigError, match=r"train\.epochs=3, this grid has 9"):
        experiment(tmp_path, "train.epochs=9").require_same_settings(grid.FULL, 0)


def test_frozen_stages_may_differ_only_if_training_chose_them(tmp_path):
    make_up(tmp_path / "full" / "seed-0", ap50=0.5)
    trained = load_config("tiny", overrides=["seed=0", "model.norm=batch", "model.frozen_stages=5"])
    (tmp_path / "full" / "seed-0" / "config.yaml").write_text(trained.to_yaml())
    experiment(tmp_path).require_same_settings(grid.FULL, 0)
    settings = {"model": {"norm": "batch", "frozen_stages": 2}}
    (tmp_path / "frozen.yaml").write_text(json.dumps(settings))
    for options in (
        {"row_settings": ("model.norm=batch", "model.frozen_stages=2")},
        {"config_file": tmp_path / "frozen.yaml"},
    ):
        with pytest.raises(ConfigError, match=r"model\.frozen_stages=5, this grid has 2"):
            experiment(tmp_path, **options).require_same_settings(grid.FULL, 0)


def test_speed_is_measured_for_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "ROUNDS", 1)
    small = experiment(tmp_path, "data.short_side=32", "data.long_side=32")
    monkeypatch.setattr(speed, "FIRST", 3)
    monkeypatch.setattr(speed, "TIMED", 1)
    baseline, tfe, *_ = tables(2)[0].rows
    fps = speed.frames_per_second(small, [baseline, tfe], "cpu", SilentReporter())
    assert set(fps) == {"baseline", "tfe"} and min(fps.values()) > 0
    assert json.loads((tmp_path / "speed.json").read_text())["settings"]["size"] == [32, 32]
    assert speed.frames_per_second(small, [tfe], "cpu", SilentReporter()) == fps
    small.output.joinpath("speed.json").write_text(json.dumps({"fps": {"full": 1.0}}))
    fps = speed.frames_per_second(small, [baseline], "cpu", SilentReporter())
    assert set(fps) == {"baseline", "full"} and fps["full"] == 1


def test_the_speed_of_every_system_can_be_measured(tmp_path, monkeypatch):
    """Also of those that go through a video in order or look at a window."""
    for name, number in {"ROUNDS": 1, "FIRST": 2, "TIMED": 1}.items():
        monkeypatch.setattr(speed, name, number)
    small = experiment(tmp_path, "data.short_side=32", "data.long_side=32")
    fps = speed.frames_per_second(small, tables(1)[0].rows, "cpu", SilentReporter())
    assert set(fps) == {
        *("baseline", "full", "faster-rcnn", "fgfa", "selsa", "troi", "mamba", "faster-rcnn-c4"),
        *("mega", "transvod"),
    }


def test_table_1_has_every_system_with_the_papers_results_of_its_backbone():
    """Each row has the settings of its system's preset, and each system a frame detector."""
    for preset, sparsevod, troi, mamba in (
        ("r50", (54.7, 80.3, 60.1), (48.8, 78.9, 52.8), (None, None, None)),
        ("r101", (56.9, 81.9, 63.1), (51.6, 82.6, 56.3), (None, 84.6, None)),
        ("x101", (58.0, 83.1, 64.3), (54.4, 84.3, 60.9), (None, None, None)),
    ):
        systems, _ = tables(1, preset=preset)
        paper = {row.label: (row.paper.AP, row.paper.AP50, row.paper.AP75) for row in systems.rows}
        assert (paper["SparseVOD"], paper["TROI"], paper["MAMBA"]) == (sparsevod, troi, mamba)
    assert {row.cell.system for row in systems.rows} == set(grid.STARTS) == set(SYSTEMS)
    assert "FGFA" in paper and any(row.label == "FGFA without flow" for row in tables(1)[0].rows)
    for system, start in grid.STARTS.items():
        config = load_config("tiny", overrides=start.cell.settings, system=start.cell.system)
        assert not config.model.uses_supports
        theirs = build_detector(config.model).state_dict()
        ours = build_detector(load_config("tiny", system=system).model).state_dict()
        assert theirs.keys() <= ours.keys()
        assert all(value.shape == ours[name].shape for name, value in theirs.items())


def test_gains_in_table_1_are_relative_to_the_systems_own_frame_detector(tmp_path):
    ap50s = {"baseline": 0.7, "full": 0.8, "faster-rcnn": 0.5, "selsa": 0.56, "mega": 0.6}
    for name, ap50 in {**ap50s, "troi": 0.6, "transvod": 0.6}.items():
        make_up(tmp_path / name / "seed-0", ap50=ap50)
    make_up(tmp_path / "with_2", ap50=0.78)
    with_2 = tmp_path / "full" / "seed-0" / "eval_supports_2.json"
    (tmp_path / "with_2" / "eval.json").rename(with_2)
    chosen = tables(1)
    found = results.load_results(experiment(tmp_path), chosen, [0])
    fps = {"full": 10.0, "full, 2 supports": 12.0, "troi": 5.0, "selsa": 20.0, "mega": 8.0}
    summary = results.summarize(chosen, found, [0], fps)
    systems, supports = (table["rows"] for table in summary["tables"])
    gains = {row["cell"]: row["gain"]["AP50"] for row in systems if row["seeds"]}
    assert {name: of and round(of["mean"], 6) for name, of in gains.items()} == {
        "baseline": 0,
        "full": 10,
        "faster-rcnn": 0,
        "selsa": 6,
        "troi": 10,
        "mega": None,
        "transvod": None,  # its frame detector has no result, or no row
    }
    assert [table["heading"] for table in summary["tables"]] == [
        "Table 1: Video object detectors (the paper: ResNet-50)",
        "Fig. 5: Support frames at test time and speed",
    ]
    markdown.write_tables(summary, "# About", tmp_path)
    assert "| TROI, 14 supports | 15.0 | 60.0 (78.8) |" in (tmp_path / "tables.md").read_text()
    names = [file.name for file in figures.write_figures(summary, tmp_path)]
    assert names[::2] == ["fig4_ap_by_iou.png", "fig5_ap50_by_fps.png"]
    figure = figures.draw_fig_4([row for row in systems if row["AP50"]])
    assert len(figure.axes[0].lines) == 7
    rows = {name: [row for row in supports if row["cell"] == name] for name in ("full", "troi")}
    rows = [[row for row in of if row["AP50"]] for of in rows.values()]
    figure = figures.draw_fig_5(rows, [row for row in systems if row["cell"] in ("selsa", "mega")])
    here, there = (
        {line.get_label(): line.get_xydata().round(6).tolist() for line in axes.lines}
        for axes in figure.axes
    )
    assert here == {
        "SparseVOD, by support frames": [[12, 78], [10, 80]],
        "TROI, by support frames": [[5, 60]],
        "SELSA": [[20, 56]],
        "MEGA": [[8, 60]],
    }
    assert there == {
        "SparseVOD, by support frames": [[17.7, 79.0], [14.4, 80.3]],
        "TROI, by support frames": [[7.5, 78.8]],
    }
