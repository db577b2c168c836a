"""Detect objects in a video as a stream. Memory use does not depend on the length of the video.

python examples/detect_video.py CHECKPOINT VIDEO
"""

import sys

from sparsevod_core import Predictor

checkpoint, video = sys.argv[1:]
predictor = Predictor.from_checkpoint(checkpoint)
names = [category.name for category in predictor.categories]

for found in predictor.video(video):
    for box, score, label in zip(found.boxes_xyxy, found.scores, found.labels, strict=True):
        if score > 0.3:
            corners = " ".join(f"{value:.0f}" for value in box)
            print(f"frame {found.frame.index}: {names[label]} {score:.2f} at {corners}")
