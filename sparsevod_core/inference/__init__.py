"""A detector in use: frames in, detections out; a video file in, a video with boxes out.

`predictor` runs the detector, `device` says where, `detections_json` is the machine-readable
result, `detect_video` makes both from a file.
"""

from sparsevod_core.inference.detect_video import DetectedVideo, detect_video
from sparsevod_core.inference.device import resolve_device
from sparsevod_core.inference.predictor import Predictor

__all__ = ["DetectedVideo", "Predictor", "detect_video", "resolve_device"]
