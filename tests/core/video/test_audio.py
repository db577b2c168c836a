"""Audio: copied if the container supports it, else re-encoded; it ends with a truncated video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from sparsevod_core.video.clock import Jump
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.writer import VideoWriter

RATE = 44100
FRAME_RATE = Fraction(25)


def make(path: Path, codec: str, seconds: int = 2, rate: int = RATE) -> Path:
    """Black frames, and a beep in the second half of each second."""
    with av.open(str(path), "w") as output:
        is_webm = path.suffix == ".webm"
        video = output.add_stream("libvpx-vp9" if is_webm else "libx264", rate=FRAME_RATE)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        rate = 48000 if codec == "libopus" else rate
        audio = output.add_stream(codec, rate=rate, layout="stereo")
        for number in range(int(seconds * FRAME_RATE)):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, 1 / FRAME_RATE
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        audio.codec_context.open(strict=False)
        step = audio.codec_context.frame_size or 1024
        resampler = av.AudioResampler(audio.codec_context.format, "stereo", rate, step)
        t = np.arange(seconds * rate) / rate
        wave = np.sin(2 * np.pi * 440 * t) * (t % 1 >= 0.5) * 0.5
        sound = av.AudioFrame.from_ndarray(
            np.stack([wave, wave]).astype(np.float32), "fltp", "stereo"
        )
        sound.sample_rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        for piece in [*resampler.resample(sound), *resampler.resample(None)]:
            output.mux(audio.encode(piece))
        output.mux(audio.encode(None))
    return path


def copy(source: Path, target: Path, *, frames: int = 50, truncated: bool = False) -> Path:
    with VideoWriter(target, 32, 32, frame_rate=FRAME_RATE, audio_from=source) as writer:
        for number in range(frames):
            writer.write(np.zeros((32, 32, 3), np.uint8), number / FRAME_RATE)
        writer.finish(truncated=truncated)
    return target


def packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(audio=0)
            if packet.size
        ]


def loudness(path: Path) -> np.ndarray:
    """Return the root mean square of each quarter of a second."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", "mono", 16000)
        total = np.zeros(16000 * 10, np.float32)
        for sound in container.decode(stream):
            for piece in resampler.resample(sound):
                start = round(float(piece.time) * 16000)
                values = piece.to_ndarray()[0]
                skipped = max(-start, 0)
                total[start + skipped : start + len(values)] = values[skipped:]
    return np.sqrt((total[: 16000 * 2].reshape(8, 4000) ** 2).mean(axis=1))


BEEPS = np.array([0, 0, 0.5, 0.5, 0, 0, 0.5, 0.5])


@pytest.mark.parametrize(
    ("source", "codec", "target"),
    [
        ("in.mp4", "aac", "out.mp4"),
        ("in.ts", "aac", "out.mp4"),
        ("in.mkv", "libopus", "out.mp4"),
        ("in.mkv", "pcm_s16le", "out.mkv"),
        ("in.webm", "libopus", "out.webm"),
    ],
)
def test_copied_unchanged(tmp_path: Path, source: str, codec: str, target: str) -> None:
    original = make(tmp_path / source, codec)
    with av.open(str(original)) as container:
        start_s = container.streams.video[0].start_time * container.streams.video[0].time_base
        is_broadcast = container.format.name == "mpegts"
    written = tmp_path / target
    shift = start_s if is_broadcast else Fraction(0)
    with VideoWriter(
        written, 32, 32, frame_rate=FRAME_RATE, audio_from=original, start_s=shift
    ) as writer:
        for number in range(50):
            writer.write(np.zeros((32, 32, 3), np.uint8), number / FRAME_RATE)
        writer.finish(truncated=False)
    before, after = packets(original), packets(written)
    if not is_broadcast:  # there each packet has an additional header
        assert [content for _, content in after] == [content for _, content in before]
    assert len(after) == len(before)
    tolerance = Fraction(1, 1000)  # rounding of containers
    for (time_before, _), (time_after, _) in zip(before, after, strict=True):
        assert abs(time_before - shift - time_after) <= tolerance
    assert loudness(written) == pytest.approx(BEEPS, abs=0.06)


