"""Run the detector itself on a clip, for research on the model: inputs, outputs and their shapes.

python examples/own_forward.py
"""

import torch

from sparsevod_core import build_detector
from sparsevod_core.config import load_config
from sparsevod_core.structures import Clip

torch.manual_seed(0)
config = load_config("tiny", overrides=["model.num_classes=5", "model.tfe=average"])
detector = build_detector(config.model).eval()

clip = Clip(
    images=torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8),  # B target frames
    supports=torch.randint(
        0, 256, (2, 4, 3, 96, 128), dtype=torch.uint8
    ),  # S support frames of each
    image_sizes=torch.tensor([[96, 128], [90, 120]]),  # before padding
)
with torch.no_grad():
    output = detector(clip)
print("logits of every stage     [T, B, N, K]", tuple(output.logits.shape))
print("boxes of every stage      [T, B, N, 4]", tuple(output.boxes_xyxy.shape))

with torch.no_grad():  # at test time, the support frames of a video are computed once
    size = clip.image_sizes[:1]
    memory = detector.remember(detector.encode(clip.supports[0], size.expand(4, 2)))
    first = detector.detect(detector.encode(clip.images[:1], size), memory)
print("same as the first clip:", torch.allclose(first.logits[:, 0], output.logits[:, 0], atol=1e-3))
