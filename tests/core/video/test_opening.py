"""Opening of stdin and folders."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.video.opening import open_source
from sparsevod_core.video.sources import find_sources


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            image = np.full((48, 64, 3), 40 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def give_stdin(monkeypatch, content: bytes, folder: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_stdin_gives_what_the_file_gives_and_leaves_nothing(video, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    give_stdin(monkeypatch, video.read_bytes(), tmp_path / "temporary")
    (from_file,), (from_stdin,) = find_sources([str(video)]), find_sources(["-"])
    with open_source(from_file) as expected, open_source(from_stdin) as got:
        assert got.num_frames() == 5
        assert [frame.index for frame in got.frames_at([3])] == [3]
        for one, other in zip(got, expected, strict=True):
            assert one.time_s == other.time_s
            np.testing.assert_array_equal(one.image, other.image)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_errors_of_stdin_name_stdin(tmp_path, monkeypatch):
    give_stdin(monkeypatch, b"", tmp_path)
    with (
        pytest.raises(VideoError, match=r"^stdin: the file is empty"),
        open_source(find_sources(["-"])[0]),
    ):
        pass


def test_a_folder_of_images(tmp_path):
    import cv2

    (tmp_path / "1.png").write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1])
    with open_source(*find_sources([str(tmp_path)])) as images:
        assert (images.width, images.height, images.num_frames()) == (64, 48, 1)


def test_stdin_is_bounded_and_checked_by_its_first_bytes(video, tmp_path, monkeypatch):
    (stdin,) = find_sources(["/dev/stdin"])
    give_stdin(monkeypatch, bytes(2**24), tmp_path)
    with (
        pytest.raises(VideoError, match=r"^stdin: not a video: it starts with b"),
        open_source(stdin),
    ):
        pass
    assert sys.stdin.buffer.tell() == 2**20
    monkeypatch.setenv("SPARSEVOD_MAX_STDIN_BYTES", "1000")
    give_stdin(monkeypatch, video.read_bytes(), tmp_path)
    with (
        pytest.raises(VideoError, match=r"expected at most 1,000 bytes, got more"),
        open_source(stdin),
    ):
        pass
    monkeypatch.setenv("SPARSEVOD_MAX_STDIN_BYTES", "-1")
    with pytest.raises(ConfigError, match="SPARSEVOD_MAX_STDIN_BYTES=-1"), open_source(stdin):
        pass


def test_the_copy_of_stdin_has_no_name(video, tmp_path, monkeypatch):
    """Nothing is left if the process is killed."""
    (folder := tmp_path / "temporary").mkdir()
    give_stdin(monkeypatch, video.read_bytes(), folder)
    with open_source(find_sources(["-"])[0]) as reader:
        assert list(folder.iterdir()) == []
        assert reader.num_frames() == 5


def test_pipes_and_devices_are_refused_before_opening(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    os.mkfifo(tmp_path / "list")
    for path, kind in ((tmp_path / "a.mp4", "a named pipe"), (Path("/dev/zero"), "a device")):
        (source,) = find_sources([str(path)])
        with pytest.raises(VideoError, match=f"expected a file, got {kind}"), open_source(source):
            pass
    with pytest.raises(VideoError, match="expected a file, got a named pipe"):
        find_sources([f"@{tmp_path / 'list'}"])
