"""Network streams and cameras: always the newest frame, with reconnection."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.pixel_limit import max_pixels, require_few_pixels
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.structures import Frame
from sparsevod_core.video.hdr import HdrToSdr
from sparsevod_core.video.pixels import Orientation, ToRgb
from sparsevod_core.video.sources import Source

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
ANALYSED_US = 500_000  # time to probe a stream; FFmpeg's default is 5 s or more
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 4.0
# None of them opens local files, whatever a playlist from the network contains.
PROTOCOLS = "rtsp,rtp,rtcp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,srt"
CLOCK = Fraction(1, 1000)
_HINT = "use --support-mode causal: a stream only has past frames"
_CAMERAS = {  # FFmpeg's input device, and its name for a camera number
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
}


class LiveStream:
    """A stream or camera as upright RGB frames, yielded as they arrive.

    A thread receives frames. If the consumer is slower than the source, frames are dropped, so that
    each one yielded is the newest. A recording read over the network (it has a length) is yielded
    completely, without drops. Use it as a context manager, and iterate once.

    Frames are numbered as they are yielded. Their time is when they arrived, in seconds after the
    first one, to the millisecond, because a camera's own times restart with each connection.

    Args:
        source: Source of kind `stream` or `camera`.
        duration_s: Stop after this time; None: when the source ends.
        patience_s: How long to try to reconnect before treating the stream as ended.
        reporter: Receives messages about lost and restored connections.

    Attributes:
        width, height: Size of the frames in pixels; later frames of another size are scaled.
        frame_rate: Frame rate declared by the source, None if it declares none.
        num_dropped: Number of frames that were received but not yielded.
        num_reconnections: Number of connections after the first one.
        is_recording: Whether the source has a length.

    Raises:
        VideoError: The connection fails, or no frame arrives.
        ConfigError: Cameras are not supported on this system.
    """

    time_base = CLOCK
    start_s = Fraction(0)
    has_audio = False
    notes: Sequence[str] = ()
    declared_num_frames: int | None = None

    def __init__(
        self,
        source: Source,
        *,
        duration_s: float | None = None,
        patience_s: float = 10.0,
        reporter: Reporter | None = None,
    ) -> None:
        self.path = str(source)
        self._place, self._format = _device(source)
        self._duration_s = duration_s
        self._patience_s = patience_s
        self._reporter = reporter or SilentReporter()
        self._changed = threading.Condition()
        self._newest: tuple[av.VideoFrame, float] | None = None
        self._failure: Exception | None = None
        self._is_over = self._is_closed = False
        self.num_dropped = self.num_reconnections = 0
        container, frames = self._connect()
        first = next(frames, None)
        if first is None:
            container.close()
            raise VideoError(f"{self.path}: no frame received")
        self.is_recording = bool(container.duration)
        stream = container.streams.video[0]
        self.frame_rate: Fraction | None = stream.average_rate
        self.pixel_aspect: Fraction | None = stream.sample_aspect_ratio or None
        orientation = Orientation.of(first)
        hdr = HdrToSdr.of(stream.codec_context)
        self._to_rgb = ToRgb(first.width, first.height, orientation, hdr)
        self.width, self.height = first.width, first.height
        if orientation.is_transposed:
            self.width, self.height = self.height, self.width
            self.pixel_aspect = self.pixel_aspect and 1 / self.pixel_aspect
        self._started_s = time.monotonic()
        self._offer(first)
        self._thread = threading.Thread(
            target=self._receive, args=(container, frames), name="live stream", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(OPEN_TIMEOUT_S + READ_TIMEOUT_S)

    def now_s(self) -> float:
        """Return the current time in seconds, on the clock of the frames' times."""
        return time.monotonic() - self._started_s

    def __iter__(self) -> Iterator[Frame]:
        """Yield frames as they arrive.

        Raises:
            VideoError: A recording breaks off.
        """
        index, last_ms = 0, -1
        while (taken := self._take()) is not None:
            frame, arrived_s = taken
            last_ms = max(round(1000 * arrived_s), last_ms + 1)
            yield Frame(index, last_ms * CLOCK, self._to_rgb(frame))
            index += 1
        if self._failure is not None:
            raise self._failure

    def num_frames(self) -> int:
        """Fail, because the length of a stream is unknown.

        Raises:
            VideoError: Always.
        """
        raise VideoError(
            f"{self.path}: the length of a stream is unknown until it ends", hint=_HINT
        )

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Fail, because only the newest frame is available.

        Raises:
            VideoError: Always.
        """
        number = indices[0] if indices else 0
        raise VideoError(f"{self.path}: cannot seek to frame {number} of a stream", hint=_HINT)

    def _take(self) -> tuple[av.VideoFrame, float] | None:
        """Wait for the newest frame and return it with its arrival time; None at the end."""
        with self._changed:
            while True:
                left_s = None if self._duration_s is None else self._duration_s - self.now_s()
                if left_s is not None and left_s <= 0:
                    return None
                if self._newest is not None:
                    taken, self._newest = self._newest, None
                    self._changed.notify_all()
                    return taken
                if self._is_over or self._is_closed:
                    return None
                self._changed.wait(left_s)

    def _offer(self, frame: av.VideoFrame) -> bool:
        """Make a frame the newest one; return False once the stream is closed."""
        with self._changed:
            if self.is_recording:
                self._changed.wait_for(lambda: self._newest is None or self._is_closed)
            elif self._newest is not None:
                self.num_dropped += 1
            self._newest = frame, self.now_s()
            self._changed.notify_all()
            return not self._is_closed

    def _receive(self, container: InputContainer, frames: Iterator[av.VideoFrame]) -> None:
        """Receive frames of one connection after the other; runs in the thread."""
        try:
            self._receive_all(container, frames)
        except Exception as error:  # the reader would wait for this thread forever
            self._failure = error
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _receive_all(self, container: InputContainer, frames: Iterator[av.VideoFrame]) -> None:
        reason = "closed by the source"
        while True:
            try:
                with container:
                    for frame in frames:
                        if not self._offer(frame):
                            return
            except VideoError as error:
                if self.is_recording:
                    raise
                reason = error.message
            again = None if self.is_recording else self._reconnect(reason)
            if again is None:
                return
            container, frames = again

    def _reconnect(self, reason: str) -> tuple[InputContainer, Iterator[av.VideoFrame]] | None:
        """Return a new connection, None if there is none within `patience_s`."""
        self._reporter.warning(f"{self.path}: connection lost ({reason}); reconnecting")
        give_up_s = time.monotonic() + self._patience_s
        wait_s = FIRST_WAIT_S
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._is_closed, wait_s):
                    return None
            try:
                connection = self._connect()
            except VideoError as error:
                if time.monotonic() + wait_s > give_up_s:
                    self._reporter.warning(f"{error.message}; treating the stream as ended")
                    return None
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            self.num_reconnections += 1
            self._reporter.message(f"{self.path}: reconnected")
            return connection

    def _connect(self) -> tuple[InputContainer, Iterator[av.VideoFrame]]:
        import av

        options = {"flags": "low_delay", "analyzeduration": str(ANALYSED_US)}
        if self._format is None:
            options["protocol_whitelist"] = PROTOCOLS
        if self._place.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # no lost packets, passes firewalls
        try:
            container = av.open(
                self._place,
                format=self._format,
                options=options,
                timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            )
        except (av.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            if isinstance(error, av.ExitError):  # the timeout
                reason = f"no video within {OPEN_TIMEOUT_S:g} s"
            raise VideoError(f"{self.path}: cannot connect: {reason}") from error
        if not container.streams.video:
            container.close()
            raise VideoError(f"{self.path}: no video stream")
        stream = container.streams.video[0]
        context = stream.codec_context
        if context is None:
            container.close()
            raise VideoError(f"{self.path}: FFmpeg has no decoder for its video")
        require_few_pixels(self.path, context.width, context.height, VideoError)
        context.options = {"max_pixels": str(max_pixels())}  # the size may change
        stream.thread_type = "SLICE"  # frame threads delay frames
        return container, self._frames(container)

    def _frames(self, container: InputContainer) -> Iterator[av.VideoFrame]:
        """Yield the frames of one connection, skipping broken packets.

        Raises:
            VideoError: The connection is lost.
        """
        import av

        try:
            for packet in container.demux(video=0):
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    continue  # lost packets, or a connection that starts between keyframes
                yield from frames
        except (av.FFmpegError, OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoError(f"{self.path}: {reason}") from error


def _device(source: Source) -> tuple[str, str | None]:
    """Return FFmpeg's URL and input format; None: FFmpeg detects the format."""
    if source.kind == "stream":
        return source.place, None
    if sys.platform not in _CAMERAS:
        raise ConfigError(f"camera {source.place}: cameras are not supported on {sys.platform}")
    device, name = _CAMERAS[sys.platform]
    return name.format(source.place), device
