"""Parity with entire video detectors of MMTracking, from frames to detections in source pixels."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import torch
from faster_rcnn import narrow_resnet
from report import EXACT, Report
from torch import Tensor

from sparsevod_core.config import Config, preset_settings
from sparsevod_core.data.transforms import pad_to_multiple
from sparsevod_core.foreign_names.mmtracking import from_mmtracking, system_of
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.model.build import build_detector, two_stage
from sparsevod_core.structures import Category

# The network is random and so its outputs amplify the rounding of float32: with weights off by 2e-7,
# the reference itself moves by up to a half of these.
MAPS = 2e-4
PROPOSALS_PX = 0.05
BOXES_PX = {"selsa": 0.1, "troi": 1.0, "fgfa": 0.1}
SCORES = {"selsa": 2e-3, "troi": 0.05, "fgfa": 2e-3}
# TROI takes the two most similar of all positions for each bin of a RoI. Where similarities are
# equal up to rounding, a row of logits moves by up to 0.15, while the others stay.
LOGITS = {"median": 1e-3, "of 90 %": 5e-3}
