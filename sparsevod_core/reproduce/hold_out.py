"""Training videos set aside to select checkpoints (`sparsevod reproduce --choose-by`)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.files.check import check_outputs
from sparsevod_core.files.kinds import starting
from sparsevod_core.reporting import Reporter, counted
from sparsevod_core.reproduce.json_files import read_json, write_json

OWN_PART = starting("a part of a split", rb'\{\s*"info": \{\s*"held_out_from": ')


def hold_out(annotations: Path, output: Path, share: float, reporter: Reporter) -> None:
    """Split a COCO-VID JSON by video into OUTPUT/train.json and OUTPUT/choose.json.

    Still images belong to no video and stay in train.json.

    Args:
        annotations: COCO-VID JSON.
        output: Folder to write to.
        share: Fraction of the videos in choose.json.
        reporter: Receives a line per file.

    Raises:
        ConfigError: A file would overwrite the annotations, or another file.
        DataError: `annotations` cannot be read, is invalid or has fewer than two videos, or a file
            cannot be written.
    """
    files = {part: output / f"{part}.json" for part in ("train", "choose")}
    inputs = {annotations: "the annotation file"}
    check_outputs([(file, OWN_PART) for file in files.values()], inputs)
    root = VideoSet.load(annotations).root  # invalid entries are refused here
    content = read_json(annotations, "give a COCO-VID JSON, e.g. from `sparsevod prepare-vid`")
    # File names start from the same folder as before.
    before = content.get("info")
    kept = before if isinstance(before, dict) else {}
    info = {"held_out_from": annotations.name, **kept, "root": str(root.resolve())}
    content = {"info": info, **{key: value for key, value in content.items() if key != "info"}}
    names = {
        video["id"]: str(video.get("name") or video.get("file_name") or video["id"])
        for video in content["videos"]
    }
    if len(names) < 2:
        raise DataError(f"{annotations}: expected at least 2 videos to split, found {len(names)}")
    aside = held_out(list(names.values()), share)
    ids = {video_id for video_id, name in names.items() if name in aside}
    others = {None, *names} - ids
    for part, video_ids in (("train", others), ("choose", ids)):
        chosen = _only_videos(content, video_ids)
        file = files[part]
        write_json(file, chosen, OWN_PART)
        sizes = counted(len(chosen["videos"]), "video"), counted(len(chosen["images"]), "frame")
        reporter.message(f"{file}: {', '.join(sizes)}")


def held_out(names: Collection[str], share: float) -> set[str]:
    """Return the names to set aside: at least one, and not all of them.

    The choice depends on the names only, not on their order, and is the same each time.
    """
    by_digest = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = min(max(round(share * len(by_digest)), 1), len(by_digest) - 1)
    return set(by_digest[:count])


def _only_videos(content: dict[str, Any], video_ids: Collection[int | None]) -> dict[str, Any]:
    images = [image for image in content["images"] if image.get("video_id") in video_ids]
    image_ids = {image["id"] for image in images}
    return {
        **content,
        "videos": [video for video in content["videos"] if video["id"] in video_ids],
        "images": images,
        "annotations": [box for box in content["annotations"] if box["image_id"] in image_ids],
    }
