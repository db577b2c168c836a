"""Estimate the AP lost to wrong classes: score detections again with all classes merged into one.

    sparsevod eval CHECKPOINT --annotations val.json --save-predictions found.json
    python examples/one_class.py val.json found.json

The difference between the two printed lines estimates what better classification of the same boxes
could gain. It is no bound: with one class, each object counts alike, with several, each class does.
The remaining errors are objects that were missed, localized badly or scored low.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sparsevod_core.evaluation.score import evaluate_predictions

annotations, predictions = map(Path, sys.argv[1:])

truth = json.loads(annotations.read_text("utf-8"))
truth["categories"] = [{"id": 1, "name": "object"}]
for box in truth["annotations"]:
    box["category_id"] = 1

# A box that is listed with several classes counts once, with its best score.
best: dict[Any, dict[str, Any]] = {}
for found in json.loads(predictions.read_text("utf-8")):
    place = (found["image_id"], *found["bbox"])
    if place not in best or found["score"] > best[place]["score"]:
        best[place] = {**found, "category_id": 1}


def show(name: str, annotations: Path, predictions: Path) -> None:
    scores = evaluate_predictions(annotations, predictions).to_dict()
    parts = {"all frames": scores, "clean": scores["clean"], "degraded": scores["degraded"]}
    texts = (
        f"{part} AP50 {ap['AP50']:.3f} AP75 {ap['AP75']:.3f}" for part, ap in parts.items() if ap
    )
    print(f"{name:16}{'; '.join(texts)}")


with TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "truth.json").write_text(json.dumps(truth), "utf-8")
    (folder / "found.json").write_text(json.dumps(list(best.values())), "utf-8")
    show("with classes", annotations, predictions)
    show("all one class", folder / "truth.json", folder / "found.json")
