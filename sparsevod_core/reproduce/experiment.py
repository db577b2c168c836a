"""Runs of the grid: one model with one seed, trained and evaluated once.

```
RESULTS/CELL/seed-N/config.yaml, metrics.jsonl   as `sparsevod train` writes them
                    eval_supports_0.json ...     some models: other numbers of support frames
                    eval.json                    written last: marks the run as done
                    checkpoints/                 only needed until then
RESULTS/pretrained.pth                           Sparse R-CNN that runs start from, if there is one
        pretraining/                             run that trained it
        pretrained-NAME.pth, pretraining-NAME/   the same of other frame detectors
```
"""

from __future__ import annotations

import filecmp
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sparsevod_core.config import Config, file_overrides, load_config, override_pairs
from sparsevod_core.errors import ConfigError, SparseVodError
from sparsevod_core.files.unfinished import writing
from sparsevod_core.reporting import Reporter, counted
from sparsevod_core.reproduce.grid import BASELINE, STARTS, Cell, Start
from sparsevod_core.reproduce.json_files import write_json
from sparsevod_core.training.run_folder import RunFolder
from sparsevod_core.weights.by_name import checkpoint_file

MAY_DIFFER = (
    *("data.train_annotations", "data.train_root", "data.val_annotations", "data.val_root"),
    *("data.workers", "train.log_every", "train.checkpoint_every", "train.eval_every"),
)
"""Settings that may differ between the runs of a grid."""

SET_BY_TRAIN = ("model.num_classes", "model.norm", "model.frozen_stages")
"""Settings whose defaults `sparsevod train` changes to fit the data and the start."""

KEPT = (
    *("schema", "AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AP_by_iou", "per_class"),
    *("num_frames", "num_boxes", "num_detections", "motion", "degraded", "clean", "settings"),
    "run",
)
"""Keys of `sparsevod eval --json` that are kept. Lists of errors and paths are not."""


class CommandError(SparseVodError):
    """A `sparsevod` command that failed after reporting its error."""


