"""Count the objects in the left half of each frame, with the library `supervision`.

pip install 'sparsevod[supervision]'
python examples/supervision_zone.py CHECKPOINT VIDEO
"""

import sys

import numpy as np
import supervision

from sparsevod_core import Predictor
from sparsevod_core.inference.convert import to_supervision

checkpoint, video = sys.argv[1:]
predictor = Predictor.from_checkpoint(checkpoint)
zone = None

for found in predictor.video(video):
    if zone is None:
        height, width, _ = found.frame.image.shape
        left = [(0, 0), (width // 2, 0), (width // 2, height), (0, height)]
        zone = supervision.PolygonZone(np.array(left))
    zone.trigger(to_supervision(found.above(0.3)))
    print(f"frame {found.index}: {zone.current_count} in the left half")
