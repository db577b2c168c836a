"""Speed of `sparsevod prepare-vid` on ImageNet VID, compared with a plain loop over the same files.

Makes a tree in ImageNet VID's layout (snippets of about 290 frames, with an XML, a JPEG and 1.5
boxes per frame). Then runs in turn, each in a fresh process with warm caches: `prepare-vid` with
several workers and with one, and a typical single-process loop with ElementTree, once with Pillow
to read the frame size and once with minimal code. All must give the same boxes, ids and motion.
Prints seconds, ratios, and the peak memory of all processes at two sizes as JSON.

    python benchmarks/convert_imagenet.py --frames 50000 --output convert_imagenet.json
"""

# ruff: noqa: PTH118, PTH119, PTH123, PTH208
# ... because the plain loop is written in the usual style.

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from hardware import about_this_machine

from sparsevod_core.class_lists.imagenet_vid import IMAGENET_VID_CLASSES

CLASS_IDS = {item.wnid: item.id for item in IMAGENET_VID_CLASSES}
GROUP = "Data/VID/train/ILSVRC2015_VID_train_0000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--frames", type=int, default=10_000, help="number of frames")
    parser.add_argument("--runs", type=int, default=3, help="number of runs of each program")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="parent of the temporary tree")
    parser.add_argument("--output", type=Path, help="file for the JSON; default: stdout")
    parser.add_argument("--plain", choices=SIZE_READERS, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:  # run as one of the compared programs
        convert_plainly(options.paths[0], options.paths[1], options.plain)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = compare(Path(folder), options.frames, options.runs, options.workers)
    text = json.dumps(result, indent=2) + "\n"
    if options.output:
        options.output.write_text(text)
    else:
        sys.stdout.write(text)


def compare(folder: Path, num_frames: int, runs: int, workers: int) -> dict[str, Any]:
    tree, small_tree = folder / "tree", folder / "small_tree"
    make_tree(tree, num_frames)
    make_tree(small_tree, num_frames // 4)
    this = [sys.executable, __file__]
    ours = [sys.executable, "-m", "sparsevod_cli", "prepare-vid"]
    programs: dict[str, Callable[[Path, Path], list[str]]] = {
        f"prepare-vid, {workers} workers": lambda tree, out: [
            *ours, str(tree), "-o", str(out), "--workers", str(workers),
        ],
        "prepare-vid, 1 process": lambda tree, out: [
            *ours, str(tree), "-o", str(out), "--workers", "1",
        ],
        "plain loop, Pillow": lambda tree, out: [*this, "--plain", "pillow", str(tree), str(out)],
        "plain loop, lean": lambda tree, out: [*this, "--plain", "lean", str(tree), str(out)],
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    peaks: dict[str, float] = {}
    outputs = {name: folder / f"{number}.json" for number, name in enumerate(programs)}
    for run in range(runs + 1):  # the first fills the caches
        for name, command in programs.items():
            taken, peaks[name] = measure(command(tree, outputs[name]))
            if run:
                seconds[name].append(taken)
    expected = comparable(outputs["plain loop, Pillow"])
    for name, output in outputs.items():
        check_equal(name, comparable(output), expected)
    small = {name: measure(c(small_tree, folder / "s.json"))[1] for name, c in programs.items()}
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    first, *others = programs
    return {
        "frames": num_frames,
        "files": 2 * num_frames,
        "seconds": seconds,
        "median_seconds": medians,
        "times_faster": {
            f"{first} than {other}": round(medians[other] / medians[first], 2) for other in others
        },
        "peak_memory_mib": peaks,
        "peak_memory_mib_at_a_quarter": small,
        "machine": about_this_machine("numpy"),
    }


def make_tree(root: Path, num_frames: int) -> None:
    """Make snippets of 6 to about 600 frames, each with one JPEG that all its frames link to."""
    rng = random.Random(num_frames)
    wnids = list(CLASS_IDS)
    done = snippet = 0
    while done < num_frames:
        length = min(num_frames - done, max(6, int(rng.gauss(290, 120))))
        name = f"ILSVRC2015_train_{snippet:08d}"
        data = root / GROUP / name
        annotations = root / GROUP.replace("Data", "Annotations") / name
        data.mkdir(parents=True)
        annotations.mkdir(parents=True)
        width, height = rng.choice(((1280, 720), (640, 360), (480, 360), (1920, 1080)))
        jpeg = data / "000000.JPEG"
        jpeg.write_bytes(make_jpeg(width, height, rng.randrange(256)))
        tracks = [
            (number, rng.choice(wnids), rng.uniform(0.1, 0.4), rng.uniform(0.1, 0.5))
            for number in range(rng.choice((1, 1, 1, 2, 3)))
        ]
        for frame in range(length):
            if frame:
                os.link(jpeg, data / f"{frame:06d}.JPEG")
            objects = "".join(
                make_object(track, wnid, frame, width, height, size, place)
                for track, wnid, size, place in tracks
                if rng.random() < 0.97
            )
            (annotations / f"{frame:06d}.xml").write_text(
                f"<annotation>\n\t<folder>{name}</folder>\n\t<filename>{frame:06d}</filename>\n"
                "\t<source>\n\t\t<database>ILSVRC_2015</database>\n\t</source>\n\t<size>\n"
                f"\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t</size>\n"
                f"{objects}</annotation>\n"
            )
        done += length
        snippet += 1


def make_object(
    track: int, wnid: str, frame: int, width: int, height: int, size: float, place: float
) -> str:
    left = int(width * (place + 0.1 * math.sin(frame / 20 + track)))
    top = int(height * (place + 0.1 * math.cos(frame / 15)))
    right, bottom = int(left + size * width), int(top + size * height)
    return (
        f"\t<object>\n\t\t<trackid>{track}</trackid>\n\t\t<name>{wnid}</name>\n\t\t<bndbox>\n"
        f"\t\t\t<xmax>{min(right, width)}</xmax>\n\t\t\t<xmin>{left}</xmin>\n"
        f"\t\t\t<ymax>{min(bottom, height)}</ymax>\n\t\t\t<ymin>{top}</ymin>\n\t\t</bndbox>\n"
        f"\t\t<occluded>{frame % 7 == 0:d}</occluded>\n"
        f"\t\t<generated>{frame % 3 == 0:d}</generated>\n\t</object>\n"
    )


def make_jpeg(width: int, height: int, grey: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), (grey, 90, 255 - grey)).save(file, "JPEG", quality=30)
    return file.getvalue()


def convert_plainly(root: Path, output: Path, size_reader: str) -> None:
    """Convert in the obvious way: a single process, everything in memory."""
    read_size, is_lean = SIZE_READERS[size_reader], size_reader == "lean"
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    videos: list[dict[str, Any]] = []
    instances: dict[tuple[int, int], int] = {}
    group = os.path.join(root, GROUP)
    for snippet in sorted(os.listdir(group)):
        data = os.path.join(group, snippet)
        names = sorted(os.listdir(data))
        video_id = len(videos) + 1
        targets = {int((i + 0.5) * len(names) / 15) for i in range(15)}
        first_annotation = len(annotations)
        frames: list[int] = []
        tracks: list[int] = []
        for number, name in enumerate(names):
            jpeg = os.path.join(data, name)
            xml = jpeg.replace("Data", "Annotations", 1).replace(".JPEG", ".xml")
            annotation = ElementTree.parse(xml).getroot()
            size = annotation.find("size")
            width, height = int(size.find("width").text), int(size.find("height").text)
            if read_size(jpeg) != (width, height):
                raise ValueError(f"{jpeg}: size differs from {xml}")
            image_id = len(images) + 1
            images.append(
                {
                    "id": image_id,
                    "video_id": video_id,
                    "frame_id": int(name[:-5]),
                    "file_name": os.path.relpath(jpeg, root) if not is_lean else jpeg,
                    "width": width,
                    "height": height,
                    "is_vid_train_frame": number in targets,
                }
            )
            for item in annotation.findall("object"):
                box = item.find("bndbox")
                left, top = int(box.find("xmin").text), int(box.find("ymin").text)
                right, bottom = int(box.find("xmax").text), int(box.find("ymax").text)
                track = int(item.find("trackid").text)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "video_id": video_id,
                        "instance_id": instances.setdefault((video_id, track), len(instances) + 1),
                        "category_id": CLASS_IDS[item.find("name").text],
                        "bbox": [left, top, right - left, bottom - top],
                        "area": (right - left) * (bottom - top),
                        "iscrowd": 0,
                        "occluded": item.find("occluded").text == "1",
                        "generated": item.find("generated").text == "1",
                    }
                )
                frames.append(int(name[:-5]))
                tracks.append(track)
        of_video = annotations[first_annotation:]
        for annotation_, value in zip(of_video, motion(of_video, frames, tracks), strict=True):
            annotation_["motion_iou"] = value
        videos.append({"id": video_id, "name": f"{os.path.basename(group)}/{snippet}"})
    content = {"images": images, "annotations": annotations, "videos": videos}
    with output.open("w") as file:
        if is_lean:
            file.write(json.dumps(content))
        else:
            json.dump(content, file)


