"""Frames of one video in train and in val are pointed out after the conversion."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_sets import Studio, fractions


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"train": (1, 2, 4, 5), "val": (3, 6)}, "1 to 5 (4) in train, 3 to 6 (2) in val"),
        ({"train": (1, 2, 3), "val": (4, 5)}, "1 to 3 (3) in train, 4 to 5 (2) in val"),
        ({"train": (1, 2, 3), "val": (1, 2, 3)}, "images/train/a_1.png and images/val/a_1.png"),
        ({"train": (1, 2, 3), "val": (1, 2, 3, 4)}, ""),  # another video of the same name
        ({"train": (0, 10, 20), "val": (0, 10)}, ""),
    ],
)
def test_a_video_in_both_splits_is_pointed_out(
    tmp_path: Path, numbers: dict[str, tuple[int, ...]], expected: str
) -> None:
    studio = Studio(tmp_path)
    studio.write("classes.txt", "cat\n")
    for split, frames in numbers.items():
        for number in frames:
            studio.image(f"images/{split}/a_{number}.png", number)
            studio.write(f"labels/{split}/a_{number}.txt", f"0 {fractions(number)}\n")
    train, val = studio.prepare("yolo", output=studio.out)
    assert train.doubts == []
    assert [expected in doubt for doubt in val.doubts] == [True] * bool(expected)