class Run(NamedTuple):
    """One model to train with one seed.

    Attributes:
        cell: Model.
        seed: Seed.
        supports: Numbers of support frames to evaluate with, besides the configured one.
    """

    cell: Cell
    seed: int
    supports: Iterable[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Options and settings that all runs share.

    Attributes:
        output: Folder of the results.
        backbone: Name of the preset.
        config_file: YAML file with settings of all runs.
        settings: Settings of all runs, as `a.b=c`.
        row_settings: Settings of the rows only, not of the detectors they start from.
        starts: By name of a single-frame detector that rows start from, the number of epochs to
            train it, or the checkpoint to take instead. It is for small networks that train from
            noise, in place of the paper's ImageNet weights: TFE would mix features that mean
            nothing yet (docs/results_from_noise.md).
        train_data: Options of `sparsevod train`.
        eval_data: Options of `sparsevod eval`.
        machine: Options of both.
        chooses_best: If True, `train_data` includes videos that select the best checkpoint. If
            False, or if these videos have no boxes, the last checkpoint is evaluated.
        run_command: Function that runs `sparsevod` with the given words, and raises CommandError
            if it fails. Each command is a separate process, so that a crash ends one run only.
    """

    output: Path
    backbone: str
    run_command: Callable[..., None]
    config_file: Path | None = None
    settings: tuple[str, ...] = ()
    row_settings: tuple[str, ...] = ()
    starts: Mapping[str, int | Path] = field(default_factory=dict)
    train_data: tuple[str, ...] = ()
    eval_data: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()
    chooses_best: bool = False

    def start_of(self, cell: Cell) -> Start | None:
        """Return the frame detector that a cell starts from."""
        start = STARTS[cell.system]
        if start.cell.name in self.starts:
            return start
        return start if start.recipe and cell != start.cell else None

    def start_file(self, start: Start) -> Path:
        """Return the checkpoint of a frame detector that cells start from."""
        return self.output / f"pretrained{_suffix(start)}.pth"

    def config(self, cell: Cell, seed: int = 0) -> Config:
        """Return the settings of a run, without the paths of its data."""
        overrides = [*self._row_settings(cell), f"seed={seed}"]
        return load_config(self.backbone, self.config_file, overrides, system=cell.system)

    def folder(self, cell: Cell, seed: int) -> Path:
        """Return the folder of a run."""
        return self.output / cell.name / f"seed-{seed}"

    def result_file(self, cell: Cell, seed: int, supports: int | None = None) -> Path:
        """Return the file of the results with `supports` support frames (None: as configured)."""
        name = "eval.json" if supports is None else f"eval_supports_{supports}.json"
        return self.folder(cell, seed) / name

    def state(self, cell: Cell, seed: int, supports: Iterable[int] = ()) -> str:
        """Return `done`, `begun` or `to do`.

        A run without its checkpoint is done, even if evaluations are missing: to train it again
        would mix the results of two models.
        """
        if not self.missing_results(cell, seed, supports):
            return "done"
        if self._last(cell, seed).exists():
            return "begun"
        return "done" if self.result_file(cell, seed).exists() else "to do"

    def missing_results(self, cell: Cell, seed: int, supports: Iterable[int] = ()) -> list[Path]:
        """Return the files of results that a run does not have."""
        files = [self.result_file(cell, seed, number) for number in (None, *supports)]
        return [file for file in files if not file.exists()]

    def require_same_settings(self, cell: Cell, seed: int) -> None:
        """Check that an existing run belongs to this grid.

        Raises:
            ConfigError: A setting differs.
        """
        file = self.folder(cell, seed) / "config.yaml"
        if not file.exists() or self.state(cell, seed) == "to do":
            return
        there = load_config(file=file).flat()
        in_file = () if self.config_file is None else file_overrides(self.config_file)
        given = override_pairs([*in_file, *self._row_settings(cell)])
        may_differ = {*MAY_DIFFER, *(key for key in SET_BY_TRAIN if key not in given)}
        for key, now in self.config(cell, seed).flat().items():
            before = there[key]
            if before != now and key not in may_differ:
                raise ConfigError(
                    f"{file.parent}: was made with {key}={before}, this grid has {now}",
                    hint="give the same settings, or another --output",
                )

    def pretrain(self, start: Start, reporter: Reporter) -> None:
        """Train, resume or copy a detector that rows start from, unless it is there.

        Raises:
            CommandError: The training failed.
            ConfigError: The file given is missing, or not the one that is there.
        """
        name, file = start.cell.name, self.start_file(start)
        given = self.starts.get(name)
        if isinstance(given, Path):
            _copy(checkpoint_file(given, reporter), file)
        if file.exists():
            return
        from sparsevod_core.checkpoint import compact_checkpoint, load_checkpoint, save_checkpoint

        epochs = f" for {counted(given, 'epoch')}" if isinstance(given, int) else ""
        reporter.message(
            f"\n== {file} is missing: training it{epochs} (--pretrained takes a file instead)"
        )
        folder = self.output / f"pretraining{_suffix(start)}"
        recipe = start.recipe if given is None else (f"train.epochs={given}",)
        settings = (*self.settings, *recipe, *start.cell.settings)
        self._train(folder, start.cell.system, 0, settings)
        trained = load_checkpoint(folder / "checkpoints" / "last.pth")
        save_checkpoint(file, compact_checkpoint(trained))

    def run(self, cell: Cell, seed: int, supports: Iterable[int] = ()) -> None:
        """Train or resume, then evaluate with every number of support frames.

        Raises:
            CommandError: A command failed.
        """
        folder = self.folder(cell, seed)
        if not self._last(cell, seed).exists():
            for stale in folder.glob("eval_supports_*.json"):  # of an earlier model
                stale.unlink()
        self._train(folder, cell.system, seed, self._row_settings(cell))
        trained = RunFolder(folder)
        has_best = self.chooses_best and trained.best.exists()  # missing if there was no AP
        checkpoint = trained.best if has_best else trained.last
        for number in (*supports, None):
            self._evaluate(checkpoint, self.result_file(cell, seed, number), number)

    def _last(self, cell: Cell, seed: int) -> Path:
        return self.folder(cell, seed) / "checkpoints" / "last.pth"

    def _row_settings(self, cell: Cell) -> tuple[str, ...]:
        start = self.start_of(cell)
        settings = (*self.settings, *self.row_settings)
        if start is not None:
            initial: tuple[str, ...] = (f"train.init_from={self.start_file(start)}",)
        else:
            model = load_config(
                self.backbone, self.config_file, [*settings, *cell.settings], system=cell.system
            ).model
            has_flow = model.system == "fgfa" and model.temporal and model.fgfa.flow != "none"
            initial = ("train.init_from=flownet-simple",) if has_flow else ()
        return (*settings, *initial, *cell.settings)

    def _train(self, folder: Path, system: str, seed: int, settings: Iterable[str]) -> None:
        if (folder / "checkpoints" / "last.pth").exists():
            self.run_command("train", "--resume", str(folder), *self.machine)
            return
        options = [f"--set={text}" for text in settings]
        if self.config_file is not None:
            options.append(f"--config={self.config_file}")
        model = [f"--system={system}", f"--backbone={self.backbone}"]
        new = [*model, f"--output={folder}", f"--seed={seed}"]
        self.run_command("train", *new, *self.train_data, *self.machine, *options)

    def _evaluate(self, checkpoint: Path, result: Path, supports: int | None) -> None:
        """Run `sparsevod eval` and keep what the tables need, a few kilobytes."""
        if result.exists():
            return
        options = () if supports is None else (f"--num-supports={supports}",)
        complete = result.with_name("evaluation.partial")
        arguments = [*self.eval_data, *self.machine, *options, f"--json={complete}"]
        self.run_command("eval", str(checkpoint), *arguments)
        evaluation = json.loads(complete.read_text("utf-8"))
        write_json(result, {key: evaluation[key] for key in KEPT})
        complete.unlink()


def _suffix(start: Start) -> str:
    return "" if start.cell == BASELINE else f"-{start.cell.name}"


def _copy(given: Path, file: Path) -> None:
    """Copy the given checkpoint, so that the results folder holds all that its runs need."""
    if not given.is_file():
        raise ConfigError(f"--pretrained {given}: no such file")
    if not file.exists():
        with writing(file) as temporary:
            shutil.copyfile(given, temporary)
    elif not filecmp.cmp(given, file, shallow=False):
        raise ConfigError(
            f"--pretrained {given}: {file} is another checkpoint",
            hint="leave out --pretrained to start from that one, or give another --output",
        )
