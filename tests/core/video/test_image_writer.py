"""ImageWriter: a complete folder of numbered images, or none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sparsevod_core.errors import ConfigError
from sparsevod_core.video.image_writer import ImageWriter, is_pattern

RED = np.full((5, 7, 3), (250, 10, 20), np.uint8)


@pytest.mark.parametrize("name", ["a/%06d.png", "a/frame-%d.jpg", "a/%4d.webp", "x/%03d.JPEG"])
def test_patterns(name: str) -> None:
    assert is_pattern(Path(name))


@pytest.mark.parametrize("name", ["a.png", "50%d off.mp4", "%d/a.png", "a/%s.png", "a/%06d"])
def test_no_patterns(name: str) -> None:
    assert not is_pattern(Path(name))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_numbered_from_zero_in_true_colors(tmp_path: Path, suffix: str) -> None:
    with ImageWriter(tmp_path / "out" / f"f-%03d.{suffix}", 7, 5) as writer:
        for _ in range(12):
            writer.write(RED)
        assert not (tmp_path / "out").exists()
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"f-{n:03d}.{suffix}" for n in range(12)]
    blue, green, red = cv2.imread(str(files[11]))[2, 3].tolist()
    assert (red, green, blue) == pytest.approx((250, 10, 20), abs=0 if suffix == "png" else 12)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), ImageWriter(tmp_path / "out" / "%d.png", 7, 5) as writer:
        writer.write(RED)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(ConfigError, match="already exists"):
        ImageWriter(tmp_path / "out" / "%d.png", 7, 5)
    with pytest.raises(ConfigError, match="expected a folder"):
        ImageWriter(Path("%d.png"), 7, 5)
