"""Frame pixels: image and video files give the same frames, and errors name the file."""

from __future__ import annotations

import gc
import json
import multiprocessing
import pickle
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sparsevod_core.data import frames as frames_module
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError, VideoError

if TYPE_CHECKING:
    from conftest import TinySet


def rendered(videos: VideoSet, source: TinySet, frame: int) -> np.ndarray:
    video = videos.video_of(frame)
    return source.images[videos.video_name(video)][frame - videos.video_frames(video).start]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_image_files_give_the_rendered_frames(image_set: TinySet) -> None:
    videos = VideoSet.load(image_set.annotations)
    reader = FrameReader(videos)
    for frame in range(videos.num_frames):
        image = reader.read(frame)
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        np.testing.assert_array_equal(image, rendered(videos, image_set, frame))


def test_video_files_give_exactly_the_frame(video_set: TinySet) -> None:
    videos = VideoSet.load(video_set.annotations)
    reader = FrameReader(videos)
    asked = [30, 5, 0, 23, 24, 31, 5, 12, 11, 4]  # over three videos, back and forth, one twice
    images = reader.read_many(asked)
    for frame, image in zip(asked, images, strict=True):
        same_video = videos.video_frames(videos.video_of(frame))
        distances = [distance(image, rendered(videos, video_set, other)) for other in same_video]
        assert int(np.argmin(distances)) == frame - same_video.start
        assert min(distances) < 3  # H.264


def test_video_and_image_files_agree(video_set: TinySet, image_set: TinySet) -> None:
    from_video, from_images = (VideoSet.load(s.annotations) for s in (video_set, image_set))
    for frame in range(from_video.num_frames):
        assert from_video.image_id(frame) == from_images.image_id(frame)
        a = FrameReader(from_video).read(frame)
        assert distance(a, FrameReader(from_images).read(frame)) < 3


def test_frame_ids_of_a_video_file_may_have_gaps(video_set: TinySet, tmp_path: Path) -> None:
    content = json.loads(video_set.annotations.read_text())
    content["images"] = [image for image in content["images"] if image["frame_id"] % 5 == 4]
    content["annotations"] = []
    path = tmp_path / "gaps.json"
    path.write_text(json.dumps(content))
    videos = VideoSet.load(path, video_set.annotations.parent)
    images = FrameReader(videos).read_many(list(videos.video_frames(0)))
    for image, expected in zip(images, video_set.images["long"][4::5], strict=True):
        assert distance(image, expected) < 3


def test_videos_are_closed_and_reopened(
    video_set: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now: set[Path] = set()

    class CountingReader(frames_module.VideoReader):
        def frames_at(self, indices: Any) -> Any:
            open_now.add(self.path)
            return super().frames_at(indices)

        def close(self) -> None:
            open_now.discard(self.path)
            super().close()

    monkeypatch.setattr(frames_module, "VideoReader", CountingReader)
    monkeypatch.setattr(frames_module, "_OPEN_VIDEOS", 1)
    monkeypatch.setattr(frames_module, "_INDEXED_VIDEOS", 2)
    videos = VideoSet.load(video_set.annotations)
    reader = FrameReader(videos)
    for frame in (0, 25, 31, 1, 26, 31, 31, 2):
        assert distance(reader.read(frame), rendered(videos, video_set, frame)) < 3
        assert open_now == {videos.frame_path(frame)[0]}
    reader.close()
    assert open_now == set()


def test_a_reader_can_be_sent_to_another_process(video_set: TinySet) -> None:
    videos = VideoSet.load(video_set.annotations)
    reader = FrameReader(videos)
    expected = reader.read(10)
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read(10), expected)


def test_a_forked_reader_does_not_touch_the_files_of_its_parent(video_set: TinySet) -> None:
    videos = VideoSet.load(video_set.annotations)
    reader = FrameReader(videos)  # decoding threads, which the child will not have
    alone = [reader.read(frame) for frame in range(24)]
    reader.read(3)
    gc.collect()  # as `TrainingLoader` does: other tests leave decoders as garbage
    context = multiprocessing.get_context("fork")
    results = context.Queue()

    def read_in_child() -> None:
        results.put([reader.read(frame) for frame in range(24)])

    child = context.Process(target=read_in_child)
    child.start()
    in_parent = [reader.read(frame) for frame in range(4, 24)]
    in_child = results.get(timeout=600)
    child.join(timeout=600)
    assert child.exitcode == 0
    np.testing.assert_array_equal(in_child, alone)
    np.testing.assert_array_equal(in_parent, alone[4:])


