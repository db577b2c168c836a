"""Writes COCO-VID JSON record by record, so that a million frames need no memory.

One file holds `info`, `categories`, `images`, `annotations` and `videos`; every record is one line.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sparsevod_core.errors import DataError


class CocoVidWriter:
    """A JSON file that appears under its name only when the `with` block ends well.

    Ids are given out from 1, in the order of the calls.

    Args:
        path: the file to write; its folder is made.
        info: what stands under `info`.
        categories: `{"id": ..., "name": ...}` records.

    Raises:
        DataError: the file cannot be written.
    """

    def __init__(
        self, path: Path, *, info: Mapping[str, Any], categories: Sequence[Mapping[str, Any]]
    ) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        self._videos: list[str] = []
        self._num_images = self._num_annotations = self._num_instances = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("w", encoding="utf-8")
            # `annotations` follow all `images` in the file but arrive between them.
            self._annotations: IO[str] = tempfile.TemporaryFile(  # noqa: SIM115 - see __exit__
                "w+", encoding="utf-8", dir=path.parent
            )
        except OSError as error:
            raise DataError(f"{path}: cannot write: {error.strerror}") from error
        self._file.write(f'{{"info": {_json(info)},\n"categories": {_json(categories)},\n')
        self._file.write('"images": [')

    def __enter__(self) -> Self:
        return self

    def add_video(self, **record: Any) -> int:
        """Append a video and return its id."""
        self._videos.append(_json({"id": len(self._videos) + 1, **record}))
        return len(self._videos)

    def add_image(self, **record: Any) -> int:
        """Append a frame and return its id: the record's own where it has one."""
        self._num_images += 1
        separator = "\n" if self._num_images == 1 else ",\n"
        record = {"id": self._num_images, **record}
        self._file.write(separator + _json(record))
        return int(record["id"])

    def add_annotation(self, **record: Any) -> int:
        """Append a box and return its id."""
        self._num_annotations += 1
        separator = "\n" if self._num_annotations == 1 else ",\n"
        self._annotations.write(separator + _json({"id": self._num_annotations, **record}))
        return self._num_annotations

    def new_instance(self) -> int:
        """An instance id that no other object of the file has."""
        self._num_instances += 1
        return self._num_instances

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._file, self._annotations:
            if kind is None:
                self._finish()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink()

    def _finish(self) -> None:
        self._file.write('\n],\n"annotations": [')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._file)
        videos = "".join(f"\n{video}," for video in self._videos).rstrip(",")
        self._file.write(f'\n],\n"videos": [{videos}\n]}}\n')


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
