"""Record of which video the results in a folder belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevod_core.checkpoint.digest import digest
from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.files.names import cannot_write
from sparsevod_core.inference.jobs import Job
from sparsevod_core.video.fingerprint import fingerprint

NAME = ".sparsevod.results.jsonl"  # hidden: a folder of results may be given to `detect`
SCHEMA = "sparsevod.results/1"


class Manifest:
    """A line for each video: its path, what identifies it and the run, and its outputs.

    Lines are appended in one piece, so that several processes can share the file. The last line
    with an output counts. Lines that cannot be read are ignored.

    Args:
        folder: Folder of the results.

    Raises:
        ConfigError: The folder has a file of this name that is something else.
        DataError: The file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        except OSError as error:
            raise cannot_write(self.path, error) from error
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["schema"] == SCHEMA:
                    self._entries |= dict.fromkeys(map(str, entry["outputs"]), entry)
            except (ValueError, LookupError, TypeError):
                continue
        if lines and not self._entries:
            raise ConfigError(
                f"{self.path}: not written by `sparsevod detect`, which needs this name",
                hint="rename the file, or choose another folder",
            )

    def holds(self, outputs: Iterable[Path], made_from: dict[str, Any]) -> bool:
        """Return True if all outputs are recorded as made from this video by such a run."""
        found = [self._entries.get(self._name(path)) for path in outputs]
        return all(entry is not None and _is_same(entry, made_from) for entry in found)

    def require_free(self, outputs: Iterable[Path], made_from: dict[str, Any]) -> None:
        """Check that no existing output belongs to another video, or to a run of another kind.

        Raises:
            ConfigError: One does, or it is not recorded which it belongs to.
        """
        for path in outputs:
            if not os.path.lexists(path) or self.holds([path], made_from):
                continue
            entry = self._entries.get(self._name(path))
            if made_from["content"] is None:
                reason = "already exists"
            elif entry is None:
                reason = f"already exists, and {self.path} does not say of which video"
            elif entry.get("model") != made_from["model"]:
                reason = "is the result of another model"
            elif entry.get("ids") != made_from["ids"]:
                reason = "was made with other --annotations, or without"
            elif _is_tracked(entry) != made_from["track"]:
                reason = f"is the result of a run with{'' if _is_tracked(entry) else 'out'} --track"
            else:
                reason = f"is the result of {entry.get('video')}, not of {made_from['video']}"
                if entry.get("video") == made_from["video"]:
                    reason = f"is the result of {entry.get('video')} before that was changed"
            raise ConfigError(f"{path}: {reason}", hint="choose another folder, or remove the file")

    def record(self, outputs: Iterable[Path], made_from: dict[str, Any]) -> None:
        """Append a line, unless the outputs are recorded already.

        Raises:
            DataError: The file cannot be written.
        """
        outputs = list(outputs)
        if not outputs or self.holds(outputs, made_from):
            return
        names = [self._name(path) for path in outputs]
        line = json.dumps({"schema": SCHEMA, **made_from, "outputs": names}) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.path.parent)


@dataclass(frozen=True, slots=True)
class Manifests:
    """Manifests of all folders, and what this run makes results with; empty for a single video.

    Attributes:
        by_folder: Manifests by folder.
        model: Digest of the checkpoint.
        ids: Digest of the annotations that give ids.
        is_tracked: Whether objects are tracked.
    """

    by_folder: Mapping[Path, Manifest]
    model: str
    ids: str | None
    is_tracked: bool

    @classmethod
    def of(
        cls, jobs: Sequence[Job], checkpoint: Path, annotations: Path | None, is_tracked: bool
    ) -> Manifests:
        folders = {job.folder for job in jobs if job.folder is not None}
        model = digest(checkpoint) if folders and checkpoint.is_file() else ""
        ids = None if annotations is None else digest(annotations)
        return cls({folder: Manifest(folder) for folder in folders}, model, ids, is_tracked)

    def is_done(self, job: Job) -> bool:
        """Return True if all outputs exist and are of this video and model."""
        if job.folder is None or not job.files.are_done():
            return False
        try:
            made_from = self._made_from(job)
        except VideoError:  # `begin` raises it again, for this video only
            return False
        return self.by_folder[job.folder].holds(job.files.paths(), made_from)

    def begin(self, job: Job) -> None:
        """Record whose results the outputs will be.

        Raises:
            ConfigError: They are those of another video or model.
            DataError: The record cannot be written.
            VideoError: The video cannot be read.
        """
        if job.folder is not None:
            manifest, made_from = self.by_folder[job.folder], self._made_from(job)
            if any(path.exists() for path in job.files.paths()):
                manifest = Manifest(job.folder)  # another process may have written to it
            manifest.require_free(job.files.paths(), made_from)
            manifest.record(job.files.paths(), made_from)

    def _made_from(self, job: Job) -> dict[str, str | bool | None]:
        return {
            "video": str(job.source),
            "content": fingerprint(job.source),
            "model": self.model,
            "ids": self.ids,
            "track": self.is_tracked,
        }


def _is_same(entry: dict[str, Any], made_from: dict[str, Any]) -> bool:
    # A video that was moved is still the same. What comes from stdin is never known to be.
    is_same_run = _is_tracked(entry) == made_from["track"]
    return (made_from["content"] is not None and is_same_run) and all(
        entry.get(key) == made_from[key] for key in ("content", "model", "ids")
    )


def _is_tracked(entry: dict[str, Any]) -> bool:
    return entry.get("track") is True  # older versions did not track
