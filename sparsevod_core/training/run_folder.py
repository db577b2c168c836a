"""Files of a training run: config.yaml, metrics.jsonl and checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any

from sparsevod_core.config import Config
from sparsevod_core.errors import ConfigError
from sparsevod_core.files.check import require_own
from sparsevod_core.files.kinds import MARK, MARKED
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.unfinished import write_text, writing

RUNS = Path("runs")


class RunFolder:
    """Paths of a run, and how its small files are written. No file is visible half-written.

    ```
    config.yaml               all settings, resolved
    metrics.jsonl             one JSON object per start (version, device, settings), per log and
                              per evaluation
    tensorboard/              the same for TensorBoard, if requested
    checkpoints/last.pth      weights, optimizer and run state: what --resume starts from
    checkpoints/previous.pth  the last.pth before it
    checkpoints/best.pth      weights of the best evaluation
    bad_batch.json            batch whose loss was not finite, if there was one
    run.lock                  held by the process that trains
    ```
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.jsonl"
        self.lock = self.path / "run.lock"
        self.bad_batch = self.path / "bad_batch.json"
        self.tensorboard = self.path / "tensorboard"
        self.last = self.path / "checkpoints" / "last.pth"
        self.previous = self.path / "checkpoints" / "previous.pth"
        self.best = self.path / "checkpoints" / "best.pth"

    def files(self) -> list[Path]:
        """Return the paths of all files of a run, without those of TensorBoard."""
        checkpoints = [self.last, self.previous, self.best]
        return [self.config, self.metrics, self.lock, self.bad_batch, *checkpoints]

    def require_new(self) -> None:
        """Raise a ConfigError if the folder already contains a run, or files of something else."""
        if self.last.exists():
            raise ConfigError(
                f"{self.path}: already contains a run",
                hint=f"resume it (sparsevod train --resume {quote(str(self.path))}, with the same "
                "--gpus) or choose another --output",
            )
        require_own(self.config, MARKED)
        others = [self.metrics, self.bad_batch, self.previous, self.best]
        if not self.config.exists() and (there := [file for file in others if file.exists()]):
            raise ConfigError(
                f"{there[0]}: already exists, in a folder that is no run",
                hint="choose another --output",
            )

    def start(self, config: Config, step: int = 0, evaluated_step: int = 0) -> None:
        """Create the folder and write the resolved settings.

        A resumed run drops incomplete metrics and those after `step` and `evaluated_step`, because
        it repeats these steps.

        Raises:
            ConfigError: A path in the settings is not UTF-8, so that the run could not be resumed.
            DataError: A file cannot be written.
        """
        settings = config.to_yaml()
        for key, value in config.flat().items():
            if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
                raise ConfigError(f"{key}={value!r}: expected UTF-8", hint="rename the file")
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        write_text(self.config, f"# Settings of a training run, {MARK}\n{settings}")
        kept, last = [], {"run": step, "train": step, "eval": evaluated_step}
        # A crash of the machine may leave anything in the last lines, even bytes that are no text.
        is_there = self.metrics.exists()
        lines = self.metrics.read_text(encoding="utf-8", errors="replace") if is_there else ""
        for line in lines.splitlines(keepends=True):
            with suppress(ValueError, LookupError, TypeError, RecursionError):
                record = json.loads(line)
                if line.endswith("\n") and record["step"] <= last[record["kind"]]:
                    kept.append(line)
        write_text(self.metrics, "".join(kept))

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl.

        Raises:
            DataError: The file cannot be written.
        """
        try:
            with self.metrics.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise cannot_write(self.metrics, error) from error

    def keep_previous(self) -> None:
        """Make last.pth available as previous.pth too, before a new one replaces it.

        Raises:
            DataError: The file cannot be written.
        """
        if not self.last.exists():
            return
        if self.previous.exists() and self.previous.samefile(self.last):
            return  # left by a run that was killed before it wrote the new one
        with writing(self.previous) as temporary:
            try:
                temporary.unlink()
                os.link(self.last, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(self.last, temporary)

    def resume_command(self, launch_options: str) -> str:
        """Return the command that resumes the run; see `distributed.launch_options`."""
        return f"sparsevod train --resume {quote(str(self.path))}{launch_options}"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Result of a finished run.

    Attributes:
        run: The run folder.
        steps: Total number of optimizer steps.
        seconds: Training time.
        best: `step`, `AP`, `AP50` and `AP75` of the best evaluation; None if none has an AP.
        checkpoint: The checkpoint to use: best.pth, or last.pth if no evaluation has an AP.
        chosen_by: Why it is this one: `AP` or `last step`.
    """

    run: Path
    steps: int
    seconds: float
    best: dict[str, Any] | None
    checkpoint: Path
    chosen_by: str

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON, with paths as text."""
        return {**asdict(self), "run": str(self.run), "checkpoint": str(self.checkpoint)}


def new_run_path(name: str) -> Path:
    """Return `runs/NAME-DATE-TIME`, a folder that does not exist yet."""
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    number, path = 1, RUNS / stem
    while path.exists():
        number += 1
        path = RUNS / f"{stem}-{number}"
    return path


def run_to_resume(path: Path | None) -> RunFolder:
    """Return the run in `path`, by default the one in `runs/` that was saved last.

    Raises:
        ConfigError: There is no run.
    """
    if path is None:
        saved = sorted(RUNS.glob("*/checkpoints/last.pth"), key=lambda file: file.stat().st_mtime)
        if not saved:
            raise ConfigError(
                f"--resume: no run in {RUNS}/ has a checkpoint",
                hint="give the run folder: sparsevod train --resume RUN_FOLDER",
            )
        return RunFolder(saved[-1].parent.parent)
    run = RunFolder(path)
    for file in (run.config, run.last):
        if not file.is_file():
            raise ConfigError(
                f"{path}: nothing to resume: {file.relative_to(path)} is missing",
                hint="give the folder that was passed to sparsevod train --output",
            )
    return run