def motion(boxes: list[dict[str, Any]], frames: list[int], tracks: list[int]) -> list[float]:
    """Return the motion IoU of each box, from all pairs of boxes of a track at once."""
    corners = np.array([item["bbox"] for item in boxes], dtype=float).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    frame_numbers, track_ids, values = np.array(frames), np.array(tracks), np.ones(len(boxes))
    for track in set(tracks):
        chosen = np.flatnonzero(track_ids == track)
        left, top, right, bottom = corners[chosen].T
        overlap = (np.minimum(right[:, None], right) - np.maximum(left[:, None], left) + 1).clip(
            0
        ) * (np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top) + 1).clip(0)
        area = (right - left + 1) * (bottom - top + 1)
        iou = overlap / (area[:, None] + area - overlap)
        apart = abs(frame_numbers[chosen][:, None] - frame_numbers[chosen])
        near = (apart > 0) & (apart <= 10)
        count = near.sum(1)
        values[chosen] = np.where(count > 0, (iou * near).sum(1) / np.maximum(count, 1), 1.0)
    return values.tolist()


def size_by_pillow(path: str) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        return image.size


def size_by_header(path: str) -> tuple[int, int]:
    with open(path, "rb") as file:
        head = file.read(1024)
    at = 2
    while not 0xC0 <= head[at + 1] <= 0xC3:
        at += 2 + struct.unpack(">H", head[at + 2 : at + 4])[0]
    height, width = struct.unpack(">HH", head[at + 5 : at + 9])
    return width, height