def test_image_files_are_decoded_ahead_in_threads(
    image_set: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = VideoSet.load(image_set.annotations)
    together = threading.Barrier(3)
    read_image = frames_module.read_image

    def meet(path: Path, *options: Any) -> np.ndarray:
        together.wait(10)  # no frame is there before three are on their way
        return read_image(path, *options)

    monkeypatch.setattr(frames_module, "read_image", meet)
    reader = FrameReader(videos, threads=3)
    images = list(reader.in_order(videos.video_frames(0), ahead=3))
    assert len(images) == 24
    for frame, image in enumerate(images):
        np.testing.assert_array_equal(image, rendered(videos, image_set, frame))
    for image, frame in zip(reader.read_many([3, 1, 2]), [3, 1, 2], strict=True):
        np.testing.assert_array_equal(image, rendered(videos, image_set, frame))


def test_frames_of_a_video_file_are_decoded_one_after_the_other(
    video_set: TinySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = VideoSet.load(video_set.annotations)
    readers: set[int] = set()

    class WatchedReader(frames_module.VideoReader):
        def frames_at(self, indices: Any) -> Any:
            readers.add(threading.get_ident())
            return super().frames_at(indices)

    monkeypatch.setattr(frames_module, "VideoReader", WatchedReader)
    reader = FrameReader(videos, threads=3)
    for frame, image in enumerate(reader.in_order(videos.video_frames(0))):
        assert distance(image, rendered(videos, video_set, frame)) < 3
    assert readers == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_corrupt_image_is_named_in_order(
    image_set: TinySet, tmp_path: Path, threads: int
) -> None:
    copy = tmp_path / "set"
    shutil.copytree(image_set.annotations.parent, copy)
    (copy / "long" / "000004.png").write_bytes(b"none")
    videos = VideoSet.load(copy / image_set.annotations.name)
    read = FrameReader(videos, threads=threads).in_order(videos.video_frames(0))
    for frame in range(4):
        np.testing.assert_array_equal(next(read), rendered(videos, image_set, frame))
    with pytest.raises(DataError, match=r"long/000004\.png: cannot decode"):
        next(read)


def broken_set(tmp_path: Path, image_bytes: bytes | None, size: tuple[int, int]) -> VideoSet:
    images = [{"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "set.json").write_text(json.dumps(content))
    if image_bytes is not None:
        (tmp_path / "a.jpg").write_bytes(image_bytes)
    return VideoSet.load(tmp_path / "set.json")


def jpeg(height: int = 40, width: int = 60, exif: bytes = b"") -> bytes:
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    encoded = cv2.imencode(".jpg", noise)[1].tobytes()
    return encoded[:2] + exif + encoded[2:]


@pytest.mark.parametrize(
    ("image_bytes", "message"),
    [
        (None, "cannot read the image: No such file"),
        (b"", "cannot decode the image (0 bytes)"),
        (b"<html>404</html>", "cannot decode the image (16 bytes)"),
        (jpeg(40, 61), "61x40 pixels, but "),
    ],
)
def test_a_broken_image_is_named(tmp_path: Path, image_bytes: bytes | None, message: str) -> None:
    reader = FrameReader(broken_set(tmp_path, image_bytes, (60, 40)))
    with pytest.raises(DataError) as caught:
        reader.read(0)
    assert caught.value.message.startswith(f"{tmp_path}/a.jpg: {message}")
    if image_bytes is None:
        assert str(tmp_path) in (caught.value.hint or "")


def test_gray_images_become_rgb(tmp_path: Path) -> None:
    import cv2

    grey = cv2.imencode(".png", np.full((40, 60), 99, np.uint8))[1].tobytes()
    image = FrameReader(broken_set(tmp_path, grey, (60, 40))).read(0)
    assert image.shape == (40, 60, 3) and (image == 99).all()


def test_images_are_read_upright(tmp_path: Path) -> None:
    # APP1 with one tag, orientation 6: the camera was turned by 90 degrees.
    tag = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    body = b"Exif\0\0MM\x00\x2a\x00\x00\x00\x08\x00\x01" + tag + b"\0\0\0\0"
    exif = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    as_stored = FrameReader(broken_set(tmp_path, jpeg(), (60, 40))).read(0)
    upright = FrameReader(broken_set(tmp_path, jpeg(exif=exif), (40, 60))).read(0)
    np.testing.assert_array_equal(upright, np.rot90(as_stored, -1))
    with pytest.raises(DataError, match=r"40x60 pixels, but .* has 60x40") as caught:
        FrameReader(broken_set(tmp_path, jpeg(exif=exif), (60, 40))).read(0)
    assert "prepare-vid` again" in (caught.value.hint or "")


def test_a_frame_beyond_the_video_is_named(video_set: TinySet, tmp_path: Path) -> None:
    content = json.loads(video_set.annotations.read_text())
    content["images"][0]["frame_id"] = 99
    path = tmp_path / "beyond.json"
    path.write_text(json.dumps(content))
    videos = VideoSet.load(path, video_set.annotations.parent)
    with pytest.raises(VideoError, match=r"long\.mp4: no frame 99 .* 24 frames"):
        FrameReader(videos).read(23)


def test_real_drone_frames(shared_dir: Path) -> None:
    videos = VideoSet.load(shared_dir / "data" / "drones" / "val.json")
    frames = list(videos.video_frames(3))
    reader = FrameReader(videos)
    in_order = reader.read_many(frames[:40])
    picked = [31, 2, 17, 39]
    for index, image in zip(picked, reader.read_many([frames[i] for i in picked]), strict=True):
        np.testing.assert_array_equal(image, in_order[index])
