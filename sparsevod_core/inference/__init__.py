"""A detector in use: frames in, detections out; a video file in, a video with boxes out.

`predictor` runs the detector, `device` says where, `results` are the files of detections,
`journal` is what a run that was cut off goes on from, `detect_video` makes all of it from a video.
"""

from sparsevod_core.inference.detect_video import DetectedVideo, detect_video
from sparsevod_core.inference.device import resolve_device
from sparsevod_core.inference.predictor import Predictor

__all__ = ["DetectedVideo", "Predictor", "detect_video", "resolve_device"]
