"""Sets videos aside from the training annotations, to choose checkpoints by (`run.py --choose-by`).

    python examples/reproduce/hold_out.py train.json -o held_out [--share 0.1]

writes held_out/train.json and held_out/choose.json. Which videos is decided by their names alone:
the same ones each time, in whatever order they are listed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from runs import write_json


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path, help="COCO-VID JSON")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.1, help="of the videos (default 0.1)")
    arguments = parser.parse_args()
    content = json.loads(arguments.annotations.read_text("utf-8"))
    # File names still start from where they did.
    root = arguments.annotations.resolve().parent / content.get("info", {}).get("root", "")
    content["info"] = {**content.get("info", {}), "root": str(root)}
    names = {video["id"]: video["name"] for video in content["videos"]}
    aside = held_out(names.values(), arguments.share)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for part, is_aside in (("train", False), ("choose", True)):
        # Still images belong to no video: they are trained on.
        kept = {None: not is_aside} | {
            id_: (name in aside) == is_aside for id_, name in names.items()
        }
        chosen = only_videos(content, {id_ for id_, is_kept in kept.items() if is_kept})
        file = arguments.output / f"{part}.json"
        write_json(file, chosen)
        print(f"{file}: {len(chosen['videos'])} videos, {len(chosen['images'])} frames")


def held_out(names: Collection[str], share: float) -> set[str]:
    """At least one, and not all of them."""
    by_digest = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = min(max(round(share * len(by_digest)), 1), len(by_digest) - 1)
    return set(by_digest[:count])


def only_videos(content: dict[str, Any], video_ids: Collection[int | None]) -> dict[str, Any]:
    """These videos, their frames and boxes; everything else as it is."""
    images = [image for image in content["images"] if image.get("video_id") in video_ids]
    image_ids = {image["id"] for image in images}
    return {
        **content,
        "videos": [video for video in content["videos"] if video["id"] in video_ids],
        "images": images,
        "annotations": [box for box in content["annotations"] if box["image_id"] in image_ids],
    }


if __name__ == "__main__":
    main()
