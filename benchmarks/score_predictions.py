"""Time and peak memory of scoring a results file, compared with pycocotools; checks equal results.

The ground truth is ImageNet VID's validation set if its boxes are given (`--boxes`), otherwise
random tracks. Detections are simulated, 100 per frame: boxes near the true ones and false alarms,
with the digits of float32 boxes in JSON. Every program runs in a new process. Time is measured from
opening the two files to the results; memory is the sum of the peaks of all its processes.
pycocotools scores only boxes of all sizes (its three other ranges would take more time); sparsevod
also scores by speed.

    python benchmarks/score_predictions.py --frames 10000 20000 40000 --alone 176126 --cores 2 \\
        --boxes vid_val_gt_all.csv.gz --out scores.json

hotcoco (`--programs sparsevod pycocotools hotcoco`; pip install hotcoco), pycocotools rewritten in
Rust, gives equal results. Version 1.3 scored 17.6 million detections in 28 s of CPU time with
4.7 GiB. sparsevod takes 44 s of wall time on two cores, most of it for reading, and 1.9 GiB.
hotcoco does not expose the detections that it reads. FGFA's rules, the confusion of classes and the
worst frames need them in columns, so the file would have to be read again. It also neither accepts
ids that are text nor reports which entry is invalid.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import gzip
import io
import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hardware import about_this_machine

DETECTIONS_PER_FRAME = 100
CHUNK_FRAMES = 500
NUM_CLASSES = 30
WIDTH, HEIGHT = 1280, 720
POLL_S = 0.02

Track = dict[str, np.ndarray]


def real_boxes(path: Path, num_frames: int) -> tuple[Track, list[tuple[str, int]]]:
    """Return boxes of the first frames of ImageNet VID val, and each frame's video and index."""
    with gzip.open(path, "rt") as file:
        rows = [row for row in csv.DictReader(file) if int(row["frame_id"]) <= num_frames]
    frames = np.array([int(row["frame_id"]) for row in rows]) - 1
    corners = np.array([[float(row[k]) for k in ("xmin", "ymin", "xmax", "ymax")] for row in rows])
    place = {int(row["frame_id"]) - 1: (row["video"], int(row["frame"])) for row in rows}
    places = []
    for frame in range(num_frames):  # a frame without boxes follows the previous one
        video, index = places[-1] if places else ("first", -1)
        places.append(place.get(frame, (video, index + 1)))
    return {
        "frame": frames,
        "category": np.array([int(row["class_id"]) for row in rows]),
        "box": np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        "motion_iou": np.array([float(row["motion_iou"]) for row in rows]),
    }, places


def random_boxes(num_frames: int, seed: int = 0) -> tuple[Track, list[tuple[str, int]]]:
    """Return one to three tracks per video of 300 frames; each track skips one frame in fifty."""
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = []
    for start in range(0, num_frames, 300):
        frames = np.arange(start, min(start + 300, num_frames))
        for _ in range(rng.integers(1, 4)):
            shown = frames[rng.random(len(frames)) > 0.02]
            walk = rng.normal(0, 4, (len(shown), 2)).cumsum(axis=0) + rng.uniform(0, 600, 2)
            size = np.broadcast_to(rng.uniform(20, 400, 2), walk.shape)
            category = np.full(len(shown), rng.integers(1, NUM_CLASSES + 1))
            motion = np.full(len(shown), rng.uniform(0.4, 1))
            parts.append([shown, category, np.concatenate([walk, size], axis=1), motion])
    names = ("frame", "category", "box", "motion_iou")
    columns = {n: np.concatenate(c) for n, c in zip(names, zip(*parts, strict=True), strict=True)}
    order = np.argsort(columns["frame"], kind="stable")
    places = [(f"video_{frame // 300:05}", frame % 300) for frame in range(num_frames)]
    return {name: column[order] for name, column in columns.items()}, places


def write_truth(path: Path, boxes: Track, places: list[tuple[str, int]]) -> None:
    videos = {name: id_ for id_, name in enumerate(dict.fromkeys(v for v, _ in places), start=1)}
    columns = (boxes[name].tolist() for name in ("frame", "category", "box", "motion_iou"))
    annotations = [
        {
            "id": id_,
            "image_id": frame + 1,
            "video_id": videos[places[frame][0]],
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "instance_id": id_,
            "motion_iou": motion,
        }
        for id_, (frame, category, box, motion) in enumerate(zip(*columns, strict=True), start=1)
    ]
    images = [
        {
            "id": frame,
            "video_id": videos[video],
            "frame_id": index,
            "file_name": f"{video}/{index:06}.JPEG",
            "width": WIDTH,
            "height": HEIGHT,
        }
        for frame, (video, index) in enumerate(places, start=1)
    ]
    content = {
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, NUM_CLASSES + 1)],
        "videos": [{"id": id_, "name": name} for name, id_ in videos.items()],
        "images": images,
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))


