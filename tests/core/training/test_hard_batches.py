"""Training on unusual annotations: no boxes, tiny boxes, more boxes than proposals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_results import metrics

from sparsevod_core.config import Config
from sparsevod_core.training.trainer import Trainer

pytest_plugins = ["small_runs"]

ONE_PIXEL = [[40, 30, 1, 1], [0, 0, 1, 1], [95, 63, 1, 1]]
CROWDED = [[3 * n, 2 * n, 12, 9] for n in range(20)]  # for 6 proposals


@pytest.mark.parametrize("boxes", [[], ONE_PIXEL, CROWDED], ids=["none", "one pixel", "crowded"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_completes(
    boxes: list[list[int]],
    accumulate: int,
    settings: Callable[..., Config],
    annotations: Path,
    tmp_path: Path,
) -> None:
    content: dict[str, Any] = json.loads(annotations.read_text())
    content["annotations"] = [
        {"id": 100 * image["id"] + n, "image_id": image["id"], "category_id": 7, "bbox": box}
        for image in content["images"]
        for n, box in enumerate(boxes)
    ]
    same_frames = annotations.with_name(f"hard_{len(boxes)}.json")
    same_frames.write_text(json.dumps(content))
    config = settings(
        f"data.train_annotations={same_frames}",
        "train.max_steps=3",
        "train.log_every=1",
        f"train.accumulate={accumulate}",
    )
    Trainer(config, tmp_path / "run", device="cpu").fit()
    logged = metrics(tmp_path / "run")
    assert len(logged) == 3
    for record in logged:
        assert all(math.isfinite(record[f"loss_{part}"]) for part in ("class", "l1", "giou"))
        assert math.isfinite(record["grad_norm"]) and record["grad_norm"] > 0
        assert (record["loss_l1"] > 0) == bool(boxes)