SIZE_READERS = {"pillow": size_by_pillow, "lean": size_by_header}


def comparable(output: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return ids, frames, boxes and motion, which both programs record."""
    if output.is_dir() or not output.exists():
        raise SystemExit(f"{output}: nothing was written")
    content = json.loads(output.read_text())
    fields = ("id", "image_id", "video_id", "instance_id", "category_id", "bbox", "area")
    flags = ("iscrowd", "occluded", "generated", "motion_iou")
    image_fields = ("id", "video_id", "frame_id", "width", "height", "is_vid_train_frame")
    return {
        "images": [
            (*(image[name] for name in image_fields), Path(image["file_name"]).name)
            for image in content["images"]
        ],
        "annotations": [
            tuple(item[name] for name in (*fields, *flags)) for item in content["annotations"]
        ],
        "videos": [(video["id"], video["name"]) for video in content["videos"]],
    }


def check_equal(name: str, found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> None:
    for section in expected:
        if len(found[section]) != len(expected[section]):
            raise SystemExit(f"{name}: {len(found[section])} {section}, unlike the plain loop")
        for ours, theirs in zip(found[section], expected[section], strict=True):
            *rest, last = ours
            *their_rest, their_last = theirs
            # Motion is summed in different orders.
            close = last == their_last or (
                isinstance(last, float) and abs(last - their_last) < 1e-12
            )
            if rest != their_rest or not close:
                raise SystemExit(f"{name}: {section}: {ours}, but the plain loop has {theirs}")


def measure(command: list[str]) -> tuple[float, float]:
    """Return seconds and peak memory (MiB) of a fresh process with its children."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    peak = 0

    def watch() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, stderr = process.communicate()
    taken = time.perf_counter() - start
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\n{stderr.decode()}")
    return taken, round(peak / 2**20, 1)


def memory_of(pid: int) -> int:
    """Return the bytes of a process and its children, counting shared memory once (PSS)."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (OSError, ProcessLookupError):
        return 0
    (line,) = (line for line in rollup.splitlines() if line.startswith("Pss:"))
    return 1024 * int(line.split()[1]) + sum(memory_of(int(child)) for child in children)


if __name__ == "__main__":
    main()
