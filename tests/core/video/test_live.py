"""Live streams: a real server on loopback, and frames whose number can be read from them."""

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
    """Sends MPEG-TS to whoever connects, connection by connection.

    Args:
        sizes: (width, height) of each connection's frames.
        num_frames: of each connection.
        interval_s: from one frame to the next.
    """

    def __init__(self, sizes=((64, 48),), num_frames=50, interval_s=0.04) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._interval_s = interval_s
        self._connections = [(size, num_frames) for size in sizes]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._listener.close()
        self._thread.join(10)

    def _serve(self):
        with contextlib.suppress(OSError):  # the listener or the reader is gone
            for size, num_frames in self._connections:
                connection, _ = self._listener.accept()
                with connection:
                    self._send(connection, *size, num_frames)
            self._listener.close()

    def _send(self, connection, width, height, num_frames):
        with connection.makefile("wb") as file, av.open(file, "w", format="mpegts") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.options = {"tune": "zerolatency", "preset": "ultrafast"}
            for number in range(num_frames):
                out.mux(stream.encode(picture(number, width, height)))
                file.flush()
                if self._is_over.wait(self._interval_s):
                    return
            out.mux(stream.encode(None))


def picture(number: int, width: int, height: int) -> av.VideoFrame:
    """A bar for each bit."""
    bars = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    image = np.broadcast_to(bars.repeat(width // BITS)[None, :, None], (height, width, 3))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")


def numbers(frames) -> list[int]:
    bars = [frame.image.mean((0, 2)).reshape(BITS, -1).mean(1) > 127 for frame in frames]
    return [sum(1 << bit for bit in range(BITS) if of_frame[bit]) for of_frame in bars]


def live(url: str, **options) -> LiveStream:
    return LiveStream(Source("stream", url), patience_s=0.5, **options)


def test_the_newest_frame_wins_over_a_slow_reader():
    with Sender() as sender, live(sender.url) as stream:
        assert (stream.width, stream.height, stream.is_recording) == (64, 48, False)
        frames = []
        for frame in stream:
            frames.append(frame)
            time.sleep(0.3)  # a model that is seven times as slow as the source
        seen = numbers(frames)
        assert seen == sorted(set(seen))  # never one twice, never back
        assert seen[-1] >= 45  # no backlog that grows: near the end when the source ends
        assert len(seen) + stream.num_dropped == 50
        assert [frame.index for frame in frames] == list(range(len(frames)))
        times = [frame.time_s for frame in frames]
        assert times == sorted(set(times)) and 1 < times[-1] < 5


def test_a_reader_that_is_fast_enough_gets_every_frame():
    # So slow that it is fast enough on a machine with other work, too.
    with Sender(num_frames=34, interval_s=0.1) as sender, live(sender.url) as stream:
        first, second, *others, last = numbers(stream)
    # FFmpeg gives at once what came while it found out what the stream is, and the last two.
    assert first == 0 and second < 20
    assert others[:10] == list(range(second + 1, second + 11))
    assert last == 33


def test_a_lost_connection_is_made_again_and_the_size_stays(reporter):
    with (
        Sender(sizes=[(64, 48), (96, 80)], num_frames=20) as sender,
        live(sender.url, reporter=reporter) as stream,
    ):
        frames = list(stream)
        assert stream.num_reconnections == 1
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert numbers(frames).count(19) == 2  # both connections to their end
    assert len(frames) + stream.num_dropped == 40
    assert "connection lost" in reporter.warnings[0]
    assert reporter.messages == [f"{sender.url}: connected again"]
    assert "counts as over" in reporter.warnings[-1]


def test_it_ends_after_the_duration():
    with Sender(num_frames=250) as sender, live(sender.url, duration_s=0.6) as stream:
        frames = list(stream)
        assert 0.6 <= stream.now_s() < 5
    assert frames[-1].time_s <= Fraction(7, 10)


def test_no_server_is_an_error_without_the_password():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(VideoError, match=r"tcp://127\.0\.0\.1:\d+: cannot connect") as raised:
        live(f"tcp://user:secret@127.0.0.1:{port}")
    assert "secret" not in raised.value.message


def test_what_a_stream_cannot_tell():
    with Sender() as sender, live(sender.url) as stream:
        with pytest.raises(VideoError, match="not known before its end") as raised:
            stream.num_frames()
        assert "--support causal" in raised.value.hint
        with pytest.raises(VideoError, match="no frame 3"):
            stream.frames_at([3])


def test_a_recording_over_http_is_given_whole_to_a_slow_reader(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            out.mux(stream.encode(picture(number, 64, 48)))
        out.mux(stream.encode(None))
    with served(tmp_path) as url, live(f"{url}/a.mp4") as stream:
        assert stream.is_recording
        frames = []
        for frame in stream:
            frames.append(frame)
            time.sleep(0.01)
        assert numbers(frames) == list(range(30))


def test_a_playlist_from_the_network_reaches_no_file(tmp_path):
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

        def message(self, text):
            self.messages.append(text)

        def warning(self, text):
            self.warnings.append(text)

    return Listener()
