"""ImageFolder: a folder of images as a video."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sparsevod_core.errors import VideoError
from sparsevod_core.video.image_folder import ImageFolder


def save(path, value, size=(48, 64), dtype=np.uint8):
    image = np.full((*size, 3), value, dtype)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def test_images_in_natural_order(tmp_path):
    for number in (10, 2, 1):
        save(tmp_path / f"f{number}.png", number)
    (tmp_path / "readme.txt").write_text("no image")
    (tmp_path / "._f3.png").write_text("what a Mac leaves")
    with ImageFolder(tmp_path) as folder:
        assert (folder.width, folder.height, folder.num_frames()) == (64, 48, 3)
        assert [frame.image[0, 0, 0] for frame in folder] == [1, 2, 10]
        assert [frame.index for frame in folder.frames_at([2, 0, 2])] == [2, 0, 2]
        assert [frame.time_s for frame in folder] == [None] * 3


def test_colors_are_rgb_and_deep_pixels_become_8_bit(tmp_path):
    image = np.zeros((8, 8, 3), np.uint16)
    image[..., 2] = 65535  # red, in OpenCV's channel order
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    (frame,) = ImageFolder(tmp_path)
    assert frame.image.dtype == np.uint8
    assert frame.image[0, 0].tolist() == [255, 0, 0]


def test_another_size_is_named_after_the_frames_before_it(tmp_path):
    save(tmp_path / "1.png", 1)
    save(tmp_path / "2.png", 2, size=(48, 65))
    frames = iter(ImageFolder(tmp_path))
    next(frames)
    with pytest.raises(VideoError, match=r"2\.png: expected 64x48 pixels as in 1\.png, got 65x48"):
        next(frames)


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(VideoError, match=r"1\.jpg: cannot decode"):
        ImageFolder(tmp_path)


def test_no_images_and_no_folder(tmp_path):
    with pytest.raises(VideoError, match="no images"):
        ImageFolder(tmp_path)
    with pytest.raises(VideoError, match="cannot read the folder"):
        ImageFolder(tmp_path / "gone")


def test_a_number_that_is_not_there(tmp_path):
    save(tmp_path / "1.png", 1)
    with pytest.raises(VideoError, match="no image 1; the folder has 1"):
        ImageFolder(tmp_path).frames_at([0, 1])
