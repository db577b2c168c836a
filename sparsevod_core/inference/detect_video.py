"""A video in; the same video with boxes, and every detection as JSON, out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsevod_core.embedded import checkpoint_name
from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.figures.boxes import draw_detections
from sparsevod_core.inference.detections_json import DetectionsJson
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.structures import FrameDetections
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.writer import VideoWriter


@dataclass(frozen=True, slots=True)
class DetectedVideo:
    """What came of a video.

    Attributes:
        num_frames: frames in the outputs: all that decode, unless it was interrupted.
        num_detections: in all of them, whatever their score.
        num_drawn: those that were drawn.
        broken: why the source ended before its time; None where it did not.
        is_interrupted: whether Ctrl-C ended it.
    """

    num_frames: int
    num_detections: int
    num_drawn: int
    broken: str | None
    is_interrupted: bool


def detect_video(
    predictor: Predictor,
    video: Path,
    output: Path,
    *,
    json_out: Path | None = None,
    score: float = 0.3,
    checkpoint: Path | None = None,
    reporter: Reporter | None = None,
) -> DetectedVideo:
    """Detect in every frame; write the video with boxes and, where asked for, the JSON.

    The output has the source's frames at the source's times. Both files appear under their names
    when they are complete. A source that breaks off, and Ctrl-C, complete them as far as it went.

    Args:
        predictor: the detector.
        video: the source.
        output: the video to write, .mp4.
        json_out: every detection, whatever its score; `-` is stdout; None: not written.
        score: detections with a greater score are drawn.
        checkpoint: file of the detector, to be named in the JSON; see `checkpoint_name`.
        reporter: progress and warnings.

    Raises:
        VideoError: a source of which no frame decodes, or an output that cannot be written.
        ConfigError: an output that is the source, or both outputs in one file.
    """
    reporter = reporter or SilentReporter()
    _refuse_same_file(video, output, json_out)
    names = [category.name for category in predictor.categories]
    num_frames = num_detections = num_drawn = 0
    breaks: list[VideoError] = []
    with VideoReader(video) as reader, _put_off_interrupt() as is_interrupted, ExitStack() as files:
        writer = files.enter_context(
            VideoWriter(
                output,
                reader.width,
                reader.height,
                frame_rate=reader.frame_rate,
                time_base=reader.time_base,
                pixel_aspect=reader.pixel_aspect,
            )
        )
        if writer.padded_size != writer.size:
            sizes = ["{}x{}".format(*size) for size in (writer.size, writer.padded_size)]
            reporter.message(f"{video} is {sizes[0]}: its last pixels are repeated to {sizes[1]}")
        as_json: DetectionsJson | None = None
        if json_out is not None:
            header = _header(predictor, reader, checkpoint)
            as_json = files.enter_context(DetectionsJson(json_out, header, predictor.categories))
        bar = reporter.progress(f"detecting in {video.name}", reader.declared_num_frames)
        with bar as progress:
            for found in _until_break(predictor.frames(reader), breaks):
                time_s = found.frame.time_s
                if time_s is not None:
                    time_s -= reader.start_s
                drawn = found.detections.above(score)
                writer.write(draw_detections(found.frame.image, drawn, names), time_s)
                if as_json is not None:
                    as_json.write(found, time_s)
                num_frames += 1
                num_detections += len(found.detections)
                num_drawn += len(drawn)
                progress.advance()
                if is_interrupted():
                    break
        if num_frames == 0 and breaks:
            raise breaks[0]
        if as_json is not None:
            as_json.finish(truncated=bool(breaks) or is_interrupted())
        return DetectedVideo(
            num_frames,
            num_detections,
            num_drawn,
            breaks[0].message if breaks else None,
            is_interrupted(),
        )


def _refuse_same_file(video: Path, output: Path, json_out: Path | None) -> None:
    for path in (output, json_out):
        if path is not None and path.exists() and video.exists() and path.samefile(video):
            raise ConfigError(
                f"{path} is the source: it is not overwritten", hint="choose another -o"
            )
    if json_out is not None and json_out.absolute() == output.absolute():
        raise ConfigError(f"{output}: video and JSON cannot be written to the same file")


def _header(predictor: Predictor, reader: VideoReader, checkpoint: Path | None) -> dict[str, Any]:
    rate, settings = reader.frame_rate, predictor.config.inference
    return {
        "video": str(reader.path),
        "width": reader.width,
        "height": reader.height,
        "frame_rate": None if rate is None else f"{rate.numerator}/{rate.denominator}",
        "checkpoint": None if checkpoint is None else checkpoint_name(checkpoint),
        "support": {
            "mode": settings.support,
            "supports": predictor.num_supports,
            "window_stride": settings.window_stride,
        },
        "seed": predictor.config.seed,
    }


def _until_break(
    frames: Iterator[FrameDetections], breaks: list[VideoError]
) -> Iterator[FrameDetections]:
    """The frames before the source breaks; the break is noted, not raised."""
    try:
        yield from frames
    except VideoError as error:
        breaks.append(error)


@contextmanager
def _put_off_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C becomes a question to ask between frames; a second one takes effect at once."""
    received = False

    def receive(*_: object) -> None:
        nonlocal received
        if received:
            raise KeyboardInterrupt
        received = True

    is_main = threading.current_thread() is threading.main_thread()  # only it may set handlers
    previous = signal.getsignal(signal.SIGINT)
    if not is_main or previous is signal.SIG_IGN:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, receive)
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGINT, previous)
