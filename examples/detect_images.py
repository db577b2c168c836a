"""Detect objects in images of one scene, using the images as support frames of each other.

    python examples/detect_images.py CHECKPOINT IMAGE [IMAGE ...]

All images must have the same size.
"""

import sys

import cv2

from sparsevod_core import Predictor

checkpoint, *paths = sys.argv[1:]
predictor = Predictor.from_checkpoint(checkpoint)
images = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in paths]

memory = predictor.remember(images)  # computed once, used for every image
for path, detections in zip(paths, predictor.detect(images, memory), strict=True):
    for detection in detections[:5]:
        print(f"{path}: {detection}")