@pytest.mark.parametrize(
    ("source", "codec", "target", "wanted"),
    [
        ("in.mkv", "pcm_s16le", "out.mp4", "aac"),
        ("in.mp4", "aac", "out.webm", "opus"),
        ("in.mkv", "mp2", "out.mp4", "aac"),
        ("in.mkv", "flac", "out.mov", "aac"),
    ],
)
def test_reencoded_if_the_container_needs_it(
    tmp_path: Path, source: str, codec: str, target: str, wanted: str
) -> None:
    written = copy(make(tmp_path / source, codec), tmp_path / target)
    with av.open(str(written)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == wanted
    assert loudness(written) == pytest.approx(BEEPS, abs=0.06)


def test_what_even_matroska_cannot_hold_is_reencoded(tmp_path: Path) -> None:
    source = make(tmp_path / "in.flv", "adpcm_swf")
    written = copy(source, tmp_path / "out.mkv")
    with av.open(str(written)) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == "aac"
    assert loudness(written) == pytest.approx(loudness(source), abs=0.06)


def test_a_rate_that_the_encoder_lacks_becomes_the_nearest(tmp_path: Path) -> None:
    for rate, written_rate in ((192000, 96000), (37800, 44100)):
        source = make(tmp_path / f"{rate}.mkv", "pcm_s16le", rate=rate)
        written = copy(source, tmp_path / f"{rate}.mp4")
        with av.open(str(written)) as container:
            assert container.streams.audio[0].codec_context.sample_rate == written_rate
        assert loudness(written) == pytest.approx(BEEPS, abs=0.06)


def test_audio_without_a_decoder_is_left_out_and_said(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mov", "pcm_s16le")
    content = source.read_bytes()
    assert content.count(b"sowt") == 1
    source.write_bytes(content.replace(b"sowt", b"ac-4"))
    with VideoWriter(
        tmp_path / "out.mp4", 32, 32, frame_rate=FRAME_RATE, audio_from=source
    ) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        writer.finish(truncated=False)
        assert writer.notes == ["1 audio stream left out: FFmpeg cannot decode or write the codec"]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.video) == 1 and not container.streams.audio


def test_a_truncated_video_has_no_audio_after_its_end(tmp_path: Path) -> None:
    written = copy(
        make(tmp_path / "in.mp4", "aac"), tmp_path / "out.mp4", frames=20, truncated=True
    )
    last_s, _ = packets(written)[-1]
    assert Fraction(7, 10) < last_s < Fraction(8, 10)


def test_audio_longer_than_the_video_is_kept(tmp_path: Path) -> None:
    original = make(tmp_path / "in.mp4", "aac")
    assert packets(copy(original, tmp_path / "out.mp4", frames=20)) == packets(original)


def test_all_streams_are_kept_and_none_is_no_error(tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    with VideoWriter(silent, 32, 32, frame_rate=None) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
    with av.open(str(copy(silent, tmp_path / "out.mp4"))) as container:
        assert not container.streams.audio
    with av.open(str(copy(make(tmp_path / "in.mp4", "aac"), tmp_path / "out.gif"))) as container:
        assert not container.streams.audio


def test_a_broken_source_loses_only_audio(tmp_path: Path) -> None:
    whole = make(tmp_path / "in.mkv", "aac")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    written = copy(cut, tmp_path / "out.mp4")
    assert 0 < len(packets(written)) < len(packets(whole))


def test_audio_follows_the_picture_where_the_clock_starts_again(tmp_path: Path) -> None:
    part = make(tmp_path / "part.ts", "aac", seconds=1).read_bytes()
    (tmp_path / "in.ts").write_bytes(part + part)
    target = tmp_path / "out.mp4"
    with (
        VideoReader(tmp_path / "in.ts") as reader,
        VideoWriter(
            target,
            32,
            32,
            frame_rate=FRAME_RATE,
            time_base=reader.time_base,
            audio_from=reader.path,
            start_s=reader.start_s,
            jumps=reader.jumps,
        ) as writer,
    ):
        for frame in reader:
            writer.write(frame.image, frame.time_s - reader.start_s)
        writer.finish(truncated=False)
        assert writer.notes == []
    assert loudness(target) == pytest.approx(BEEPS, abs=0.1)


def test_audio_that_jumps_alone_is_left_out_from_there_on(tmp_path: Path) -> None:
    part = make(tmp_path / "part.ts", "aac", seconds=1).read_bytes()
    (tmp_path / "in.ts").write_bytes(part + part)
    jumps = [Jump(Fraction(10), Fraction(-10))]  # elsewhere than the audio
    with VideoWriter(
        tmp_path / "out.mp4", 32, 32, frame_rate=None, audio_from=tmp_path / "in.ts", jumps=jumps
    ) as writer:
        writer.write(np.zeros((32, 32, 3), np.uint8))
        writer.finish(truncated=False)
        assert "the sound ends at 1." in writer.notes[0]
    assert packets(tmp_path / "out.mp4")[-1][0] < 3
