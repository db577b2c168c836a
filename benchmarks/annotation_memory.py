"""Memory of a training rank and its loader processes, with many annotations and with few.

Writes a COCO-VID JSON with the given number of frames, and names as long as ImageNet VID's. A fresh
process then does what a rank does: it reads the file, and loads clips with forked processes. The
sum of their proportional set sizes (PSS) is the memory of the rank: shared pages count once.
The same with a small JSON shows the share of torch, OpenCV and batches.

    python benchmarks/annotation_memory.py --frames 1122397 --workers 4 --out memory.json

All file names are read from one JPEG file. Training itself and the GPU context are not measured.
Run it on an idle machine: other processes with torch loaded share its files, which then look small.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from hardware import about_this_machine

FRAMES_PER_VIDEO = 290  # ImageNet VID train: 1,122,397 frames in 3,862 videos
BOXES_PER_100_FRAMES = 155
TARGETS_PER_VIDEO = 15
FEW_FRAMES = 2 * FRAMES_PER_VIDEO
FOLDER = "Data/VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_{:08}"
WIDTH, HEIGHT = 1280, 720
NUM_BATCHES = 20
FIELDS = ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")


def write_annotations(path: Path, num_frames: int) -> None:
    """Write a COCO-VID file, entry by entry."""
    num_videos = -(-num_frames // FRAMES_PER_VIDEO)
    num_boxes = num_frames * BOXES_PER_100_FRAMES // 100
    step = FRAMES_PER_VIDEO // TARGETS_PER_VIDEO
    with path.open("w", encoding="utf-8") as file:
        classes = [{"id": i, "name": f"class {i}"} for i in range(1, 31)]
        file.write(f'{{"categories": {json.dumps(classes)}')
        _write_list(
            file, "videos", ({"id": i, "name": FOLDER.format(i)} for i in range(num_videos))
        )
        _write_list(
            file,
            "images",
            (
                {
                    "id": i,
                    "video_id": i // FRAMES_PER_VIDEO,
                    "frame_id": i % FRAMES_PER_VIDEO,
                    "file_name": f"{FOLDER.format(i // FRAMES_PER_VIDEO)}/"
                    f"{i % FRAMES_PER_VIDEO:06}.JPEG",
                    "width": WIDTH,
                    "height": HEIGHT,
                    "is_vid_train_frame": i % FRAMES_PER_VIDEO % step == 0,
                }
                for i in range(num_frames)
            ),
        )
        _write_list(
            file,
            "annotations",
            (
                {
                    "id": i,
                    "image_id": i * 100 // BOXES_PER_100_FRAMES,
                    "category_id": 1 + i % 30,
                    "instance_id": i // 100,
                    "bbox": [i % 600, i % 300, 200, 150],
                    "iscrowd": 0,
                }
                for i in range(num_boxes)
            ),
        )
        file.write("}\n")


def _write_list(file: TextIO, name: str, entries: Any) -> None:
    file.write(f',\n"{name}": [')
    for position, entry in enumerate(entries):
        file.write((",\n" if position else "\n") + json.dumps(entry))
    file.write("]")


def measure(annotations: Path, picture: Path, workers: int) -> dict[str, Any]:
    """Measure this process, which must be fresh, and those that it starts."""
    import numpy as np

    import sparsevod_core.training.trainer  # noqa: F401  as a rank imports
    from sparsevod_core.config import DataConfig
    from sparsevod_core.data import frames
    from sparsevod_core.data.dataset import ClipDataset
    from sparsevod_core.data.loader import TrainingLoader
    from sparsevod_core.data.records import VideoSet

    read_image = frames._read_image
    frames._read_image = lambda _path, root: read_image(picture, root)
    warnings.filterwarnings("ignore", "This DataLoader will create")  # more than there are cores
    imported = memory_mib(os.getpid())
    start = time.perf_counter()
    videos = VideoSet.load(annotations)
    seconds = time.perf_counter() - start
    loaded = memory_mib(os.getpid())
    dataset = ClipDataset(videos, DataConfig(), seed=0)
    batches = iter(
        TrainingLoader(
            dataset, clips_per_gpu=1, rank=0, world_size=1, epoch=0, workers=workers, seed=0
        )
    )
    for _ in islice(batches, NUM_BATCHES):
        pass
    processes = {"rank": memory_mib(os.getpid())}
    for number, worker in enumerate(multiprocessing.active_children()):
        processes[f"worker {number}"] = memory_mib(worker.pid)
    names = videos.tables.file_names
    columns = [
        getattr(table, name) for table in (videos.tables, names) for name in type(table).__slots__
    ]
    return {
        "frames": videos.num_frames,
        "clips": len(dataset),
        "tables_mib": sum(c.nbytes for c in columns if isinstance(c, np.ndarray)) / 2**20
        + len(names.text) / 2**20,
        "read_seconds": seconds,
        "peak_rss_of_rank_mib": _peak_mib(),
        "after_imports": imported,
        "after_reading": loaded,
        "processes": processes,
        "total": {field: sum(one[field] for one in processes.values()) for field in FIELDS},
    }


def memory_mib(pid: int | None) -> dict[str, float]:
    """Return the fields of `smaps_rollup` that count shared pages once."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _ = line.replace(":", "").split()
        fields[name] = int(value) / 2**10
    return {name: fields[name] for name in FIELDS}


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 2**10


def _write_picture(path: Path) -> None:
    import cv2
    import numpy as np

    noise = np.random.default_rng(0).integers(0, 256, (9, 16, 3), np.uint8)
    path.write_bytes(cv2.imencode(".jpg", cv2.resize(noise, (WIDTH, HEIGHT)))[1].tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--out", type=Path, help="JSON file to write (default: stdout)")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(json.dumps(measure(*arguments.measure, arguments.workers)))
        return
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.jpg"
        _write_picture(picture)
        for name, frames in (("few", FEW_FRAMES), ("many", arguments.frames)):
            annotations = Path(folder) / f"{name}.json"
            write_annotations(annotations, frames)
            command = [sys.executable, __file__, "--workers", str(arguments.workers)]
            done = subprocess.run(
                [*command, "--measure", annotations, picture], stdout=subprocess.PIPE, check=True
            )
            result[name] = json.loads(done.stdout)
            annotations.unlink()

    few, many = result["few"]["total"]["Pss"], result["many"]["total"]["Pss"]
    result["annotations_mib"] = many - few
    result["machine"] = about_this_machine("torch", "torchvision", "numpy", "orjson")
    text = json.dumps(result, indent=2)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    sys.stderr.write(
        f"{result['many']['frames']:,} frames: rank and {arguments.workers} workers take "
        f"{many:.0f} MiB, of which {many - few:.0f} MiB for the annotations\n"
    )
    if not arguments.out:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
