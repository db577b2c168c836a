"""Print AP at one IoU threshold by the size of the objects in the frames, with pycocotools.

    sparsevod eval CHECKPOINT --annotations val.json --save-predictions found.json
    python examples/ap_by_size.py val.json found.json [IOU]

The default IoU is 0.5. A lower one shows what loose labels cost: a tight box of a small object has
a low IoU with a label that is twice as wide. The size is the square root of the area of the box. As
in COCO, detections outside a range that match no object are not counted as errors there.
"""

import contextlib
import io
import json
import sys
from itertools import pairwise
from pathlib import Path

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

LARGEST = 100_000
SIDES = (0, 16, 24, 32, 64, LARGEST)

annotations, predictions, *rest = sys.argv[1:]
iou = float(rest[0]) if rest else 0.5
found = json.loads(Path(predictions).read_text("utf-8"))
if not found:
    sys.exit(f"{predictions}: has no detections")
with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
    truth = COCO(annotations)
    for box in truth.dataset["annotations"]:
        box.setdefault("area", box["bbox"][2] * box["bbox"][3])
        box.setdefault("iscrowd", 0)
    scores = COCOeval(truth, truth.loadRes(found), "bbox")
    ranges = [(0, LARGEST), *pairwise(SIDES)]
    scores.params.areaRng = [[low**2, high**2] for low, high in ranges]
    scores.params.areaRngLbl = [f"{low} to {high}" for low, high in ranges]
    scores.params.iouThrs = [iou]
    scores.evaluate()
    scores.accumulate()
precision = scores.eval["precision"][0, :, :, :, -1]  # recall levels, classes, sizes
areas = [box["area"] for box in truth.dataset["annotations"] if not box["iscrowd"]]
for number, (low, high) in enumerate(ranges):
    of_class = precision[..., number].mean(0)
    known = of_class[of_class >= 0]  # -1: no object of this size
    boxes = sum(low**2 <= area < high**2 for area in areas)
    text = f"{known.mean():.3f}" if len(known) else "-"
    name = f"{low} to {high} px" if high < LARGEST else f"from {low} px"
    print(f"{name if number else 'all':14}{boxes:8,} boxes  AP at IoU {iou:g} {text}")
