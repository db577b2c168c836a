"""Shared fixtures: runtime checks of shapes, two tiny data sets, and the folder of real data."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import hypothesis
import numpy as np
import pytest

try:
    import beartype
    import jaxtyping
except ImportError:  # tests/gpu also run on machines without these packages, with unchecked shapes
    CHECKS_SHAPES = False
else:
    CHECKS_SHAPES = True

CORE = Path(__file__).parents[1] / "sparsevod_core"


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check annotations with shapes by beartype; mypy checks the others.

    Tests can thus pass a stand-in where an annotation is a class.
    """
    for name, hint in function.__annotations__.items():
        if not _holds_shape(hint):
            function.__annotations__[name] = Any
    return beartype.beartype(function)


def _holds_shape(hint: Any) -> bool:
    is_array = inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)
    return is_array or any(_holds_shape(part) for part in get_args(hint))


# This must precede the first import of the package: from here on, its functions and dataclasses
# check the shapes of inputs and outputs.
# Triton compiles kernels from their source and cannot compile wrapped ones.
if CHECKS_SHAPES:
    jaxtyping.install_import_hook(
        [
            ".".join(path.relative_to(CORE.parent).with_suffix("").parts)
            for path in CORE.rglob("*.py")
            if path.stem != "__init__" and not path.stem.startswith("triton_")
        ],
        f"{__name__}.check_shapes",
    )

# Without a GPU, Triton kernels run in its interpreter, which is chosen when they are imported.
if not any(Path("/dev").glob("nvidia[0-9]*")):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Shells let background processes ignore Ctrl-C, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Use the same examples in every run, without a deadline for busy machines. To search for others:
# pytest --hypothesis-profile default
hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")

REPOSITORY = Path(__file__).parents[1]

CATEGORIES = [{"id": 7, "name": "square"}, {"id": 3, "name": "bar"}]
VIDEOS = {"long": (24, 64, 96), "narrow": (7, 80, 48), "single": (1, 64, 96)}
"""Name: frames, height, width."""


@dataclass(frozen=True)
class TinySet:
    """Rendered COCO-VID set: a bright square and a bar cross a dark, textured background.

    Frame 4 of video `long` has no objects. Every other frame is used for training.

    Attributes:
        annotations: path of the JSON file; file names are relative to its folder.
        images: rendered RGB frames by video name.
    """

    annotations: Path
    images: dict[str, list[np.ndarray]]


@pytest.fixture(scope="session")
def image_set(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """Tiny set as PNG frames in a folder per video, with one still image without a video."""
    import cv2

    root = tmp_path_factory.mktemp("image_set")
    content, images = _render()
    content["images"].append({"id": 900, "file_name": "still.png", "height": 64, "width": 96})
    content["annotations"].append(
        {"id": 900, "image_id": 900, "category_id": 3, "bbox": [10, 20, 30, 40]}
    )
    images["still.png"] = [np.random.default_rng(5).integers(0, 255, (64, 96, 3), dtype=np.uint8)]
    for name, frames in images.items():
        for index, frame in enumerate(frames):
            path = root / (name if name == "still.png" else _frame_file(name, index))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
    return _write(root, content, images)


@pytest.fixture(scope="session")
def video_set(tmp_path_factory: pytest.TempPathFactory) -> TinySet:
    """Tiny set as MP4 files: H.264 with B-frames and a keyframe every eighth frame."""
    root = tmp_path_factory.mktemp("video_set")
    content, images = _render()
    for video in content["videos"]:
        video["file_name"] = f"{video['name']}.mp4"
        _encode(root / video["file_name"], images[video["name"]])
    return _write(root, content, images)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder that contains `data/` with real videos and annotations; skips if it is absent."""
    path = Path(os.environ.get("SPARSEVOD_SHARED", REPOSITORY.parent / "shared")).resolve()
    for folder in (path, path.parent):  # the variable may be the data folder itself
        if (folder / "data" / "videos").is_dir():
            return folder
    pytest.skip(f"no real data at {path}; set SPARSEVOD_SHARED to the folder that holds data/")


# Systems assign ephemeral ports from 32768 on, so a lower port is not assigned to another process
# between its choice and its use. Each test process starts at another port.
_ports = itertools.count(20_000 + 20 * (os.getpid() % 500))


@pytest.fixture
def free_port() -> int:
    """Return a TCP port of this machine that is not in use."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError


def _render() -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Return COCO-VID content and RGB frames of all videos."""
    content: dict[str, Any] = {
        "categories": CATEGORIES,
        "videos": [],
        "images": [],
        "annotations": [],
    }
    images: dict[str, list[np.ndarray]] = {}
    for video, (name, (num_frames, height, width)) in enumerate(VIDEOS.items(), start=10):
        content["videos"].append({"id": video, "name": name, "width": width, "height": height})
        noise = np.random.default_rng(video).integers(0, 60, (height // 8, width // 8, 3))
        background = noise.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        images[name] = []
        for index in range(num_frames):
            frame = background.copy()
            image_id = 100 * video + 2 * index
            content["images"].append(
                {
                    "id": image_id,
                    "video_id": video,
                    "frame_id": index,
                    "file_name": _frame_file(name, index),
                    "width": width,
                    "height": height,
                    "is_vid_train_frame": index % 2 == 0,
                }
            )
            square = [2 + index, 4 + index, 16, 16]
            bar = [width - 12 - index, 30, 8, 30]
            shown = [] if (name, index) == ("long", 4) else [(7, square), (3, bar)]
            for category, (x, y, w, h) in shown:
                frame[y : y + h, x : x + w] = (230, 60, 40) if category == 7 else (40, 90, 240)
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]),
                        "image_id": image_id,
                        "category_id": category,
                        "instance_id": 10 * video + category,
                        "bbox": [x, y, w, h],
                    }
                )
            images[name].append(frame)
    return content, images


def _frame_file(video: str, index: int) -> str:
    return f"{video}/{index:06d}.png"


def _write(root: Path, content: dict[str, Any], images: dict[str, list[np.ndarray]]) -> TinySet:
    annotations = root / "annotations.json"
    annotations.write_text(json.dumps(content))
    return TinySet(annotations, images)


def _encode(path: Path, frames: list[np.ndarray]) -> None:
    import av

    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        stream.options = {"crf": "8", "g": "8", "bf": "2"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first, so that only short ones remain for idle workers at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium, controlled by selenium."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and ChromeDriver (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "autoplay-policy=no-user-gesture-required",
        "window-size=1300,1100",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    chrome = webdriver.Chrome(options=options, service=service)
    yield chrome
    chrome.quit()
