"""Measure TFE's search: how often is the most similar place of an object on the same object?

    python examples/tfe_matches.py CHECKPOINT val.json

TFE compares features of the backbone as they are, so that a detector of single frames can be
measured, too. The RoIs are the labeled boxes. Each bin searches the most similar place in support
frames in which the object is labeled. The last column is the share of a random place.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch

from sparsevod_core import Predictor
from sparsevod_core.model.temporal_roi import bins_of

SUPPORTS = 6
EVERY = 5  # frames

checkpoint, annotations = map(Path, sys.argv[1:])
truth = json.loads(annotations.read_text("utf-8"))
predictor = Predictor.from_checkpoint(checkpoint)
detector = predictor.plain().detector
stride = 2 ** (detector.support_level + 2)

objects = defaultdict(dict)  # by frame and track: corners of the box
for label in truth["annotations"]:
    x, y, width, height = label["bbox"]
    objects[label["image_id"]][label["instance_id"]] = [x, y, x + width, y + height]
frames_of = defaultdict(list)
for image in truth["images"]:
    frames_of[image["video_id"]].append(image)

found = defaultdict(list)  # by condition of the target frame: shares of bins
for frames in frames_of.values():
    frames.sort(key=lambda image: image["frame_id"])
    chosen = np.linspace(0, len(frames) - 1, SUPPORTS).round().astype(int)

    def encode(number, frames=frames):
        pixels = cv2.imread(str(annotations.parent / frames[number]["file_name"]))
        encoded = predictor.encode_frame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        return encoded, float(encoded.image_sizes[0, 0]) / pixels.shape[0]

    with torch.inference_mode():
        supports = [detector.support_maps(encode(number)[0]) for number in chosen]
        for number in range(0, len(frames), EVERY):
            tracks = objects[frames[number]["id"]]
            if not tracks:
                continue
            encoded, scale = encode(number)
            boxes = torch.tensor(list(tracks.values())) * scale
            bins = bins_of(encoded.pool(boxes[None]), 1)
            condition = "degraded" if frames[number].get("degradation") else "clean"
            for support, maps in zip(chosen, supports, strict=True):
                positions = maps.keys.top(bins, 1)[0].view(len(boxes), -1)
                places = torch.stack([positions % maps.width, positions // maps.width], -1)
                points = (places + 0.5) * stride / scale
                for track, of_object in zip(tracks, points, strict=True):
                    box = objects[frames[support]["id"]].get(track)
                    if support == number or box is None:
                        continue
                    left, top, right, bottom = box
                    x, y = of_object.unbind(-1)
                    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
                    image = frames[support]
                    area = (right - left) * (bottom - top) / (image["width"] * image["height"])
                    found[condition].append((inside.float().mean().item(), area))

print(f"{'target frame':14}{'pairs':>8}{'on the same object':>20}{'by chance':>12}")
for condition in sorted(found):
    share, chance = np.mean(found[condition], axis=0)
    print(f"{condition:14}{len(found[condition]):8}{share:20.1%}{chance:12.1%}")
