"""Readers of files from others, each with a small valid file to mutate."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from mutations import mutated_bytes, mutated_value

from sparsevod_core.config import Config, load_config

WIDTH, HEIGHT = 96, 64
BOX = {"xmin": 12, "ymin": 9, "xmax": 36, "ymax": 25}
COCO = {
    "categories": [{"id": 1, "name": "dog"}, {"id": 5, "name": "cat"}],
    "videos": [{"id": 1, "name": "a"}],
    "images": [
        {
            "id": number,
            "video_id": 1,
            "frame_id": number,
            "file_name": f"a/{number}.png",
            "width": WIDTH,
            "height": HEIGHT,
        }
        for number in (1, 2, 3)
    ],
    "annotations": [
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [12, 9, 24, 16],
            "instance_id": 4,
            "iscrowd": 0,
            "motion_iou": 0.8,
        }
        for number in (1, 2)
    ],
}
VOC = (
    f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size><object><name>dog"
    "</name><difficult>0</difficult><trackid>3</trackid><bndbox>"
    + "".join(f"<{name}>{value}</{name}>" for name, value in BOX.items())
    + "</bndbox></object></annotation>"
)
CVAT = (
    "<annotations><meta><task><id>1</id><size>3</size><start_frame>0</start_frame><labels><label>"
    "<name>dog</name></label></labels></task></meta>"
    '<track id="0" label="dog">'
    '<box frame="0" outside="0" occluded="0" keyframe="1" xtl="12" ytl="9" xbr="36" ybr="25"></box>'
    '<box frame="2" outside="1" occluded="0" keyframe="1" xtl="12" ytl="9" xbr="36" ybr="25"></box>'
    "</track></annotations>"
)
METRICS = "".join(
    json.dumps({"kind": kind, "step": step, "loss": 0.5, "AP": 0.1}) + "\n"
    for step in (1, 2, 3)
    for kind in ("train", "eval")
)
VIDEO_SUFFIXES = ("mp4", "mkv", "avi", "ts", "webm", "gif", "flv", "mov")
IMAGE_SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tiff")


@dataclass(frozen=True)
class Target:
    """A reader and a valid file.

    Attributes:
        name: `READER` or `READER-VARIANT`.
        num_inputs: Number of mutated files in the test suite.
        write: Writes the valid file, and those it needs, into a folder; returns its path.
        read: Reads it as the commands do.
        mutate: Returns the mutated content of the file.
    """

    name: str
    num_inputs: int
    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    mutate: Callable[[bytes, Random], bytes] = mutated_bytes


# --- how files are mutated ----------------------------------------------------------------------


def mutated_json(content: bytes, random: Random) -> bytes:
    """Mutate values of a JSON file, or one line of JSON lines; sometimes bytes."""
    if random.random() < 0.3:
        return mutated_bytes(content, random)
    try:
        return _dumped(mutated_value(json.loads(content), random))
    except ValueError:
        lines = content.splitlines()
        at = random.randrange(len(lines))
        lines[at] = _dumped(mutated_value(json.loads(lines[at]), random))
        return b"\n".join(lines) + b"\n"


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def mutated_checkpoint(content: bytes, random: Random) -> bytes:
    """Mutate entries of a checkpoint, or bytes of its archive."""
    if random.random() < 0.4:
        return mutated_bytes(content, random)
    loaded = torch.load(io.BytesIO(content), weights_only=True)
    entries = mutated_value(loaded, random)
    if random.random() < 0.4:
        weights = entries.get("model") if isinstance(entries, dict) else None
        if isinstance(weights, dict) and weights:
            name = random.choice(list(weights))
            weights[name] = random.choice(_odd_tensors())
    buffer = io.BytesIO()
    torch.save(entries, buffer)
    return buffer.getvalue()


def _odd_tensors() -> list[torch.Tensor]:
    return [
        torch.zeros(0),
        torch.tensor(float("nan")),
        torch.full((4, 4), float("inf")),
        torch.zeros(2, 2, dtype=torch.complex64),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(1).expand(1 << 20),
        torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.quint8),
    ]


# --- valid files ---------------------------------------------------------------------------------


def _image(suffix: str = ".png") -> bytes:
    import cv2

    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[BOX["ymin"] : BOX["ymax"], BOX["xmin"] : BOX["xmax"]] = 255
    return bytes(cv2.imencode(suffix, image)[1])


def _put(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def _labeled(name: str, content: str, folder: Path, images: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Write images `a/1.png` and so on, and a label file."""
    for number in images:
        _put(folder, f"set/a/{number}.png", _image())
    return _put(folder, f"set/{name}", content)


def _yolo(folder: Path) -> Path:
    _put(folder, "set/classes.txt", "dog\ncat\n")
    return _labeled("a/1.txt", "0 0.25 0.265625 0.25 0.25\n1 0.5 0.5 0.1 0.1\n", folder)


def _mot(folder: Path) -> Path:
    for number in (1, 2, 3):
        _put(folder, f"set/a/img1/{number:06d}.png", _image())
    lines = [f"{number},5,13,10,24,16,{conf},1,0.5\n" for number in (1, 2) for conf in (1, 0)]
    return _put(folder, "set/a/gt/gt.txt", "".join(lines))