def write_detections(path: Path, boxes: Track, num_frames: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        separator = "[\n"
        for start in range(0, num_frames, CHUNK_FRAMES):
            end = min(start + CHUNK_FRAMES, num_frames)
            first, last = np.searchsorted(boxes["frame"], [start, end])
            here = {name: column[first:last] for name, column in boxes.items()}
            columns = _simulate(rng, here, start, end)
            lines = [
                f'{{"image_id": {image}, "category_id": {category}, '
                f'"bbox": [{x!r}, {y!r}, {w!r}, {h!r}], "score": {score!r}}}'
                for image, category, (x, y, w, h), score in zip(
                    *(column.tolist() for column in columns), strict=True
                )
            ]
            file.write(separator + ",\n".join(lines))
            separator = ",\n"
        file.write("\n]\n")


def _simulate(
    rng: np.random.Generator, boxes: Track, start: int, end: int
) -> tuple[np.ndarray, ...]:
    """Return the image ids, categories, boxes and scores of the frames `start` to `end`."""
    count = (end - start) * DETECTIONS_PER_FRAME
    frames = np.repeat(np.arange(start, end), DETECTIONS_PER_FRAME)
    size = rng.lognormal(4.5, 0.8, (count, 2)).clip(4, 900)
    found = np.concatenate([rng.uniform(0, 1, (count, 2)) * (WIDTH, HEIGHT) - size / 2, size], 1)
    categories = rng.integers(1, NUM_CLASSES + 1, count)
    scores = rng.beta(0.4, 12, count)
    if len(boxes["frame"]):  # a third of a frame's detections are near one of its boxes
        starts = np.searchsorted(boxes["frame"], np.arange(start, end + 1))
        counts = np.repeat(np.diff(starts), DETECTIONS_PER_FRAME)
        near = np.flatnonzero((counts > 0) & (rng.random(count) < 1 / 3))
        chosen = np.repeat(starts[:-1], DETECTIONS_PER_FRAME)[near]
        chosen = chosen + (rng.random(len(near)) * counts[near]).astype(np.int64)
        noise = rng.exponential(0.12, len(near))
        true = boxes["box"][chosen]
        scale = np.maximum(np.tile(true[:, 2:], 2), 1)
        found[near] = true + rng.normal(0, 1, true.shape) * noise[:, None] * scale
        right = rng.random(len(near)) < 0.7
        categories[near[right]] = boxes["category"][chosen[right]]
        scores[near] = np.exp(-3 * noise) * rng.beta(2, 2, len(near))
    found[:, 2:] = found[:, 2:].clip(1)
    order = np.lexsort((-scores, frames))
    columns = (frames + 1, categories, found.astype(np.float32), scores.astype(np.float32))
    return tuple(column[order] for column in columns)


def run_sparsevod(truth: Path, found: Path) -> dict[str, Any]:
    from sparsevod_core.evaluation.score import evaluate_predictions

    return evaluate_predictions(truth, found).to_dict()


def run_coco(package: str, truth: Path, found: Path) -> dict[str, Any]:
    """Score with pycocotools or a package with the same interface."""
    if package == "hotcoco":
        from hotcoco import COCO, COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(truth))
        scoring = COCOeval(annotations, annotations.loadRes(str(found)), "bbox")
        scoring.params.areaRng = scoring.params.areaRng[:1]
        scoring.params.areaRngLbl = scoring.params.areaRngLbl[:1]
        scoring.evaluate()
        scoring.accumulate()
    precision = np.asarray(scoring.eval["precision"])[:, :, :, 0, -1]
    recall = np.asarray(scoring.eval["recall"])[:, :, 0, :]

    def mean(values: np.ndarray) -> float | None:
        return float(values[values > -1].mean()) if (values > -1).any() else None

    names = [f"class {id_}" for id_ in scoring.params.catIds]
    numbers = {"AP": slice(None), "AP50": 0, "AP75": 5}
    return {
        **{name: mean(precision[at]) for name, at in numbers.items()},
        **{name: mean(recall[..., m]) for m, name in enumerate(("AR1", "AR10", "AR100"))},
        "AP_by_iou": {f"{0.5 + t / 20:.2f}": mean(precision[t]) for t in range(10)},
        "per_class": {
            name: {key: mean(precision[at][..., k]) for key, at in numbers.items()}
            for k, name in enumerate(names)
        },
    }


