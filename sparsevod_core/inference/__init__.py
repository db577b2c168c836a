"""Inference: frames in, detections out; a video in, a video with boxes out.

`predictor` runs the detector on frames, `detect_video` on a video with output files, and
`detect_videos` on many videos. `tracking` gives the objects ids. `results` contains the formats of
files of detections, `journal` what `--resume` continues from, `inspection` the results of every
stage.
"""

from sparsevod_core.inference.detect_video import DetectedVideo, detect_video
from sparsevod_core.inference.device import resolve_device
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.tracking import track

__all__ = ["DetectedVideo", "Predictor", "detect_video", "resolve_device", "track"]