def _data_yaml(folder: Path) -> Path:
    for split in ("train", "val"):
        _put(folder, f"set/{split}/images/a_1.png", _image())
        _put(folder, f"set/{split}/labels/a_1.txt", "0 0.25 0.265625 0.25 0.25\n")
    text = "path: .\ntrain: train/images\nval: val/images\nnc: 2\nnames:\n  0: dog\n  1: cat\n"
    return _put(folder, "set/data.yaml", text)


def _classes(folder: Path) -> Path:
    _labeled("a/1.txt", "0 0.25 0.265625 0.25 0.25\n", folder)
    return _put(folder, "set/classes.txt", "0: dog\n1: cat\n\n7: old cat\n")


def _imagenet(folder: Path) -> tuple[Path, Path]:
    """Write a tree with one video; return its first annotation and the degradations."""
    xml = VOC.replace("dog", "n02084071")
    video = "VID/val/ILSVRC2015_val_00000000"
    for number in range(3):
        _put(folder, f"set/Data/{video}/{number:06d}.JPEG", _image(".jpg"))
        _put(folder, f"set/Annotations/{video}/{number:06d}.xml", xml)
    frames = {"frames": {f"Data/{video}/000000.JPEG": {"noise": 0.8, "blur": 1}}}
    degradations = _put(folder, "set/degradations.json", json.dumps(frames))
    return folder / f"set/Annotations/{video}/000000.xml", degradations


def _video(suffix: str, folder: Path) -> Path:
    import av

    codec = {"gif": "gif", "webm": "libvpx", "avi": "mpeg4"}.get(suffix, "libx264")
    path = folder / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "rgb8" if suffix == "gif" else "yuv420p"
        for number in range(6):
            image = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def mutated_header(content: bytes, random: Random) -> bytes:
    """Mutate the first or last kilobyte, where containers describe themselves."""
    size = min(1024, len(content))
    if random.random() < 0.5:
        return mutated_bytes(content[:size], random) + content[size:]
    return content[:-size] + mutated_bytes(content[-size:], random)


def _small_config() -> Config:
    sizes = ["channels=8", "num_proposals=2", "ffn_dim=8", "dynamic_dim=2", "num_stages=1"]
    heads = ["num_heads=2", "spfa_heads=2", "num_classes=2"]
    return load_config("tiny", overrides=[f"model.{setting}" for setting in sizes + heads])


def _checkpoint(folder: Path) -> Path:
    from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
    from sparsevod_core.model.build import build_detector
    from sparsevod_core.structures import Category

    config = _small_config()
    model = build_detector(config.model).state_dict()
    file = folder / "last.pth"
    save_checkpoint(file, Checkpoint(config, (Category(1, "dog"), Category(5, "cat")), model))
    return file


def _old_checkpoint(folder: Path) -> Path:
    """Write a checkpoint in the format of torch before 1.6."""
    file = _checkpoint(folder)
    contents = torch.load(file, weights_only=True)
    contents["training"] = {"rate": np.float64(0.1)}
    torch.save(contents, file, _use_new_zipfile_serialization=False)
    return file


def _journal(folder: Path) -> Path:
    from sparsevod_core.inference.journal import Journal
    from sparsevod_core.structures import Detections

    found = Detections(
        np.array([[1, 2, 3, 4], [5, 6, 7, 8.5]], np.float32),
        np.array([0.5, 0.25], np.float32),
        np.array([0, 1], np.int64),
    )
    file = folder / "out.mp4.journal.jsonl"
    with Journal(file, {"model": "1"}, resume=False) as journal:
        for _ in range(3):
            journal.write(found)
    return file


def _predictions(folder: Path) -> Path:
    _put(folder, "truth.json", json.dumps(COCO))
    entries = [
        {"image_id": number, "category_id": 1, "bbox": [12.5, 9, 24, 16], "score": 0.5}
        for number in (1, 1, 2)
    ]
    return _put(folder, "found.json", json.dumps(entries))


VIDEOS = [[1, 2], [3]]


def _evaluation(folder: Path) -> Path:
    """Write the journal of an evaluation that was interrupted."""
    from sparsevod_core.evaluation.predictions.writer import FramePredictions, PredictionsWriter

    writer = PredictionsWriter(folder / "found.json", VIDEOS, {"model": "1"})
    writer.begin()
    with writer:
        for image_id in (1, 2):
            boxes, scores = np.array([[1.0, 2, 3, 4]]), np.array([0.5])
            writer.write(FramePredictions(image_id, boxes, scores, [5]))
    return folder / "found.json.partial"


# --- the readers ---------------------------------------------------------------------------------


def _prepare(label_format: str, folder: Path) -> None:
    from sparsevod_core.prepare.labeled import prepare_labeled

    output = folder / "out.json"
    prepare_labeled(folder / "set", output, label_format)
    if output.exists():
        _load_annotations(output)


def _prepare_split(folder: Path) -> None:
    from sparsevod_core.prepare.labeled import prepare_labeled

    prepare_labeled(folder / "set", folder / "out", "yolo")


