"""Network streams and cameras: the newest frame wins, and a lost connection is made again."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.structures import Frame
from sparsevod_core.video.pixels import Orientation, ToRgb
from sparsevod_core.video.sources import Source

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
ANALYSED_US = 500_000  # of a stream, to find out what it is; FFmpeg's own are 5 seconds and more
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 4.0
# None of them reaches for a file, whatever a playlist from the network says.
PROTOCOLS = "rtsp,rtp,rtcp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,srt"
CLOCK = Fraction(1, 1000)
_CAMERAS = {  # FFmpeg's input device and what it calls the first camera
    "linux": ("v4l2", "/dev/video{}"),
    "darwin": ("avfoundation", "{}:none"),
}


class LiveStream:
    """A stream or camera as upright RGB frames at the size of the first, as they arrive.

    A thread receives. Where whoever iterates is slower than the source, frames between are
    dropped, so that each frame given is the newest there is. A recording that is read over the
    network, which has a length, is given whole, frame by frame, and then ends. Use it as a context
    manager, and iterate once.

    Frames are numbered as they are given; their time is when they arrived, in seconds after the
    first, to the millisecond: what a camera says of time starts anew with each connection.

    Args:
        source: `stream` or `camera`.
        duration_s: ends after this long; None: when the source does.
        patience_s: how long to try to connect again before the stream counts as over.
        reporter: told of lost and new connections.

    Attributes:
        width, height: of all frames in pixels; a source that changes its size is scaled to it.
        frame_rate: what the source declares, None where it is silent.
        num_dropped: frames that came and were not given.
        num_reconnections: connections after the first.
        is_recording: whether it has a length.

    Raises:
        VideoError: no connection, or no frame comes.
        ConfigError: a camera on a system whose cameras are not known here.
    """

    time_base = CLOCK
    start_s = Fraction(0)
    has_audio = False
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
        self._failure: VideoError | None = None
        self._is_over = self._is_closed = False
        self.num_dropped = self.num_reconnections = 0
        container, pictures = self._connect()
        first = next(pictures, None)
        if first is None:
            container.close()
            raise VideoError(f"{self.path}: no frame comes")
        self.is_recording = bool(container.duration)
        stream = container.streams.video[0]
        self.frame_rate: Fraction | None = stream.average_rate
        self.pixel_aspect: Fraction | None = stream.sample_aspect_ratio or None
        orientation = Orientation.of(first)
        self._to_rgb = ToRgb(first.width, first.height, orientation)
        self.width, self.height = first.width, first.height
        if orientation.is_transposed:
            self.width, self.height = self.height, self.width
            self.pixel_aspect = self.pixel_aspect and 1 / self.pixel_aspect
        self._started_s = time.monotonic()
        self._offer(first)
        self._thread = threading.Thread(
            target=self._receive, args=(container, pictures), name="live stream", daemon=True
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
        """The clock in which frames have their times."""
        return time.monotonic() - self._started_s

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they come.

        Raises:
            VideoError: a recording that breaks off.
        """
        index, last_ms = 0, -1
        while (taken := self._take()) is not None:
            picture, arrived_s = taken
            last_ms = max(round(1000 * arrived_s), last_ms + 1)
            yield Frame(index, last_ms * CLOCK, self._to_rgb(picture))
            index += 1
        if self._failure is not None:
            raise self._failure

    def num_frames(self) -> int:
        """Nobody knows.

        Raises:
            VideoError: always.
        """
        raise VideoError(
            f"{self.path}: how many frames a stream has is not known before its end",
            hint="only frames that are past can support others: --support-mode causal",
        )

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Only the newest can be had.

        Raises:
            VideoError: always.
        """
        raise VideoError(
            f"{self.path}: a stream has no frame {indices[0] if indices else 0} to go to",
            hint="only frames that are past can support others: --support-mode causal",
        )

    def _take(self) -> tuple[av.VideoFrame, float] | None:
        """The newest frame, once it is there; None at the end."""
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

    def _offer(self, picture: av.VideoFrame) -> bool:
        """Put a frame where the next one is taken from; False: nobody wants any more."""
        with self._changed:
            if self.is_recording:
                self._changed.wait_for(lambda: self._newest is None or self._is_closed)
            elif self._newest is not None:
                self.num_dropped += 1
            self._newest = picture, self.now_s()
            self._changed.notify_all()
            return not self._is_closed

    def _receive(self, container: InputContainer, pictures: Iterator[av.VideoFrame]) -> None:
        """In the thread: frames of one connection after the other."""
        reason = "the source ended it"
        while True:
            try:
                with container:
                    for picture in pictures:
                        if not self._offer(picture):
                            return
            except VideoError as error:
                if self.is_recording:
                    self._failure = error
                reason = error.message
            again = None if self.is_recording else self._connect_again(reason)
            if again is None:
                break
            container, pictures = again
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _connect_again(self, reason: str) -> tuple[InputContainer, Iterator[av.VideoFrame]] | None:
        """A new connection; None where there was none for `patience_s`."""
        self._reporter.warning(f"{self.path}: connection lost ({reason}); connecting again")
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
                    self._reporter.warning(f"{error.message}; the stream counts as over")
                    return None
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            self.num_reconnections += 1
            self._reporter.message(f"{self.path}: connected again")
            return connection

    def _connect(self) -> tuple[InputContainer, Iterator[av.VideoFrame]]:
        import av

        options = {"flags": "low_delay", "analyzeduration": str(ANALYSED_US)}
        if self._format is None:
            options["protocol_whitelist"] = PROTOCOLS
        if self._place.startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # whole frames, and through firewalls
        try:
            container = av.open(
                self._place,
                format=self._format,
                options=options,
                timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S),
            )
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"{self.path}: cannot connect: {getattr(error, 'strerror', None) or error}"
            ) from error
        if not container.streams.video:
            container.close()
            raise VideoError(f"{self.path}: no video stream in it")
        container.streams.video[0].thread_type = "SLICE"  # frame threads hold frames back
        return container, self._pictures(container)

    def _pictures(self, container: InputContainer) -> Iterator[av.VideoFrame]:
        """Those of one connection; after a broken packet it goes on with the next that decodes.

        Raises:
            VideoError: the connection breaks.
        """
        import av

        try:
            for packet in container.demux(video=0):
                try:
                    pictures = packet.decode()
                except av.InvalidDataError:
                    continue  # cameras lose packets, and a connection starts amid a group
                yield from pictures
        except (av.FFmpegError, OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VideoError(f"{self.path}: {reason}") from error


def _device(source: Source) -> tuple[str, str | None]:
    """What FFmpeg opens, and as which format; None: it finds out."""
    if source.kind == "stream":
        return source.place, None
    if sys.platform not in _CAMERAS:
        raise ConfigError(f"camera {source.place}: cameras are not read on {sys.platform}")
    device, name = _CAMERAS[sys.platform]
    return name.format(source.place), device
