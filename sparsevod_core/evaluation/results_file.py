"""COCO results files: a JSON list of {image_id, category_id, bbox, score}."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from jaxtyping import Float

from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.coco import BoxAPEvaluator
from sparsevod_core.evaluation.json_entries import (
    Id,
    box_xywh,
    finite,
    kind,
    position_of,
    read_json,
)


def read_results(path: Path, evaluator: BoxAPEvaluator) -> None:
    """Give every detection of a results file to `evaluator`; their order within a frame is kept.

    Raises:
        DataError: unreadable file, or the first entry that is broken or names an image or class
            that the ground truth does not have.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: not a COCO results file: expected a list, got {kind(entries)}",
            hint='each entry is {"image_id": 1, "category_id": 1, "bbox": [x, y, w, h], '
            '"score": 0.5}, as `sparsevod eval CKPT --save-predictions` writes them',
        )
    truth = evaluator.truth
    image_at = {id_: position for position, id_ in enumerate(truth.image_ids)}
    category_at = {id_: position for position, id_ in enumerate(truth.category_ids)}
    among_images = f"among the images of {truth.path}"
    among_categories = f"among the categories of {truth.path}"
    frames: dict[int, list[tuple[list[float], float, Id]]] = defaultdict(list)
    for index, entry in enumerate(entries):
        where = f"{path}: entry {index}"
        image = position_of(entry, "image_id", image_at, where, among_images)
        category = position_of(entry, "category_id", category_at, where, among_categories)
        frames[image].append(
            (box_xywh(entry, where), finite(entry, "score", where), truth.category_ids[category])
        )
    for image, detections in frames.items():
        boxes, scores, categories = zip(*detections, strict=True)
        evaluator.update(truth.image_ids[image], np.array(boxes), np.array(scores), categories)


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
