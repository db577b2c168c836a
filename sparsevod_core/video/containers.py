"""Which files can be written, with which codecs in them, and how those are set up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from sparsevod_core.errors import ConfigError, VideoError


@dataclass(frozen=True, slots=True)
class Codec:
    """A way to compress pictures.

    Attributes:
        encoder: FFmpeg's name of it.
        crf: constant rate factor where none is asked for: about what the eye takes for the source.
        max_crf: the worst; None: it has no such setting.
        options: the encoder's own.
        pixels: pixel format; `pal8` is a palette of 256 colours.
        tag: what the file calls it, where players insist on a name.
    """

    encoder: str
    crf: int = 0
    max_crf: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    pixels: str = "yuv420p"
    tag: str | None = None


# Without B-frames decoding and presentation time agree; with them an MP4 of variable frame rate
# states too short a duration, and players cut its end off.
CODECS: Mapping[str, Codec] = {
    "h264": Codec("libx264", 20, 51, {"preset": "veryfast", "bf": "0"}),
    "hevc": Codec(
        "libx265",
        24,
        51,
        {"preset": "veryfast", "x265-params": "bframes=0:log-level=error"},
        tag="hvc1",  # Apple's players know no other
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
    """A kind of file.

    Attributes:
        muxer: FFmpeg's name of it.
        codecs: keys of `CODECS` that it takes, the usual one first.
        audio: FFmpeg's names of audio codecs that are copied into it; None: all; empty: it has no
            sound.
        audio_encoder: for all others.
        options: the muxer's own.
        tick_s: the unit in which it counts time whatever it is asked for; None: any will do.
        shortest_s: frames that come closer than this after another are left out.
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
    ".mov": Container("mov", ("h264", "hevc"), _MP4_AUDIO - {"opus"}, options=_INDEX_IN_FRONT),
    ".mkv": Container("matroska", ("h264", "hevc", "av1", "vp9"), None),
    ".webm": Container("webm", ("vp9", "av1"), frozenset({"opus", "vorbis"}), "libopus"),
    # Browsers show a frame of 1/100 s for ten times as long.
    ".gif": Container("gif", ("gif",), tick_s=Fraction(1, 100), shortest_s=Fraction(1, 50)),
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a video is compressed.

    Attributes:
        codec: a key of `CODECS`; None: the container's usual one.
        crf: constant rate factor, 0 (best) to 51 for h264 and hevc, to 63 for vp9 and av1; +6
            about halves the size. None: the codec's usual one.
        bitrate: bits per second instead, as a number or `800k`, `2M`.
    """

    codec: str | None = None
    crf: int | None = None
    bitrate: str | None = None

    def __post_init__(self) -> None:
        if self.codec is not None and self.codec not in CODECS:
            raise ConfigError(f"codec {self.codec}: expected one of {', '.join(CODECS)}")
        if self.crf is not None and self.bitrate is not None:
            raise ConfigError("crf and bitrate: either sets the size, give one")
        self.bits_per_second()

    def bits_per_second(self) -> int | None:
        """The bitrate as a number.

        Raises:
            ConfigError: it is none.
        """
        if self.bitrate is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", self.bitrate)
        bits = round(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6}[match[2]]) if match else 0
        if bits < 1:
            raise ConfigError(f"bitrate {self.bitrate}: expected bits per second as 800k or 2M")
        return bits

    def codec_for(self, container: Container) -> Codec:
        """The codec, checked against the container and the quality against the codec.

        Raises:
            ConfigError: they do not fit.
        """
        name = self.codec or container.codecs[0]
        if name not in container.codecs:
            raise ConfigError(
                f"codec {name} does not go into {container.muxer}",
                hint=f"it takes {', '.join(container.codecs)}",
            )
        codec = CODECS[name]
        if codec.max_crf is None and (self.crf, self.bitrate) != (None, None):
            raise ConfigError(f"{name} has neither crf nor bitrate")
        if self.crf is not None and not 0 <= self.crf <= (codec.max_crf or 0):
            raise ConfigError(f"crf {self.crf}: expected 0 to {codec.max_crf} for {name}")
        return codec


def container_for(path: Path) -> Container:
    """What a file of this name is.

    Raises:
        VideoError: nothing that is written here.
    """
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise VideoError(
            f"{path}: videos are not written as {path.suffix or 'files without a suffix'}",
            hint=f"give a name that ends in {', '.join(CONTAINERS)}; images: frames/%06d.png",
        )
    return container
