"""Detections in images of one scene, each informed by the others.

    python examples/detect_images.py CHECKPOINT IMAGE [IMAGE ...]

The images must have one size, as the frames of a video do.
"""

import sys

import cv2

from sparsevod_core import Predictor

checkpoint, *paths = sys.argv[1:]
predictor = Predictor.from_checkpoint(checkpoint)
images = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths]

memory = predictor.remember(images)  # once; then every image uses it
for path, detections in zip(paths, predictor.detect(images, memory), strict=True):
    for box, score, label in zip(
        detections.boxes_xyxy[:5], detections.scores, detections.labels, strict=False
    ):
        print(f"{path}: {predictor.categories[label].name} {score:.2f} {box.round(1).tolist()}")
