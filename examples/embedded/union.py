"""Merge annotated sets into one, with the union of their classes (by name) and a common root.

    python examples/embedded/union.py data/drones_small/train.json data/synthetic/train.json \\
        --every 15 6 -o data/both/train.json

Images, boxes and videos get new ids. Frames are not copied. Every 15th frame of the first set and
every 6th of the second is a target frame in training. The others serve as support frames, which are
then as close in time as before.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsevod_core.files.unfinished import write_text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path, nargs="+", help="COCO-VID JSON files")
    parser.add_argument(
        "--every",
        type=int,
        nargs="+",
        metavar="N",
        help="one number per file: train on its every N-th frame; default: as the files say",
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.every is not None and len(arguments.every) != len(arguments.annotations):
        parser.error(f"--every: expected {len(arguments.annotations)} numbers, one per file")
    contents = [json.loads(file.read_text("utf-8")) for file in arguments.annotations]
    for content, every in zip(contents, arguments.every or (), strict=False):
        for image in content["images"]:
            image["is_vid_train_frame"] = image.get("frame_id", 0) % every == 0
    joined = union(arguments.annotations, contents, arguments.output.resolve().parent)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output, json.dumps(joined))
    names = ", ".join(category["name"] for category in joined["categories"])
    print(f"{arguments.output}: {len(joined['images'])} frames of {names}")


def union(
    files: Sequence[Path], contents: Sequence[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Return the merged set of files with these contents. `folder` is the folder of its JSON."""
    roots = [
        Path(os.path.normpath(file.resolve().parent / (info.get("root") or "")))
        for file, content in zip(files, contents, strict=True)
        for info in [content.get("info") or {}]
    ]
    root = Path(os.path.commonpath(roots))
    names = dict.fromkeys(c["name"] for content in contents for c in content["categories"])
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    joined: dict[str, Any] = {
        "info": {"root": os.path.relpath(root, folder)},
        "videos": [],
        "images": [],
        "annotations": [],
        "categories": categories,
    }
    id_of = {category["name"]: category["id"] for category in categories}
    for content, own_root in zip(contents, roots, strict=True):
        prefix = os.path.relpath(own_root, root) + "/"
        class_ids = {c["id"]: id_of[c["name"]] for c in content["categories"]}
        video_ids = _renumbered(content["videos"], joined["videos"])
        image_ids = _renumbered(content["images"], joined["images"])
        box_ids = _renumbered(content["annotations"], joined["annotations"])
        for video in content["videos"]:
            named = {"file_name": prefix + video["file_name"]} if "file_name" in video else {}
            joined["videos"].append({**video, **named, "id": video_ids[video["id"]]})
        for image in content["images"]:
            ids = {"id": image_ids[image["id"]], "file_name": prefix + image["file_name"]}
            if "video_id" in image:
                ids["video_id"] = video_ids[image["video_id"]]
            joined["images"].append({**image, **ids})
        for box in content["annotations"]:
            ids = {
                "id": box_ids[box["id"]],
                "image_id": image_ids[box["image_id"]],
                "category_id": class_ids[box["category_id"]],
            }
            if "video_id" in box:
                ids["video_id"] = video_ids[box["video_id"]]
            joined["annotations"].append({**box, **ids})
    return joined


def _renumbered(entries: Sequence[dict[str, Any]], before: Sequence[Any]) -> dict[int, int]:
    return {entry["id"]: len(before) + place for place, entry in enumerate(entries, start=1)}


if __name__ == "__main__":
    main()