PROGRAMS = {
    "sparsevod": run_sparsevod,
    "pycocotools": partial(run_coco, "pycocotools"),
    "hotcoco": partial(run_coco, "hotcoco"),
}


def measure(program: str, truth: Path, found: Path) -> dict[str, Any]:
    """Run a program in a new process."""
    for path in (truth, found):  # so that the files are in the system's cache for every program
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass
    command = [sys.executable, __file__, "--run", program, str(truth), str(found)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = _peak_bytes(process)
        assert process.stdout is not None
        output = process.stdout.read().splitlines()
    if process.returncode:
        raise SystemExit(f"{program} failed")
    return {"program": program, "peak_gib": round(peak / 2**30, 3), **json.loads(output[-1])}


def _peak_bytes(process: subprocess.Popen[str]) -> int:
    """Return the sum of the peaks of a process and its descendants."""
    peaks: dict[int, int] = {}
    while process.poll() is None and not select.select([process.stdout], [], [], POLL_S)[0]:
        for pid in _family(process.pid):
            with contextlib.suppress(OSError, StopIteration):
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                line = next(line for line in status if line.startswith("VmHWM"))
                peaks[pid] = int(line.split()[1]) * 1024
    return sum(peaks.values())


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def largest_difference(ours: Any, theirs: Any) -> float:
    """Return the largest difference of the values in `theirs` from `ours`."""
    if isinstance(theirs, dict):
        return max(largest_difference(ours[key], theirs[key]) for key in theirs)
    if ours is None or theirs is None:
        return 0.0 if ours is theirs else math.inf
    return abs(ours - theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="*", default=[500, 1000, 2000])
    parser.add_argument(
        "--alone", type=int, nargs="*", default=[], help="numbers of frames for sparsevod only"
    )
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS)[:2])
    parser.add_argument("--cores", type=int, help="number of CPU cores that all programs may use")
    parser.add_argument("--boxes", type=Path, help="vid_val_gt_all.csv.gz; default: random tracks")
    parser.add_argument("--folder", type=Path, help="folder to write the files to and keep them in")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the measurements")
    options = parser.parse_args()
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    runs: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        sizes = [(size, options.programs) for size in options.frames]
        sizes += [(size, ["sparsevod"]) for size in options.alone]
        for num_frames, programs in sizes:
            truth, found = make_files(folder, num_frames, options.boxes)
            runs += compare(programs, num_frames, truth, found)
            if options.folder is None:
                truth.unlink()
                found.unlink()
    content = {
        "machine": about_this_machine("numpy", "orjson", "pycocotools"),
        "detections_per_frame": DETECTIONS_PER_FRAME,
        "runs": runs,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")


def compare(programs: list[str], num_frames: int, truth: Path, found: Path) -> list[dict[str, Any]]:
    """Run every program on the same files and compare the others with the first."""
    size = {"frames": num_frames, "detections_mb": round(found.stat().st_size / 1e6, 1)}
    runs: list[dict[str, Any]] = []
    for program in programs:
        run = size | measure(program, truth, found)
        if runs:
            run["times_slower"] = round(run["seconds"] / runs[0]["seconds"], 2)
            run["largest_difference"] = largest_difference(runs[0]["numbers"], run["numbers"])
        runs.append(run)
        shown = {key: value for key, value in run.items() if key != "numbers"}
        say(shown)
    return runs


def make_files(folder: Path, num_frames: int, boxes_file: Path | None) -> tuple[Path, Path]:
    truth, found = folder / f"truth_{num_frames}.json", folder / f"found_{num_frames}.json"
    if not found.exists():
        made = real_boxes(boxes_file, num_frames) if boxes_file else random_boxes(num_frames)
        boxes, places = made
        write_truth(truth, boxes, places)
        partial = found.with_name(found.name + ".partial")
        write_detections(partial, boxes, num_frames)
        partial.replace(found)
    return truth, found


def run(program: str, truth: Path, found: Path) -> None:
    start = time.perf_counter()
    numbers = PROGRAMS[program](truth, found)
    seconds = round(time.perf_counter() - start, 3)
    say({"seconds": seconds, "numbers": numbers})


def say(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    else:
        main()
