"""Evaluate one model with 0, 2 and 6 support frames (the paper's Table 5).

python examples/evaluate_supports.py CHECKPOINT ANNOTATIONS.json
"""

import sys
from pathlib import Path

from sparsevod_core import Predictor, evaluate
from sparsevod_core.data.records import VideoSet

checkpoint, annotations = sys.argv[1:]
videos = VideoSet.load(Path(annotations))
for supports in (0, 2, 6):
    predictor = Predictor.from_checkpoint(
        checkpoint, overrides=[f"inference.supports={supports}", "inference.batch=8"]
    )
    boxes = evaluate(predictor, videos).boxes
    print(f"{supports} supports: AP50 {boxes.AP50:.3f}  AP75 {boxes.AP75:.3f}  AP {boxes.AP:.3f}")
