"""LiveStream with a real server on loopback and frames that encode their number."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sparsevod_core.errors import VideoError
from sparsevod_core.video.live import LiveStream
from sparsevod_core.video.sources import Source

BITS = 8


class Sender:
    """Sends a stream to one connection after the other, controlled by the test, not by a clock.

    Args:
        sizes: (width, height) of each connection's frames.
        num_frames: of each connection.
        at_once: of all frames, those that are sent unasked; each later one waits until it is
            allowed. None: all.
    """

    def __init__(self, sizes=((64, 48),), num_frames=50, at_once=None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections = [(size, num_frames) for size in sizes]
        self._allowed = threading.Semaphore(len(sizes) * num_frames if at_once is None else at_once)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def allow(self, num_frames):
        """Let the sender send this many more frames."""
        self._allowed.release(num_frames)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self.allow(1)
        self._listener.close()
        self._thread.join(10)

    def _serve(self):
        with contextlib.suppress(OSError):  # the listener or the reader was closed
            for size, num_frames in self._connections:
                connection, _ = self._listener.accept()
                with connection:
                    self._send(connection, *size, num_frames)
            self._listener.close()

    def _send(self, connection, width, height, num_frames):
        # FLV: FFmpeg returns a frame at once; with MPEG-TS it would wait for the next one.
        with connection.makefile("wb") as file, av.open(file, "w", format="flv") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.options = {"tune": "zerolatency", "preset": "ultrafast"}
            for number in range(num_frames):
                self._allowed.acquire()
                if self._is_over.is_set():
                    return
                out.mux(stream.encode(draw_number(number, width, height)))
                file.flush()
            out.mux(stream.encode(None))


def draw_number(number: int, width: int, height: int) -> av.VideoFrame:
    """Draw a bar for each bit of the number."""
    bars = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    image = np.broadcast_to(bars.repeat(width // BITS)[None, :, None], (height, width, 3))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")


def numbers(frames) -> list[int]:
    bars = [frame.image.mean((0, 2)).reshape(BITS, -1).mean(1) > 127 for frame in frames]
    return [sum(1 << bit for bit in range(BITS) if of_frame[bit]) for of_frame in bars]


def live(url: str, **options) -> LiveStream:
    return LiveStream(Source("stream", url), patience_s=0.5, **options)


def test_the_newest_frame_wins_over_a_slow_reader(reporter):
    with Sender(at_once=25) as sender, live(sender.url, reporter=reporter) as stream:
        assert (stream.width, stream.height, stream.is_recording) == (64, 48, False)
        frames = iter(stream)
        first = next(frames)
        begun_s = stream.now_s()
        sender.allow(25)
        assert reporter.has_warned.wait(60)  # all others arrived during work on the first
        ended_s = stream.now_s()
        last, *others = frames
    assert others == []
    assert numbers([first])[0] < 25
    assert numbers([last]) == [49]
    assert stream.num_dropped == 48
    assert (first.index, last.index) == (0, 1)
    millisecond = 0.001
    assert begun_s - millisecond <= last.time_s <= ended_s + millisecond
    assert first.time_s < last.time_s


def test_a_reader_that_is_fast_enough_gets_every_frame():
    with Sender(at_once=25) as sender, live(sender.url) as stream:
        frames = iter(stream)
        # FFmpeg returns at once what arrived while it probed the stream.
        while numbers([next(frames)]) != [24]:
            pass
        for number in range(25, 50):
            sender.allow(1)
            assert numbers([next(frames)]) == [number]
        assert list(frames) == []


def test_a_lost_connection_is_restored_and_the_size_stays(reporter):
    with (
        Sender(sizes=[(64, 48), (96, 80)], num_frames=20, at_once=20) as sender,
        live(sender.url, reporter=reporter) as stream,
    ):
        frames = []
        for frame in stream:
            frames.append(frame)
            if numbers([frame]) == [19]:
                sender.allow(20)
        assert stream.num_reconnections == 1
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert numbers(frames).count(19) == 2  # both connections are read to their end
    assert len(frames) + stream.num_dropped == 40
    assert "connection lost" in reporter.warnings[0]
    assert reporter.messages == [f"{sender.url}: reconnected"]
    assert "treating the stream as ended" in reporter.warnings[-1]


def test_it_ends_after_the_duration(reporter):
    with (
        Sender(at_once=25) as sender,
        live(sender.url, duration_s=0.6, reporter=reporter) as stream,
    ):
        frames = list(stream)
        assert stream.now_s() >= 0.6
        assert reporter.warnings == []  # the connection is open, with more frames to come
        sender.allow(25)
    assert frames[-1].time_s <= Fraction(7, 10)


def test_no_server_is_an_error_without_the_password():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # bound, but not listening
        port = silent.getsockname()[1]
        with pytest.raises(VideoError, match=r"tcp://127\.0\.0\.1:\d+: cannot connect") as raised:
            live(f"tcp://user:secret@127.0.0.1:{port}")
    assert "secret" not in raised.value.message


def test_a_stream_has_no_length_and_no_random_access():
    with Sender() as sender, live(sender.url) as stream:
        with pytest.raises(VideoError, match="unknown until it ends") as raised:
            stream.num_frames()
        assert "--support-mode causal" in raised.value.hint
        with pytest.raises(VideoError, match="frame 3"):
            stream.frames_at([3])


def test_a_slow_reader_gets_all_of_a_recording_over_http(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            out.mux(stream.encode(draw_number(number, 64, 48)))
        out.mux(stream.encode(None))
    with served(tmp_path) as url, live(f"{url}/a.mp4") as stream:
        assert stream.is_recording
        frames = []
        for frame in stream:
            frames.append(frame)
            time.sleep(0.01)
        assert numbers(frames) == list(range(30))


def test_a_video_without_a_decoder_is_an_error(tmp_path):
    with av.open(tmp_path / "a.mkv", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        out.mux(stream.encode(draw_number(1, 64, 48)))
        out.mux(stream.encode(None))
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content.replace(b"V_MPEG4/ISO/AVC", b"V_UNKNOWN/CODEC"))
    with served(tmp_path) as url, pytest.raises(VideoError, match="no decoder for its video"):
        live(f"{url}/a.mkv")


def test_an_unexpected_error_of_the_thread_reaches_the_reader(monkeypatch):
    frames = LiveStream._frames

    def fail(stream, container):
        for number, frame in enumerate(frames(stream, container)):
            if number == 3:
                raise RuntimeError("unexpected")
            yield frame

    monkeypatch.setattr(LiveStream, "_frames", fail)
    with (
        Sender() as sender,
        live(sender.url) as stream,
        pytest.raises(RuntimeError, match="unexpected"),
    ):
        list(stream)


def test_a_playlist_from_the_network_cannot_open_files(tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "a.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/secret.txt\n"
        "#EXT-X-ENDLIST\n"
    )
    with served(tmp_path) as url, pytest.raises(VideoError):
        live(f"{url}/a.m3u8")


@contextlib.contextmanager
def served(folder: Path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def reporter():
    class Listener:
        def __init__(self):
            self.messages, self.warnings = [], []
            self.has_warned = threading.Event()

        def message(self, text):
            self.messages.append(text)

        def warning(self, text):
            self.warnings.append(text)
            self.has_warned.set()

    return Listener()
