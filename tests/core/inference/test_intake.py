"""Intake: the device resizes frames as the host does, and everything is on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sparsevod_core.config import DataConfig, load_config
from sparsevod_core.data.transforms import resize_opencv
from sparsevod_core.errors import DataError
from sparsevod_core.inference import Predictor, intake
from sparsevod_core.inference.intake import Intake
from sparsevod_core.inference.transfers import CudaTransfers, PlainTransfers
from sparsevod_core.model.build import build_detector
from sparsevod_core.structures import Category

CPU = torch.device("cpu")
SIZES = DataConfig(short_side=96, long_side=160)


def taken_in(frames: list[Any], where: Any, data: DataConfig = SIZES) -> tuple[Tensor, Tensor]:
    return Intake(data, PlainTransfers(CPU), where=where, ahead=0).batch(frames).fill().load()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    rows, columns = np.sin(np.arange(height) / 9), np.cos(np.arange(width) / 14)
    waves = rows[:, None] * columns[:, None].T * 127.5 + 127.5
    return np.stack([waves, 255 - waves, waves.T[:1, :1] + 0 * waves], axis=2).astype(np.uint8)


@pytest.mark.parametrize("make", [noise, smooth])
@pytest.mark.parametrize(
    "size",
    [
        (720, 1280),  # shrinks
        (37, 53),  # grows
        (97, 161),  # by a pixel
        (200, 31),
        (5, 400),
        (96, 160),  # stays
    ],
)
def test_the_device_gives_the_pixels_of_the_host(size: tuple[int, int], make: Any) -> None:
    frames = [make(*size), make(*size)[::-1].copy()]
    (host, host_sizes), (device, sizes) = taken_in(frames, "host"), taken_in(frames, "device")
    assert device.dtype == torch.uint8 and device.shape == host.shape
    assert device.shape[2] % 32 == device.shape[3] % 32 == 0
    assert torch.equal(sizes, host_sizes)
    assert (device.int() - host.int()).abs().max() <= (0 if size == (96, 160) else 1)


def test_frames_of_a_size_are_resized_together(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    resize = intake.resize_images
    monkeypatch.setattr(
        intake,
        "resize_images",
        lambda images, size: calls.append(len(images)) or resize(images, size),
    )
    frames = [noise(64, 96), noise(120, 80, 1), noise(64, 96, 2), noise(33, 45, 3)]
    device, sizes = taken_in(frames, "device")
    assert calls == [2, 1, 1]
    host, host_sizes = taken_in(frames, "host")
    assert torch.equal(sizes, host_sizes)
    assert (device.int() - host.int()).abs().max() <= 1


@pytest.mark.parametrize("where", ["host", "device"])
def test_views_tensors_and_what_is_read_only(where: str) -> None:
    frame = noise(40, 60)
    read_only = frame.copy()
    read_only.flags.writeable = False
    turned = frame[::-1, ::-1].copy()[::-1, ::-1]
    tensor = torch.from_numpy(frame).permute(2, 0, 1)
    images, _ = taken_in([frame, read_only, turned, tensor], where)
    for image in images:
        assert torch.equal(image, images[0])
    with pytest.raises(DataError, match="expected RGB"):
        taken_in([frame, noise(4, 4)[..., 0]], where)


def test_each_device_has_a_suitable_intake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CudaTransfers", PlainTransfers)
    frame = noise(40, 60)
    on_host, on_device = (
        Intake.for_device(CPU, SIZES),
        Intake.for_device(torch.device("cuda", 0), SIZES),
    )
    assert (on_host.ahead, on_device.ahead) == (0, 1)
    assert isinstance(on_host.batch([frame]), intake.HostResizedBatch)
    assert isinstance(on_device.batch([frame]), intake.DeviceResizedBatch)


def test_opencv_resizes_on_the_host_for_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CudaTransfers", PlainTransfers)
    frame = noise(40, 60)
    data = DataConfig(short_side=48, long_side=96, resize="opencv", pad_multiple=16)
    for device in (CPU, torch.device("cuda", 0)):
        batch = Intake.for_device(device, data).batch([frame])
        assert isinstance(batch, intake.HostResizedBatch)
        batch._transfers = PlainTransfers(CPU)
        images, sizes = batch.fill().load()
        assert images.shape == (1, 3, 48, 80) and sizes.tolist() == [[48, 72]]
        expected = resize_opencv(torch.from_numpy(frame).permute(2, 0, 1), (48, 72))
        assert torch.equal(images[0, :, :, :72], expected)


def test_all_of_a_batch_is_on_the_device() -> None:
    with FakeTensorMode():
        there = Intake(SIZES, PlainTransfers(torch.device("cuda", 0)), where="device", ahead=1)
        images, sizes = there.batch([noise(40, 60), noise(50, 50)]).fill().load()
    assert images.device.type == sizes.device.type == "cuda"
    assert images.shape == (2, 3, 96, 160) and sizes.dtype == torch.int64


def test_detections_are_those_of_the_host_but_for_a_grey_level(video_set: Any) -> None:
    config = load_config(
        "tiny",
        overrides=["model.num_classes=2", "data.short_side=48", "data.long_side=96"],
    )
    torch.manual_seed(3)
    categories = [Category(1, "square"), Category(2, "bar")]
    predictor = Predictor(build_detector(config.model), config, categories, device="cpu")
    frames = video_set.images["long"]
    runs = []
    for where in ("host", "device"):
        predictor.intake = Intake(config.data, PlainTransfers(CPU), where=where, ahead=0)
        memory = predictor.remember(frames[10:14])
        runs.append(predictor.detect(frames[:3], memory, clip=False))
    scores = np.array([[found.scores for found in run] for run in runs])
    differences = np.abs(scores[1] - scores[0])  # TFE may choose another place
    assert differences.mean() < 0.005 and differences.max() < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_pixels_of_the_host() -> None:
    device = torch.device("cuda")
    transfers = CudaTransfers(device)
    there = Intake(SIZES, transfers, where="device", ahead=1)
    for seed in range(50):  # page-locked memory is reused while the GPU is busy
        frames = [noise(720, 1280, seed), noise(37, 53, seed), noise(720, 1280, seed + 1)]
        torch.cuda._sleep(10**7)
        images, sizes = there.batch(frames).fill().load()
        assert images.is_cuda and sizes.is_cuda
        read = transfers.down(images.float())
        host, _ = taken_in(frames, "host")
        assert (read().int() - host.int()).abs().max() <= 1
