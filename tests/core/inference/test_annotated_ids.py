"""COCO results with the ids of an annotated set equal those of `eval`, for videos and folders."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO

from sparsevod_core.checkpoint import Checkpoint, save_checkpoint
from sparsevod_core.config import load_config
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.evaluation.evaluate import evaluate_checkpoint
from sparsevod_core.evaluation.score import evaluate_predictions
from sparsevod_core.inference.detect_videos import detect_videos
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

Entries = list[dict[str, Any]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes in another order, with other ids, and one that the sets lack."""
    torch.manual_seed(1)
    small = {"model.num_classes": 3, "model.num_stages": 1, "model.num_proposals": 5}
    sizes = {"data.short_side": 32, "data.long_side": 48}
    config = load_config("tiny").replace(small | sizes)
    path = tmp_path_factory.mktemp("model") / "model.pth"
    categories = (Category(1, "ship"), Category(2, "bar"), Category(3, "square"))
    save_checkpoint(path, Checkpoint(config, categories, build_detector(config.model).state_dict()))
    return path


def entries(path: Path) -> Entries:
    files = sorted(path.glob("*.coco.json")) if path.is_dir() else [path]
    return [entry for file in files for entry in json.loads(file.read_text())]


def by_frame(found: Entries) -> dict[int, list[Any]]:
    frames: dict[int, list[Any]] = {}
    for entry in found:
        frames.setdefault(entry["image_id"], []).append(entry)
    return frames


@pytest.mark.parametrize("kind", ["video_set", "image_set"])
def test_the_results_of_all_videos_are_those_of_eval(
    kind: str, checkpoint: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    annotations = request.getfixturevalue(kind).annotations
    content = json.loads(annotations.read_text())
    if kind == "image_set":  # no still image, and two frames that are not annotated
        images = [one for one in content["images"] if "video_id" in one][2:]
        kept = {one["id"] for one in images}
        content |= {"images": images, "info": {"root": str(annotations.parent)}}
        boxes = [box for box in content["annotations"] if box["image_id"] in kept]
        annotations = tmp_path / "part.json"
        annotations.write_text(json.dumps(content | {"annotations": boxes}))
    root = Path(content.get("info", {}).get("root", annotations.parent))
    places = [video.get("file_name", video["name"]) for video in content["videos"]]
    # A link leads to the same file.
    (tmp_path / "link").symlink_to(root)
    sources = [str(tmp_path / "link" / place) for place in places]
    found, saved = tmp_path / "found", tmp_path / "saved.json"
    options: dict[str, Any] = {"overrides": ["inference.supports=0"], "device": "cpu"}
    results = {"coco": found}
    detect_videos(
        sources,
        results=results,
        has_video=False,
        annotations=annotations,
        checkpoint=checkpoint,
        **options,
    )
    options["overrides"].append(f"data.val_annotations={annotations}")
    evaluated = evaluate_checkpoint(checkpoint, save_predictions=saved, **options)
    ours, theirs = by_frame(entries(found)), by_frame(entries(saved))
    assert len(theirs) > 20 and ours.keys() == theirs.keys()
    for image_id, expected in theirs.items():
        for one, other in zip(ours[image_id], expected, strict=True):
            assert one.keys() == {"image_id", "category_id", "bbox", "score"}
            assert one["category_id"] == other["category_id"]
            assert one["bbox"] == pytest.approx(other["bbox"], abs=2e-3)
    scored = evaluate_predictions(annotations, found)
    assert scored.boxes.num_detections == evaluated.boxes.num_detections
    assert pytest.approx(evaluated.boxes.AR100, abs=1e-6) == scored.boxes.AR100
    with contextlib.redirect_stdout(io.StringIO()):
        COCO(str(annotations)).loadRes(entries(found))  # all ids are known


def detect(source: Path, found: Path, checkpoint: Path, **options: Any) -> None:
    detect_videos(
        [str(source)],
        results={"coco": found},
        has_video=False,
        checkpoint=checkpoint,
        device="cpu",
        **options,
    )


def test_results_without_annotations_are_never_scored(
    video_set: Any, checkpoint: Path, tmp_path: Path
) -> None:
    found = tmp_path / "found.json"
    video = sorted(video_set.annotations.parent.glob("*.mp4"))[0]
    detect(video, found, checkpoint)
    plain = entries(found)
    assert {entry["video"] for entry in plain} == {video.name}
    # Every number is the id of some image.
    content = json.loads(video_set.annotations.read_text())
    ids = {image["id"]: number for number, image in enumerate(content["images"])}
    for image in content["images"]:
        image["id"] = ids[image["id"]]
    for box in content["annotations"]:
        box["image_id"] = ids[box["image_id"]]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    message = f"entry 0: image_id 0 is the frame's number in {video.name}, not the id of an image"
    with pytest.raises(DataError, match=message) as error:
        evaluate_predictions(tmp_path / "truth.json", found)
    assert "image ids of the two files differ" in str(error.value.hint)
    assert "sparsevod detect VIDEOS --no-video --annotations GT.json" in str(error.value.hint)


def test_a_set_without_the_video_or_of_another_size(
    video_set: Any, checkpoint: Path, tmp_path: Path
) -> None:
    found, root = tmp_path / "found.json", video_set.annotations.parent
    video = sorted(root.glob("*.mp4"))[0]
    moved = tmp_path / video.name
    moved.write_bytes(video.read_bytes())
    with pytest.raises(DataError, match="has no frame of it; the first one there is") as error:
        detect(moved, found, checkpoint, annotations=video_set.annotations)
    assert "--root" in str(error.value.hint)
    detect(moved, found, checkpoint, annotations=video_set.annotations, root=tmp_path)
    assert entries(found)
    content = json.loads(video_set.annotations.read_text())
    for image in content["images"]:
        image["height"], image["width"] = image["width"], image["height"]
    content["info"] = {"root": str(root)}
    (tmp_path / "turned.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="boxes would not be at the same place"):
        detect(video, tmp_path / "turned", checkpoint, annotations=tmp_path / "turned.json")
    with pytest.raises(ConfigError, match="gives COCO results their ids, but there are none"):
        detect_videos(
            [str(video)],
            results={"json": found},
            has_video=False,
            annotations=video_set.annotations,
        )


def test_results_with_other_ids_are_not_taken_for_done(
    video_set: Any, checkpoint: Path, tmp_path: Path
) -> None:
    video, found = sorted(video_set.annotations.parent.glob("*.mp4"))[0], tmp_path / "found"
    detect(video, found, checkpoint, shard="1/1")  # a folder
    with pytest.raises(ConfigError, match="was made with other --annotations, or without"):
        detect(video, found, checkpoint, shard="1/1", annotations=video_set.annotations)
