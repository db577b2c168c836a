"""Decode the videos of a set into small JPEG files, and adapt the annotations.

    python examples/embedded/shrink.py drones/train.json -o data/drones_small

writes data/drones_small/train.json and a folder of frames for each video. Reading a JPEG file takes
a fraction of the time of seeking in a video.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import torch

from sparsevod_core.data.records import VideoSet
from sparsevod_core.data.transforms import resize_image, resized_size
from sparsevod_core.files.unfinished import write_text
from sparsevod_core.video.reader import VideoReader

JPEG_QUALITY = 92


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path, help="COCO-VID JSON of video files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--short-side", type=int, default=384, help="pixels; default: 384")
    parser.add_argument("--every", type=int, default=1, help="keep each N-th frame; default: 1")
    arguments = parser.parse_args()
    videos = VideoSet.load(arguments.annotations)
    content = json.loads(arguments.annotations.read_text("utf-8"))
    if any(image.get("video_id") is None for image in content["images"]):
        sys.exit(f"{arguments.annotations}: has still images, expected videos only")
    kept = {i["id"] for i in content["images"] if i["frame_id"] % arguments.every == 0}
    content["images"] = [image for image in content["images"] if image["id"] in kept]
    content["annotations"] = [box for box in content["annotations"] if box["image_id"] in kept]
    content.pop("info", None)  # its root is that of the videos
    frame_of = {videos.image_id(frame): frame for frame in range(videos.num_frames)}
    name = arguments.annotations.stem
    images = []
    for number in range(videos.num_videos):
        folder = f"{name}/{folder_of(videos, number)}"
        print(f"{folder} ({number + 1} of {videos.num_videos})", flush=True)
        frames = [frame for frame in videos.video_frames(number) if videos.image_id(frame) in kept]
        if frames:
            shrink_video(videos, frames, arguments.output / folder, arguments.short_side)
    ratios = {}
    for image in content["images"]:
        frame = frame_of[image["id"]]
        number = videos.video_of(frame)
        height, width = resized_size(*videos.frame_size(frame), arguments.short_side, 10**6)
        ratios[image["id"]] = (width / image["width"], height / image["height"])
        image |= {
            "file_name": f"{name}/{folder_of(videos, number)}/{image['frame_id']:06d}.jpg",
            "width": width,
            "height": height,
        }
        images.append(image)
    for video in content["videos"]:
        video.pop("file_name", None)  # the frames are image files now
    for box in content["annotations"]:
        x, y = ratios[box["image_id"]]
        left, top, width, height = box["bbox"]
        box["bbox"] = [round(v, 2) for v in (left * x, top * y, width * x, height * y)]
        box["area"] = round(box["bbox"][2] * box["bbox"][3], 2)
    written = arguments.output / f"{name}.json"
    write_text(written, json.dumps(content))
    print(f"{written}: {videos.num_videos} videos, {len(images)} frames")


def folder_of(videos: VideoSet, number: int) -> str:
    """Return a unique folder name for a video, without path separators."""
    return f"{number:04d}_{videos.video_name(number).replace('/', '_')}"


def shrink_video(videos: VideoSet, frames: Sequence[int], folder: Path, short_side: int) -> None:
    """Write frames of one video, unless the folder exists: it is then complete."""
    file, _ = videos.frame_path(frames[0])
    wanted = {videos.frame_path(frame)[1] for frame in frames}
    if folder.exists():
        if {int(image.stem) for image in folder.iterdir()} != wanted:
            sys.exit(f"{folder}: has other frames of {file}: remove it, or give another --output")
        return
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    with VideoReader(file, threads=1) as reader:
        for frame in reader:
            if frame.index in wanted:
                image = torch.from_numpy(frame.image).permute(2, 0, 1)
                size = resized_size(*frame.image.shape[:2], short_side, 10**6)
                small = resize_image(image, size).permute(1, 2, 0).numpy()
                bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
                path = partial / f"{frame.index:06d}.jpg"
                if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                    sys.exit(f"{path}: cannot be written")
                wanted.remove(frame.index)
    if wanted:
        sys.exit(f"{file}: has no frame {min(wanted)}, which the annotations name")
    partial.replace(folder)


if __name__ == "__main__":
    main()
