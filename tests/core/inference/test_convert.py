"""Conversion of detections for other libraries, and frames given as tensors."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparsevod_core.config import load_config
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.inference import Predictor
from sparsevod_core.inference.convert import to_coco, to_supervision, to_torch
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category, Detections

CATEGORIES = (Category(7, "square"), Category(3, "bar"))
FOUND = Detections(
    np.array([[10, 20, 50, 40], [1.5, 2, 8, 9]], np.float32),
    np.array([0.75, 0.5], np.float32),
    np.array([1, 0], np.int64),
    CATEGORIES,
)


def test_coco_is_what_pycocotools_scores(tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    entries = to_coco(FOUND, image_id=4)
    assert entries[0] == {
        "image_id": 4,
        "category_id": 3,
        "bbox": [10, 20, 40, 20],
        "score": 0.75,
    }
    truth = {
        "images": [{"id": 4, "width": 64, "height": 48}],
        "categories": [{"id": one.id, "name": one.name} for one in CATEGORIES],
        "annotations": [
            {"id": n, "image_id": 4, "iscrowd": 0, "area": e["bbox"][2] * e["bbox"][3], **e}
            for n, e in enumerate(entries, start=1)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    coco = COCO(str(tmp_path / "truth.json"))
    scorer = COCOeval(coco, coco.loadRes(json.loads(json.dumps(entries))), "bbox")
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    assert scorer.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("convert", [partial(to_coco, image_id=1), to_supervision])
def test_categories_are_needed_for_names_and_ids(convert: Any) -> None:
    pytest.importorskip("supervision")
    with pytest.raises(ConfigError, match="no categories"):
        convert(replace(FOUND, categories=()))


def test_torch() -> None:
    found = to_torch(FOUND)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in found.items()} == {
        "boxes": (torch.float32, (2, 4)),
        "scores": (torch.float32, (2,)),
        "labels": (torch.int64, (2,)),
    }


def test_supervision_has_the_names_and_counts() -> None:
    supervision = pytest.importorskip("supervision")
    found = to_supervision(FOUND)
    assert found["class_name"].tolist() == ["bar", "square"]
    assert found.class_id.tolist() == [1, 0]
    assert found.area.tolist() == pytest.approx([800, 45.5])
    left = supervision.PolygonZone(np.array([(0, 0), (20, 0), (20, 48), (0, 48)]))
    assert left.trigger(found).tolist() == [False, True]
    assert len(to_supervision(FOUND[:0])) == 0


def test_missing_supervision_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigError, match="not installed") as error:
        to_supervision(FOUND)
    assert "sparsevod[supervision]" in str(error.value.hint)


def test_tensors_in_give_what_arrays_give(video_set: Any) -> None:
    sizes = ["data.short_side=64", "data.long_side=96", "model.num_classes=2"]
    config = load_config("tiny", overrides=[*sizes, "model.num_stages=1"])
    predictor = Predictor(build_detector(config.model), config, CATEGORIES, device="cpu")
    arrays = video_set.images["narrow"][:3]
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    memory, same = predictor.remember(arrays[:2]), predictor.remember(tensors[:2])
    for one, other in zip(
        predictor.detect(arrays, memory), predictor.detect(tensors, same), strict=True
    ):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
    with pytest.raises(DataError, match="expected RGB"):
        predictor.detect([torch.zeros(8, 8, 3, dtype=torch.uint8)], None)
    with pytest.raises(DataError, match="expected RGB"):
        predictor.detect([torch.zeros(3, 8, 8)], None)
