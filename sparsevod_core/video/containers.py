"""Containers and codecs of output videos, and their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from sparsevod_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Codec:
    """Video codec.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        crf: Default constant rate factor: output that looks about like the source.
        max_crf: Largest constant rate factor (lowest quality); None: not supported.
        options: Options of the encoder.
        pixels: Pixel format; `pal8` is a palette of 256 colors.
        tag: Codec tag in the file, if players require a particular one.
    """

    encoder: str
    crf: int = 0
    max_crf: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    tag: str | None = None


# No B-frames: with them, an MP4 of variable frame rate declares too short a duration, and players
# cut off its end. Without them, decoding and presentation times are equal.
CODECS: Mapping[str, Codec] = {
    "h264": Codec("libx264", 20, 51, {"preset": "veryfast", "bf": "0"}),
    "hevc": Codec(
        "libx265",
        24,
        51,
        {"preset": "veryfast", "x265-params": "bframes=0:log-level=error"},
        tag="hvc1",  # required by Apple's players
    ),
    "vp9": Codec(
        "libvpx-vp9",
        31,
        63,
        {"deadline": "realtime", "cpu-used": "5", "row-mt": "1", "lag-in-frames": "0"},
    ),
    "av1": Codec("libsvtav1", 32, 63, {"preset": "10"}),
    "gif": Codec("gif", pixels="pal8"),
}


@dataclass(frozen=True, slots=True)
class Container:
    """Container format.

    Attributes:
        muxer: FFmpeg's name of the muxer.
        codecs: Supported keys of `CODECS`, the default first.
        audio: FFmpeg's names of audio codecs that can be copied; None: all; empty: no audio.
        audio_encoder: Encoder for audio that cannot be copied.
        options: Options of the muxer.
        tick_s: Fixed unit of time in seconds; None: any unit.
        shortest_s: Shortest time in seconds between frames; frames that are closer are dropped.
    """

    muxer: str
    codecs: tuple[str, ...]
    audio: frozenset[str] | None = frozenset()
    audio_encoder: str = "aac"
    options: Mapping[str, str] = field(default_factory=dict)
    tick_s: Fraction | None = None
    shortest_s: Fraction = Fraction(0)


_INDEX_IN_FRONT = {"movflags": "+faststart"}
_MP4_AUDIO = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})
_MP4 = Container("mp4", ("h264", "hevc", "av1", "vp9"), _MP4_AUDIO, options=_INDEX_IN_FRONT)
CONTAINERS: Mapping[str, Container] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container(
        "mov", ("h264", "hevc"), _MP4_AUDIO - {"flac", "opus"}, options=_INDEX_IN_FRONT
    ),
    ".mkv": Container("matroska", ("h264", "hevc", "av1", "vp9"), None),
    ".webm": Container("webm", ("vp9", "av1"), frozenset({"opus", "vorbis"}), "libopus"),
    # Browsers show a frame of 1/100 s for 1/10 s.
    ".gif": Container("gif", ("gif",), tick_s=Fraction(1, 100), shortest_s=Fraction(1, 50)),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """Codec and quality of an output video.

    Attributes:
        codec: Key of `CODECS`; None: the container's default.
        crf: Constant rate factor, 0 (best) to 51 for h264 and hevc, to 63 for vp9 and av1; +6
            about halves the size. None: the codec's default.
        bitrate: Bits per second instead of `crf`, as a number or `800k`, `2M`.

    Raises:
        ConfigError: An unknown codec, an invalid bit rate, or both `crf` and `bitrate`.
    """

    codec: str | None = None
    crf: int | None = None
    bitrate: str | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in CODECS:
            raise ConfigError(f"codec {self.codec}: expected one of {', '.join(CODECS)}")
        if self.crf is not None and self.bitrate is not None:
            raise ConfigError("crf and bitrate: expected only one of them")
        self.bits_per_second()

    def bits_per_second(self) -> int | None:
        """Return the bit rate as a number, None if it is not set.

        Raises:
            ConfigError: The bit rate cannot be parsed.
        """
        if self.bitrate is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", self.bitrate)
        bits = round(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6}[match[2]]) if match else 0
        if bits < 1:
            raise ConfigError(f"bitrate {self.bitrate}: expected bits per second, e.g. 800k or 2M")
        return bits

    def codec_for(self, container: Container) -> Codec:
        """Return the codec for a container.

        Raises:
            ConfigError: The container does not support the codec, or the codec the quality.
        """
        name = self.codec or container.codecs[0]
        if name not in container.codecs:
            raise ConfigError(
                f"codec {name}: not supported in {container.muxer}",
                hint=f"use one of {', '.join(container.codecs)}",
            )
        codec = CODECS[name]
        if codec.max_crf is None and (self.crf, self.bitrate) != (None, None):
            raise ConfigError(f"codec {name}: supports neither crf nor bitrate")
        if self.crf is not None and not 0 <= self.crf <= (codec.max_crf or 0):
            raise ConfigError(f"crf {self.crf}: expected 0 to {codec.max_crf} for {name}")
        return codec


def container_for(path: Path) -> Container:
    """Return the container for a file name.

    Raises:
        ConfigError: The suffix is not supported.
    """
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise ConfigError(
            f"{path}: cannot write videos as {path.suffix or 'files without a suffix'}",
            hint=f"use a name that ends in {', '.join(CONTAINERS)}, or frames/%06d.png for images",
        )
    return container
