"""What a training run leaves on disk: config.yaml, metrics.jsonl and checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError

RUNS = Path("runs")


class RunFolder:
    """Paths of a run and how its small files are written; nothing appears half-written.

    ```
    config.yaml               all settings, resolved
    metrics.jsonl             one JSON object per log and per evaluation
    tensorboard/              the same for TensorBoard, where it is asked for
    checkpoints/last.pth      weights, optimiser and position: what --resume starts from
    checkpoints/previous.pth  the last.pth before it
    checkpoints/best.pth      weights of the best evaluation
    bad_batch.json            a batch whose loss was not finite, where that happened
    ```
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.bad_batch = self.path / "bad_batch.json"
        self.tensorboard = self.path / "tensorboard"
        self.last = self.path / "checkpoints" / "last.pth"
        self.previous = self.path / "checkpoints" / "previous.pth"
        self.best = self.path / "checkpoints" / "best.pth"

    def require_new(self) -> None:
        """
        Raises:
            ConfigError: it holds a run already.
        """
        if self.last.exists():
            raise ConfigError(
                f"{self.path}: holds a run already",
                hint=f"go on with it (sparsevod train --resume {self.path}) "
                "or choose another --output",
            )

    def start(self, config: Config) -> None:
        """Make the folder of a new run."""
        self.last.parent.mkdir(parents=True, exist_ok=True)
        self.write_config(config)
        write_text(self.metrics, "")

    def write_config(self, config: Config) -> None:
        """Write the resolved settings."""
        write_text(self.config, config.to_yaml())

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record, allow_nan=False) + "\n")

    def keep_previous(self) -> None:
        """Name last.pth previous.pth too, before a new one takes its place."""
        if not self.last.exists():
            return
        partial = self.previous.with_name(self.previous.name + ".partial")
        partial.unlink(missing_ok=True)
        try:
            os.link(self.last, partial)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.last, partial)
        partial.replace(self.previous)

    def resume_command(self, launch_options: str) -> str:
        """What is typed to go on with it; see `distributed.launch_options`."""
        return f"sparsevod train --resume {self.path}{launch_options}"

    def forget_after(self, step: int, evaluated_step: int) -> None:
        """Drop lines of steps and evaluations that a resumed run does again, and one cut short."""
        kept, last = [], {"train": step, "eval": evaluated_step}
        lines = self.metrics.read_text(encoding="utf-8") if self.metrics.exists() else ""
        for line in lines.splitlines(keepends=True):
            try:
                record = json.loads(line)
                is_kept = line.endswith("\n") and record["step"] <= last[record["kind"]]
            except (ValueError, LookupError, TypeError):
                continue
            if is_kept:
                kept.append(line)
        write_text(self.metrics, "".join(kept))


def fresh_run(name: str) -> Path:
    """`runs/NAME-DATE-TIME`, a folder that is not there yet."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    number, path = 1, RUNS / stem
    while path.exists():
        number += 1
        path = RUNS / f"{stem}-{number}"
    return path


def find_run(path: Path | None) -> RunFolder:
    """The run to go on with: `path`, or the one below `runs/` that was saved last.

    Raises:
        ConfigError: there is none.
    """
    if path is None:
        saved = sorted(RUNS.glob("*/checkpoints/last.pth"), key=lambda file: file.stat().st_mtime)
        if not saved:
            raise ConfigError(
                f"--resume: no run below {RUNS}/ has a checkpoint",
                hint="name the run folder: sparsevod train --resume RUN_FOLDER",
            )
        return RunFolder(saved[-1].parent.parent)
    run = RunFolder(path)
    for file in (run.config, run.last):
        if not file.is_file():
            raise ConfigError(
                f"{path}: nothing to resume: {file.relative_to(path)} is missing",
                hint="give the folder that `sparsevod train --output` named",
            )
    return run


def write_text(path: Path, text: str) -> None:
    """Write a file that appears under its name only when complete."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
