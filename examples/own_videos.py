"""Convert your own labeled videos to a data set, and print its contents.

    python examples/own_videos.py FOLDER OUT.json

FOLDER holds labels in any format that `sparsevod prepare-vid` reads, and the videos or frames.
"""

import sys
from pathlib import Path

from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.prepare.formats import recognize
from sparsevod_core.prepare.labeled import prepare_labeled

folder, output = map(Path, sys.argv[1:])
label_format, sign = recognize(folder)
print(f"{folder} is {label_format}: it has {sign}")

(prepared,) = prepare_labeled(folder, output, label_format)
for problem in prepared.problems:
    print(f"skipped: {problem}")

videos = VideoSet.load(output)
reader = FrameReader(videos)  # reads frames from folders or video files
for video in range(videos.num_videos):
    frames = videos.video_frames(video)
    pixels = reader.read(frames[0])
    boxes = videos.boxes(frames[0])
    names = [videos.categories[label].name for label in boxes.labels]
    print(f"{videos.video_name(video)}: {len(frames)} frames of {pixels.shape}, first {names}")
