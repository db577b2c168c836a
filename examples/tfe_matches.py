"""Measure TFE's search: how often is the most similar place of an object on the same object?

    python examples/tfe_matches.py CHECKPOINT val.json

TFE compares features of the backbone as they are, so that a detector of single frames can be
measured, too. The RoIs are the labeled boxes. Each bin searches the most similar place in support
frames in which the object is labeled. "By chance" is the share of a random place. The last column
is the weight that the target frame has in TFE, among itself and the support frames.
"""

import json
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import torch

from sparsevod_core import Predictor
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.model.temporal_roi import bins_of

SUPPORTS = 6
EVERY = 5  # frames

checkpoint, annotations = map(Path, sys.argv[1:])
videos = VideoSet.load(annotations)
content = json.loads(annotations.read_text("utf-8"))
degraded = {image["id"] for image in content["images"] if image.get("degradation")}
predictor = Predictor.from_checkpoint(checkpoint, overrides=["inference.precision=fp32"])
detector = predictor.plain().detector
stride = 2 ** (detector.support_level + 2)


def encode(frame):
    pixels = reader.read(frame)
    encoded = predictor.encode_frame(pixels)
    return encoded, float(encoded.image_sizes[0, 0]) / pixels.shape[0]


def boxes_of_tracks(frame):
    boxes = videos.boxes(frame)
    known = boxes.instance_ids >= 0
    return dict(zip(boxes.instance_ids[known].tolist(), boxes.boxes_xyxy[known], strict=True))


found = defaultdict(list)  # by condition of the target frame: shares of bins
own_weights = defaultdict(list)
with closing(FrameReader(videos)) as reader, torch.inference_mode():
    for video in range(videos.num_videos):
        frames = videos.video_frames(video)
        places = np.linspace(0, len(frames) - 1, SUPPORTS).round().astype(int)
        chosen = [frames[place] for place in np.unique(places)]
        supports = [(frame, detector.support_maps(encode(frame)[0])) for frame in chosen]
        first, *others = (maps for _, maps in supports)
        joined = first.joined(others)
        for target in frames[::EVERY]:
            tracks = boxes_of_tracks(target)
            if not tracks:
                continue
            encoded, scale = encode(target)
            boxes = torch.from_numpy(np.stack(list(tracks.values()))).float() * scale
            features = encoded.pool(boxes[None])
            bins = bins_of(features, 1)
            condition = "degraded" if videos.image_id(target) in degraded else "clean"
            for stage in detector.stages:
                if stage.temporal_roi is not None and target not in chosen:
                    weights = stage.temporal_roi.weights(features, joined)
                    own_weights[condition].append(weights[:, 0].mean().item())
            for support, maps in supports:
                positions = maps.keys.top(bins, 1)[0].view(len(boxes), -1)
                places = torch.stack([positions % maps.width, positions // maps.width], -1)
                points = (places + 0.5) * stride / scale
                boxes_there = boxes_of_tracks(support)
                height, width = videos.frame_size(support)
                for track, of_object in zip(tracks, points, strict=True):
                    if support == target or track not in boxes_there:
                        continue
                    left, top, right, bottom = boxes_there[track].tolist()
                    x, y = of_object.unbind(-1)
                    inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
                    area = (right - left) * (bottom - top) / (width * height)
                    found[condition].append((inside.float().mean().item(), area))

heading = f"{'target frame':14}{'pairs':>8}{'on the same object':>20}{'by chance':>12}"
print(f"{heading}{'own weight':>12}")
for condition in sorted(found):
    share, chance = np.mean(found[condition], axis=0)
    weights = own_weights[condition]
    own = f"{np.mean(weights):.1%}" if weights else "-"
    print(f"{condition:14}{len(found[condition]):8}{share:20.1%}{chance:12.1%}{own:>12}")
