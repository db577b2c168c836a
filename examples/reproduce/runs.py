"""One cell with one seed: a folder that is trained, evaluated, and then never touched again.

RESULTS/CELL/seed-N/config.yaml, metrics.jsonl   as `sparsevod train` writes them
                    eval_supports_0.json ...     of the full model: other numbers of supports
                    eval.json                    written last: the run is done
                    checkpoints/                 not needed any more then
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grid import Cell

from sparsevod_core.config import Config, load_config
from sparsevod_core.errors import ConfigError, DataError, SparseVodError

MAY_DIFFER = (
    *("data.train_annotations", "data.train_root", "data.val_annotations", "data.val_root"),
    *("data.workers", "train.log_every", "train.checkpoint_every", "train.eval_every"),
    *("model.num_classes", "model.norm", "model.frozen_stages"),  # `train` sets them
)
"""Settings in which the runs of a grid need not be the same."""

KEPT = (
    *("schema", "AP", "AP50", "AP75", "AR1", "AR10", "AR100", "AP_by_iou", "per_class"),
    *("num_frames", "num_boxes", "num_detections", "motion", "degraded", "clean", "settings"),
)
"""Of what `sparsevod eval` says; lists of errors and paths are left out."""


class CommandError(SparseVodError):
    """A `sparsevod` command failed, and has said why."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What all runs share.

    Attributes:
        output: folder of the results.
        backbone: the preset.
        config_file: settings for all runs, or None.
        settings: the same as `a.b=c` texts.
        train_data: options of `sparsevod train`.
        eval_data: options of `sparsevod eval`.
        machine: options of both.
        chooses_best: whether `train_data` names videos by which the best checkpoint is chosen; else
            the last one is taken.
    """

    output: Path
    backbone: str
    config_file: Path | None
    settings: tuple[str, ...]
    train_data: tuple[str, ...]
    eval_data: tuple[str, ...]
    machine: tuple[str, ...]
    chooses_best: bool

    def config(self, cell: Cell, seed: int = 0) -> Config:
        """The settings of a run; paths of the data are not among them."""
        overrides = [*self.settings, *cell.settings, f"seed={seed}"]
        return load_config(self.backbone, self.config_file, overrides)

    def folder(self, cell: Cell, seed: int) -> Path:
        """Where a run is."""
        return self.output / cell.name / f"seed-{seed}"

    def state(self, cell: Cell, seed: int, extra_supports: Iterable[int] = ()) -> str:
        """`done`, `begun` or `to do`."""
        folder = self.folder(cell, seed)
        if all(self.result_file(cell, seed, n).exists() for n in (None, *extra_supports)):
            return "done"
        return "begun" if (folder / "checkpoints" / "last.pth").exists() else "to do"

    def require_same_settings(self, cell: Cell, seed: int) -> None:
        """Check that a run that is there is of this grid.

        Raises:
            ConfigError: naming the first setting that is another.
        """
        file = self.folder(cell, seed) / "config.yaml"
        if not file.exists() or self.state(cell, seed) == "to do":
            return
        there = load_config(file=file).flat()
        for key, now in self.config(cell, seed).flat().items():
            before = there[key]
            if before != now and key not in MAY_DIFFER:
                raise ConfigError(
                    f"{file.parent}: was made with {key}={before}, this grid has {now}",
                    hint="give the same settings, or another --output",
                )

    def result_file(self, cell: Cell, seed: int, supports: int | None = None) -> Path:
        """What a run came to, with so many supports (None: the usual number)."""
        name = "eval.json" if supports is None else f"eval_supports_{supports}.json"
        return self.folder(cell, seed) / name

    def run(self, cell: Cell, seed: int, extra_supports: Iterable[int] = ()) -> None:
        """Train, or go on, then evaluate, also with other numbers of supports.

        Raises:
            CommandError: a command failed.
        """
        folder = self.folder(cell, seed)
        self.train(cell, seed, folder)
        name = "best" if self.chooses_best else "last"
        checkpoint = folder / "checkpoints" / f"{name}.pth"
        for supports in extra_supports:
            self._evaluate(checkpoint, self.result_file(cell, seed, supports), supports)
        self._evaluate(checkpoint, self.result_file(cell, seed))

    def train(self, cell: Cell, seed: int, folder: Path) -> None:
        """Train in `folder`, or go on there.

        Raises:
            CommandError: the training failed.
        """
        if (folder / "checkpoints" / "last.pth").exists():
            sparsevod("train", "--resume", str(folder), *self.machine)
            return
        settings = [f"--set={text}" for text in (*self.settings, *cell.settings)]
        if self.config_file is not None:
            settings.append(f"--config={self.config_file}")
        new = [f"--backbone={self.backbone}", f"--output={folder}", f"--seed={seed}"]
        sparsevod("train", *new, *self.train_data, *self.machine, *settings)

    def _evaluate(self, checkpoint: Path, result: Path, supports: int | None = None) -> None:
        """Run `sparsevod eval` and keep what tables need, in a few kilobytes."""
        if result.exists():
            return
        options = () if supports is None else (f"--num-supports={supports}",)
        whole = result.with_name("evaluation.partial")
        arguments = [*self.eval_data, *self.machine, *options, f"--json={whole}"]
        sparsevod("eval", str(checkpoint), *arguments)
        numbers = json.loads(whole.read_text("utf-8"))
        write_json(result, {key: numbers[key] for key in KEPT})
        whole.unlink()


def sparsevod(*words: str) -> None:
    """Run a command. Ctrl-C and SIGTERM reach it, and it is given the time to save its state.

    Raises:
        CommandError: it failed.
    """
    print(f"$ sparsevod {shlex.join(words)}", file=sys.stderr, flush=True)
    signals = []
    command = [sys.executable, "-m", "sparsevod_cli", *words]
    process = subprocess.Popen(command, stdout=sys.stderr)

    def note(number: int, _frame: Any) -> None:
        signals.append(number)
        if number == signal.SIGTERM:  # Ctrl-C reaches the command from the terminal by itself
            process.send_signal(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signals or code in (128 + signal.SIGINT, -signal.SIGINT, -signal.SIGTERM):
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(128 + (signals[0] if signals else signal.SIGINT))
    if code:
        raise CommandError(f"sparsevod {words[0]} failed with exit code {code}")


def write_json(path: Path, value: Any) -> None:
    """Write a file that appears under its name only when complete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        DataError: it is broken.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot read it: {error}", hint="remove it: it is then made again"
        ) from error
