"""Writes a COCO results file while it comes to be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from jaxtyping import Float

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.json_entries import Id


class ResultsWriter:
    """Writes a results file while it comes to be; a context manager.

    Detections go to `NAME.partial`, a frame per line. It becomes `NAME` when the block ends without
    an exception and stays behind, with all that was written, when it does not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self._file: IO[str] | None = None
        self._separator = ""

    def __enter__(self) -> ResultsWriter:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("w", encoding="utf-8")
        except OSError as error:
            raise DataError(f"{self._partial}: cannot write: {error.strerror}") from error
        self._file.write("[\n")
        return self

    def write(
        self,
        image_id: Id,
        boxes_xywh: Float[np.ndarray, "M 4"],
        scores: Float[np.ndarray, " M"],
        category_ids: Sequence[Id],
    ) -> None:
        """Append the detections of one frame, to the last digit as they are."""
        assert self._file is not None, "used outside its `with` block"
        columns = zip(category_ids, boxes_xywh.tolist(), scores.tolist(), strict=True)
        entries = [
            json.dumps({"image_id": image_id, "category_id": id_, "bbox": box, "score": score})
            for id_, box, score in columns
        ]
        if entries:
            self._file.write(self._separator + ", ".join(entries))
            self._separator = ",\n"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._file is not None
        if kind is None:
            self._file.write("\n]\n")
        self._file.close()
        if kind is None:
            self._partial.replace(self.path)
