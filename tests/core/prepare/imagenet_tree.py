"""Small trees in ImageNet VID's layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sparsevod_core.prepare.imagenet_vid.convert import prepare_imagenet_vid

WIDTH, HEIGHT = 64, 48
JPEG = bytes(cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1])
CAR, DOG = "n02958343", "n02084071"

VAL = "VID/val/ILSVRC2015_val_00000000"
"""First validation video of `small_tree`."""
Box = tuple[str, int, tuple[float, float, float, float]]
"""wnid, track, (xmin, ymin, xmax, ymax)."""


@dataclass(frozen=True)
class Tree:
    """A tree in ImageNet VID's layout, to which frames are added."""

    root: Path

    def frame(self, path: str, boxes: Sequence[Box] = (), *, jpeg: bytes = JPEG) -> None:
        """Add a frame, e.g. `VID/val/a/000000`."""
        objects = "".join(
            f"<object>\n<trackid>{track}</trackid><name>{name}</name><bndbox><xmin>{left}</xmin>"
            f"<ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>"
            "<occluded>0</occluded><generated>1</generated></object>\n"
            for name, track, (left, top, right, bottom) in boxes
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        self.write(f"Annotations/{path}.xml", f"<annotation>\n{size}\n{objects}</annotation>\n")
        self.write(f"Data/{path}.JPEG", jpeg)

    def video(self, path: str, num_frames: int) -> None:
        """Add a video of a car that moves to the right; the last frame is empty."""
        for index in range(num_frames):
            boxes = [(CAR, 5, (index, 10, index + 20, 30))] if index < num_frames - 1 else []
            self.frame(f"{path}/{index:06d}", boxes)

    def write(self, path: str, content: str | bytes) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target


def small_tree(folder: Path) -> Tree:
    """Make a tree with two training videos, two images of DET, two validation videos, no lists."""
    tree = Tree(folder / "ILSVRC2015")
    tree.video("VID/train/ILSVRC2015_VID_train_0000/ILSVRC2015_train_00000000", 40)
    tree.video("VID/train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000000", 6)
    tree.frame(
        "DET/train/ILSVRC2013_train/a_1", [(DOG, 0, (1, 2, 30, 40)), ("n07739125", 0, (1, 1, 9, 9))]
    )
    tree.frame("DET/train/ILSVRC2013_train/a_2", [("n07739125", 0, (1, 1, 9, 9))])
    tree.video("VID/val/ILSVRC2015_val_00000000", 4)
    tree.video("VID/val/ILSVRC2015_val_00000001", 3)
    return tree


def convert_val(tree: Tree, output: Path, **options: Any) -> dict[str, Any]:
    """Convert `val` and return its JSON."""
    prepare_imagenet_vid(tree.root, output, splits=["val"], **options)
    return dict(json.loads((output / "val.json").read_text()))
