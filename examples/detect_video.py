"""Detect objects in a video as a stream. Memory use does not depend on the length of the video.

python examples/detect_video.py CHECKPOINT VIDEO
"""

import sys

from sparsevod_core import Predictor

checkpoint, video = sys.argv[1:]
predictor = Predictor.from_checkpoint(checkpoint)

for frame in predictor.video(video):
    for detection in frame.above(0.3):
        corners = " ".join(f"{value:.0f}" for value in detection.box_xyxy)
        print(f"frame {frame.index}: {detection.class_name} {detection.score:.2f} at {corners}")