def _prepare_imagenet(folder: Path) -> None:
    from sparsevod_core.prepare.imagenet_vid.convert import prepare_imagenet_vid

    prepare_imagenet_vid(folder / "set", folder / "out", splits=["val"])


def _load_annotations(path: Path) -> None:
    from sparsevod_core.data.records import VideoSet
    from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth

    videos = VideoSet.load(path)
    for video in range(videos.num_videos):
        for frame in videos.video_frames(video):
            videos.boxes(frame)
    GroundTruth.load(path)


def _read_video(suffix: str, folder: Path) -> None:
    from sparsevod_core.video.reader import VideoReader

    with VideoReader(folder / f"clip.{suffix}") as video:
        for frame in islice(video, 20):
            assert frame.image.shape == (video.height, video.width, 3)


def _read_images(folder: Path) -> None:
    from sparsevod_core.prepare.reading.image_size import read_image_size
    from sparsevod_core.video.image_folder import ImageFolder

    (file,) = (folder / "images").iterdir()
    read_image_size(file)
    with ImageFolder(folder / "images") as images:
        for frame in images:
            assert frame.image.dtype == np.uint8


def _read_journal(folder: Path) -> None:
    from sparsevod_core.inference.journal import Journal

    with Journal(folder / "out.mp4.journal.jsonl", {"model": "1"}, resume=True) as journal:
        list(journal)


def _read_predictions(folder: Path) -> None:
    from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
    from sparsevod_core.evaluation.predictions.from_file import read_predictions
    from sparsevod_core.evaluation.score import score

    truth = GroundTruth.load(folder / "truth.json")
    score(truth, read_predictions(folder / "found.json", truth))


def _resume_evaluation(folder: Path) -> None:
    from sparsevod_core.evaluation.predictions.writer import PredictionsWriter

    PredictionsWriter(folder / "found.json", VIDEOS, {"model": "1"}).begin(resume=True)


def _read_metrics(folder: Path) -> None:
    from sparsevod_core.training.run_folder import RunFolder

    RunFolder(folder).start(_small_config(), step=2, evaluated_step=2)


def _load_checkpoint(folder: Path) -> None:
    from sparsevod_core.checkpoint import load_detector

    load_detector(folder / "last.pth")


def _find_sources(folder: Path) -> None:
    from sparsevod_core.video.sources import find_sources

    find_sources([f"@{folder / 'videos.txt'}"])


def _list(folder: Path) -> Path:
    _put(folder, "a.mp4", b"")
    return _put(folder, "videos.txt", "# clips\na.mp4\nhttp://localhost/b.mp4\n\n")


def _image_file(suffix: str, folder: Path) -> Path:
    return _put(folder, f"images/1{suffix}", _image(suffix))


TARGETS = [
    Target(
        "annotations",
        400,
        lambda folder: _put(folder, "all.json", json.dumps(COCO)),
        lambda folder: _load_annotations(folder / "all.json"),
        mutated_json,
    ),
    Target(
        "coco",
        200,
        partial(_labeled, "mine.json", json.dumps(COCO)),
        partial(_prepare, "coco"),
        mutated_json,
    ),
    Target("cvat", 200, partial(_labeled, "a.xml", CVAT), partial(_prepare, "cvat")),
    Target("voc", 200, partial(_labeled, "a/1.xml", VOC), partial(_prepare, "voc")),
    Target("yolo", 200, _yolo, partial(_prepare, "yolo")),
    Target("mot", 200, _mot, partial(_prepare, "mot")),
    Target("classes", 100, _classes, partial(_prepare, "yolo")),
    Target("data.yaml", 200, _data_yaml, _prepare_split),
    Target("imagenet", 100, lambda folder: _imagenet(folder)[0], _prepare_imagenet),
    Target(
        "degradations", 150, lambda folder: _imagenet(folder)[1], _prepare_imagenet, mutated_json
    ),
    Target(
        "config",
        200,
        lambda folder: _put(folder, "config.yaml", _small_config().to_yaml()),
        lambda folder: load_config("tiny", folder / "config.yaml"),
    ),
    Target(
        "metrics",
        200,
        lambda folder: _put(folder, "metrics.jsonl", METRICS),
        _read_metrics,
        mutated_json,
    ),
    Target("journal", 400, _journal, _read_journal, mutated_json),
    Target("predictions", 400, _predictions, _read_predictions, mutated_json),
    Target("evaluation", 200, _evaluation, _resume_evaluation, mutated_json),
    Target("checkpoint", 120, _checkpoint, _load_checkpoint, mutated_checkpoint),
    Target("checkpoint-old", 60, _old_checkpoint, _load_checkpoint, mutated_header),
    Target("list", 100, _list, _find_sources),
    *(
        Target(
            f"video-{suffix}",
            40,
            partial(_video, suffix),
            partial(_read_video, suffix),
            mutated_header,
        )
        for suffix in VIDEO_SUFFIXES
    ),
    *(
        Target(f"image-{suffix[1:]}", 60, partial(_image_file, suffix), _read_images)
        for suffix in IMAGE_SUFFIXES
    ),
]
