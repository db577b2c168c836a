"""Audio of a source, copied or re-encoded into an output video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from sparsevod_core.video.clock import SHORTEST_FALL_S, Jump, is_free_running, longest_gap_s
from sparsevod_core.video.containers import Container
from sparsevod_core.video.decode import codec_name, foreign_errors, open_container

if TYPE_CHECKING:
    import av
    from av.audio.stream import AudioStream
    from av.container import OutputContainer

_INTERLEAVED_S = 5  # audio and video of a recording are not further apart
_ROUNDING_S = 0.05  # error of packet times that is not a gap


class AudioTracks:
    """All audio streams of a file, written to another file in step with its video.

    Packets are copied if the container supports their codec, otherwise re-encoded. Broken packets
    and streams that cannot be decoded are left out: bad audio must not cost the video.

    Args:
        path: Path of the source file.
        output: Output file, to which nothing has been written yet.
        container: Container of the output file.
        start_s: Time in the source, in seconds, that is zero in the output.
        jumps: Places where the clock of the source's video jumps, see `VideoReader.jumps`; they are
            appended before the frames behind them are written.

    Attributes:
        lost_after_s: Time in the source, in seconds, after which audio is left out because its
            clock jumps where that of the video does not; None if nothing is left out.
        num_lost: Number of streams that can be neither copied nor re-encoded.
    """

    def __init__(
        self,
        path: Path,
        output: OutputContainer,
        container: Container,
        start_s: Fraction,
        jumps: Sequence[Jump] = (),
    ) -> None:
        self._output = output
        self._input = open_container(path)
        self._start_s = start_s
        self._jumps = jumps
        self._num_jumps = 0  # of the video, before the current packet
        self._longest_gap_s = longest_gap_s(is_free_running(self._input))
        self._clock_s: dict[int, Fraction] = {}  # time of the last packet, by stream
        self.lost_after_s: Fraction | None = None
        self._tracks: dict[int, _Copied | _Encoded] = {}
        self.num_lost = 0
        for stream in self._input.streams.audio:
            track = _track(stream, output, container)
            if track is None:
                self.num_lost += 1
            else:
                self._tracks[stream.index] = track
        streams = [s for s in self._input.streams.audio if s.index in self._tracks]
        self._packets = self._demux(streams) if streams else iter(())
        self._waiting: av.Packet | None = next(self._packets, None)

    def write_until(self, time_s: Fraction | None) -> None:
        """Write all packets that begin before this output time in seconds; None: all the rest."""
        while self._waiting is not None:
            packet = self._waiting
            if not self._follow_jump(packet):
                if time_s is None:
                    self.lost_after_s = self._clock_s[packet.stream.index]
                return
            if time_s is not None and self._output_s(packet) >= time_s:
                return
            self._clock_s[packet.stream.index] = _time_s(packet)
            self._write(packet)
            self._waiting = next(self._packets, None)

    def flush(self) -> None:
        """Write what the encoders still hold; call once, at the end."""
        import av

        for track in self._tracks.values():
            with suppress(av.FFmpegError):
                self._output.mux(track.flush())

    def close(self) -> None:
        """Close the source."""
        self._input.close()

    def _demux(self, streams: list[AudioStream]) -> Iterator[av.Packet]:
        errors = foreign_errors()  # evaluated here, because Python may be shutting down later
        try:
            for packet in self._input.demux(*streams):
                if packet.dts is not None and packet.pts is not None and not packet.is_corrupt:
                    yield packet
        except errors:
            return  # the file breaks off; reading its video reports that

    def _follow_jump(self, packet: av.Packet) -> bool:
        """Find the jump of the video that belongs to a jump of the audio.

        Returns:
            False if the video has not had this jump, so that the packet's time is unknown.
        """
        time_s, last_s = _time_s(packet), self._clock_s.get(packet.stream.index)
        if last_s is None or -SHORTEST_FALL_S <= time_s - last_s <= self._longest_gap_s:
            return True
        for number in range(self._num_jumps, len(self._jumps)):
            if abs(self._jumps[number].stamp_s - time_s) < _INTERLEAVED_S:
                self._num_jumps = number + 1
                return True
        # Another stream may have brought this one there already.
        return self._num_jumps > 0 and (
            abs(self._jumps[self._num_jumps - 1].stamp_s - time_s) < _INTERLEAVED_S
        )

    def _output_s(self, packet: av.Packet) -> Fraction:
        shift_s = self._jumps[self._num_jumps - 1].shift_s if self._num_jumps else Fraction(0)
        return _time_s(packet) + shift_s - self._start_s

    def _write(self, packet: av.Packet) -> None:
        import av

        shift = round((self._output_s(packet) - _time_s(packet)) / Fraction(packet.time_base))
        packet.dts, packet.pts = (packet.dts or 0) + shift, (packet.pts or 0) + shift
        with suppress(av.FFmpegError):
            self._output.mux(self._tracks[packet.stream.index].convert(packet))


def _time_s(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * Fraction(packet.time_base)


def _track(
    stream: AudioStream, output: OutputContainer, container: Container
) -> _Copied | _Encoded | None:
    """Return the copied stream, or the re-encoded one; None if neither is possible."""
    import av

    if stream.codec_context is None:  # FFmpeg has no decoder
        return None
    is_copied = container.audio is None or codec_name(stream) in container.audio
    for kind in (_Copied, _Encoded) if is_copied else (_Encoded,):
        with suppress(av.FFmpegError, ValueError):
            return kind(stream, output, container)
    return None


class _Copied:
    """Audio stream whose packets are copied."""

    def __init__(self, stream: AudioStream, output: OutputContainer, _: Container) -> None:
        self._stream = output.add_stream_from_template(stream)

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        packet.stream = self._stream
        return [packet]

    def flush(self) -> list[av.Packet]:
        return []


class _Encoded:
    """Audio stream that is decoded and encoded again with the container's encoder."""

    def __init__(self, stream: AudioStream, output: OutputContainer, container: Container) -> None:
        import av

        decoder = stream.codec_context
        rates = av.Codec(container.audio_encoder, "w").audio_rates or [decoder.sample_rate]
        rate = min((r for r in rates if r >= decoder.sample_rate), default=max(rates))
        layout = "mono" if decoder.layout.nb_channels == 1 else "stereo"
        encoder = output.add_stream(container.audio_encoder, rate=rate, layout=layout)
        assert isinstance(encoder, av.AudioStream)  # all audio encoders are
        self._encoder = encoder
        self._resampler: av.AudioResampler | None = None
        self._next_sample: int | None = None

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        frames = cast("list[av.AudioFrame]", packet.decode())
        return [new for frame in frames for new in self._encode(self._without_overlap(frame))]

    def _without_overlap(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Set the frame's time in samples, so that rounded container times do not overlap."""
        rate = frame.sample_rate
        first = round((frame.pts or 0) * Fraction(frame.time_base or 1) * rate)
        if self._next_sample is not None and first < self._next_sample + _ROUNDING_S * rate:
            first = self._next_sample
        frame.pts, frame.time_base = first, Fraction(1, rate)
        self._next_sample = first + frame.samples
        return frame

    def flush(self) -> list[av.Packet]:
        packets = [] if self._resampler is None else self._encode(None)
        return [*packets, *self._encoder.encode(None)]

    def _encode(self, frame: av.AudioFrame | None) -> list[av.Packet]:
        import av

        if self._resampler is None:
            context = self._encoder.codec_context
            context.open(strict=False)  # the frame size is unknown before
            self._resampler = av.AudioResampler(
                context.format, context.layout, context.rate, context.frame_size or None
            )
        return [
            packet
            for piece in self._resampler.resample(frame)
            for packet in self._encoder.encode(piece)
        ]
