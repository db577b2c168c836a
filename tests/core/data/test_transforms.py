"""Resizing, padding and augmentation: exact values, and boxes that stay on their objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparsevod_core.data.transforms import (
    ClipAugmentation,
    pad_to_multiple,
    resize_image,
    resize_opencv,
    resized_size,
)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((720, 1280), (563, 1000)),  # the long side binds; 562.5 rounds up
        ((480, 640), (600, 800)),
        ((512, 640), (600, 750)),
        ((1080, 720), (900, 600)),
        ((500, 375), (800, 600)),
        ((1, 1), (600, 600)),
        ((3, 4000), (1, 1000)),  # never 0
    ],
)
def test_sizes_are_mmdetections(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, 600, 1000) == expected


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sizes_keep_bounds_and_shape(height: int, width: int) -> None:
    new_height, new_width = resized_size(height, width, 600, 1000)
    assert 1 <= min(new_height, new_width) <= 600 and max(new_height, new_width) <= 1000
    assert min(new_height, new_width) == 600 or max(new_height, new_width) == 1000
    scale = min(600 / min(height, width), 1000 / max(height, width))
    assert abs(new_height - height * scale) <= 0.5 or new_height == 1
    assert abs(new_width - width * scale) <= 0.5 or new_width == 1


def test_shrinking_does_not_alias() -> None:
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    small = resize_image(stripes, (16, 16)).float()
    assert (small - 127.5).abs().max() < 24  # grey, not black or white bands


def test_opencv_interpolates_between_pixel_centers() -> None:
    ramp = torch.tensor([0, 80, 240, 20], dtype=torch.uint8).expand(3, 2, 4)
    wide = resize_opencv(ramp, (2, 8))
    assert wide[0].tolist() == [[0, 20, 60, 120, 200, 185, 75, 20]] * 2


def test_opencv_samples_without_antialiasing() -> None:
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[:, :, 1::4] = 255  # a quarter is white
    assert (resize_opencv(stripes, (16, 16)) == 128).all()  # halfway between columns 1 and 2
    assert resize_image(stripes, (16, 16)).float().mean() < 70


def test_opencv_takes_images_in_any_memory_order() -> None:
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    flipped = image.flip(1).permute(0, 2, 1)
    expected = resize_opencv(flipped.contiguous(), (17, 23))
    assert torch.equal(resize_opencv(flipped, (17, 23)), expected)


def test_clips_are_resized_as_set() -> None:
    frames = [
        np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8) for seed in (0, 1)
    ]
    expected = {
        "opencv": resize_opencv(torch.from_numpy(frames[1]).permute(2, 0, 1), (20, 30)),
        "antialias": resize_image(torch.from_numpy(frames[1]).permute(2, 0, 1), (20, 30)),
    }
    for resize, image in expected.items():
        augment = ClipAugmentation(
            short_side=20, long_side=99, flip=0, crop=0, colour=0, resize=resize
        )
        images, _, _ = augment(frames, torch.zeros(0, 4), torch.Generator())
        assert torch.equal(images[1], image)


def test_padding_is_black_and_to_a_multiple_of_the_largest() -> None:
    images = [
        torch.full((3, height, width), 9, dtype=torch.uint8)
        for height, width in [(33, 20), (5, 64)]
    ]
    batch, sizes = pad_to_multiple(images, 32)
    assert batch.shape == (2, 3, 64, 64) and batch.dtype == torch.uint8
    assert sizes.tolist() == [[33, 20], [5, 64]] and sizes.dtype == torch.int64
    for image, row in zip(images, batch, strict=True):
        _, height, width = image.shape
        assert (row[:, :height, :width] == 9).all()
        assert row.sum() == image.sum()


def clip_with_block(box: tuple[int, int, int, int], count: int = 3) -> list[np.ndarray]:
    left, top, right, bottom = box
    image = np.zeros((50, 80, 3), np.uint8)
    image[top:bottom, left:right] = 255
    return [image.copy() for _ in range(count)]


def bounds(image: Tensor) -> list[float]:
    """Return the box around pixels brighter than half, to the pixel."""
    rows, columns = torch.nonzero(image[0] > 127, as_tuple=True)
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return [float(edge) for edge in edges]


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(("short_side", "long_side"), [(50, 80), (120, 1000), (32, 41)])
def test_boxes_stay_on_their_objects(flip: float, short_side: int, long_side: int) -> None:
    augment = ClipAugmentation(
        short_side=short_side, long_side=long_side, flip=flip, crop=0, colour=0, resize="antialias"
    )
    box = (10, 5, 30, 45)
    images, boxes, _ = augment(
        clip_with_block(box), torch.tensor([box], dtype=torch.float32), torch.Generator()
    )
    assert images.shape[1:] == (3, *resized_size(50, 80, short_side, long_side))
    for image in images:  # supports as the target
        assert boxes[0].tolist() == pytest.approx(bounds(image), abs=1)
    width = images.shape[-1]
    left, right = (width * 50 / 80, width * 70 / 80) if flip else (width / 8, width * 3 / 8)
    assert boxes[0, [0, 2]].tolist() == pytest.approx([left, right], rel=1e-6)
    assert boxes[0, [1, 3]].tolist() == pytest.approx(
        [5 * images.shape[2] / 50, 45 * images.shape[2] / 50], rel=1e-6
    )


def test_half_of_the_clips_are_flipped_and_each_as_a_whole() -> None:
    augment = ClipAugmentation(
        short_side=50, long_side=80, flip=0.5, crop=0, colour=0, resize="antialias"
    )
    generator = torch.Generator().manual_seed(0)
    lefts = []
    for _ in range(200):
        images, boxes, _ = augment(
            clip_with_block((0, 0, 10, 10)), torch.tensor([[0.0, 0, 10, 10]]), generator
        )
        assert len({bounds(image)[0] for image in images}) == 1
        lefts.append(boxes[0, 0].item())
    assert set(lefts) == {0, 70}
    assert 70 < sum(left == 0 for left in lefts) < 130


def test_a_frame_without_boxes() -> None:
    augment = ClipAugmentation(
        short_side=64, long_side=99, flip=1.0, crop=0, colour=0, resize="antialias"
    )
    images, boxes, _ = augment(
        clip_with_block((0, 0, 1, 1), 1), torch.zeros(0, 4), torch.Generator()
    )
    assert images.shape == (1, 3, 62, 99) and boxes.shape == (0, 4)


def test_a_frame_of_another_size_joins_its_clip() -> None:
    augment = ClipAugmentation(
        short_side=50, long_side=80, flip=0.0, crop=0, colour=0, resize="antialias"
    )
    images, _, _ = augment(
        [np.zeros((50, 80, 3), np.uint8), np.full((25, 40, 3), 7, np.uint8)],
        torch.zeros(0, 4),
        torch.Generator(),
    )
    assert images.shape == (2, 3, 50, 80) and (images[1] == 7).all()


def test_crop_keeps_size_and_boxes_and_says_which_are_lost() -> None:
    augment = ClipAugmentation(
        short_side=50, long_side=80, flip=0.5, crop=0.6, colour=0, resize="antialias"
    )
    generator = torch.Generator().manual_seed(0)
    box, lost = (10, 5, 30, 45), 0
    for _ in range(100):
        images, boxes, stays = augment(
            clip_with_block(box), torch.tensor([box], dtype=torch.float32), generator
        )
        assert images.shape == (3, 3, 50, 80)
        lost += not stays[0]
        if stays[0]:
            for image in images:
                assert boxes[0].tolist() == pytest.approx(bounds(image), abs=1.5)
    assert 5 < lost < 60


def test_recoloring_is_one_draw_for_the_clip_and_moves_no_box() -> None:
    augment = ClipAugmentation(
        short_side=50, long_side=80, flip=0.0, crop=0, colour=0.5, resize="antialias"
    )
    generator = torch.Generator().manual_seed(0)
    frames = [np.full((50, 80, 3), (200, 120, 40), np.uint8)] * 2
    box = torch.tensor([[10.0, 5, 30, 45]])
    colors = set()
    for _ in range(20):
        images, boxes, stays = augment(frames, box, generator)
        assert torch.equal(images[0], images[1])
        assert torch.equal(boxes, box) and stays.all()
        colors.add(tuple(images[0, :, 0, 0].tolist()))
    assert len(colors) > 15
