"""COCO's results format, for pycocotools and `sparsevod eval --from-predictions`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sparsevod_core.data.json_fields import Id
from sparsevod_core.inference.results.entries import rounded
from sparsevod_core.structures import Category, FrameDetections


@dataclass(frozen=True, slots=True)
class CocoIds:
    """Ids of an annotated set, for the results of one video.

    Attributes:
        images: Id of each annotated frame, by index. Other frames are left out.
        categories: Id of each class of the model, by label. Classes without an id are left out.
    """

    images: Mapping[int, int]
    categories: Sequence[Id | None]


class CocoResults:
    """List of {image_id, category_id, bbox, score}, `bbox` being [x, y, width, height] in pixels.

    Ids are those of an annotated set, if `ids` are given. Otherwise `image_id` is the frame's index
    from 0, and `category_id` is the class's id in the annotations that the model was trained on.
    Then an entry also has the name of its `video`, by which `sparsevod eval` recognizes ids that
    are of no set; pycocotools ignores it. With tracking, it has the `track_id`, or null.
    """

    def __init__(
        self, header: dict[str, Any], categories: Sequence[Category], ids: CocoIds | None = None
    ) -> None:
        self._categories = categories
        self._ids = ids
        self._video = Path(header["video"]).name
        self._is_first = True

    def start(self) -> str:
        return "["

    def frame(self, found: FrameDetections, time_s: Fraction | None) -> str:
        text = ""
        detections = found.detections
        image_id: int | None = found.index
        category_ids: Sequence[Id | None] = [category.id for category in self._categories]
        if self._ids is not None:
            image_id, category_ids = self._ids.images.get(found.index), self._ids.categories
        if image_id is None:
            return text
        values = rounded(detections, self._categories)
        for ((x1, y1, x2, y2), score, _, track_id), label in zip(
            values, detections.labels.tolist(), strict=True
        ):
            if category_ids[label] is None:
                continue
            entry = {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
                "score": score,
                **({} if self._ids is not None else {"video": self._video}),
            }
            if found.track_ids is not None:
                entry["track_id"] = track_id
            text += ("\n" if self._is_first else ",\n") + json.dumps(entry, allow_nan=False)
            self._is_first = False
        return text

    def end(self, *, truncated: bool) -> list[str]:
        return ["\n]\n"]
