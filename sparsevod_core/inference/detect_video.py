"""A video in; the same video with boxes, and every detection in files, out."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core.checkpoint.digest import digest
from sparsevod_core.embedded import embedded_checkpoint
from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.inference.drawing import Drawing, Painter
from sparsevod_core.inference.journal import Journal
from sparsevod_core.inference.outputs import OutputFiles, Outputs, open_outputs
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.structures import FrameDetections
from sparsevod_core.video.containers import Encoding
from sparsevod_core.video.live import LiveStream
from sparsevod_core.video.opening import open_source
from sparsevod_core.video.overlap import ReadAhead, WriteBehind, depth_for
from sparsevod_core.video.sources import Source


@dataclass(frozen=True, slots=True)
class DetectedVideo:
    """What came of a video.

    Attributes:
        num_frames: frames in the outputs: all that decode, unless it was interrupted.
        num_detections: in all of them, whatever their score.
        num_drawn: those that were drawn.
        broken: why the source ended before its time; None where it did not.
        is_interrupted: whether Ctrl-C ended it.
        live: of a stream or camera, how well it was kept up with; else None.
    """

    num_frames: int
    num_detections: int
    num_drawn: int
    broken: str | None
    is_interrupted: bool
    live: Liveness | None = None


@dataclass(frozen=True, slots=True)
class Liveness:
    """How well a live source was kept up with.

    Attributes:
        latency_s: median time from a frame's arrival to its detections.
        latency_p95_s: what 95 % of the frames kept to.
        num_dropped: frames that came while another was worked on.
        num_reconnections: connections that were lost and made again.
    """

    latency_s: float
    latency_p95_s: float
    num_dropped: int
    num_reconnections: int


def detect_video(
    predictor: Predictor,
    source: Source | Path,
    output: Path | None,
    *,
    results: Mapping[str, Path] | None = None,
    drawing: Drawing | None = None,
    encoding: Encoding | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    duration_s: float | None = None,
    patience_s: float = 10.0,
    reporter: Reporter | None = None,
) -> DetectedVideo:
    """Detect in every frame; write the video with boxes and, where asked for, results files.

    The output has the source's frames at the source's times, and its sound. All files appear under
    their names when they are complete. A source that breaks off, and Ctrl-C, complete them as far
    as it went. Until then, and after Ctrl-C, a journal beside the output keeps what was found, for
    `resume`. Decoding, the model and the writing of outputs run at the same time.

    Args:
        predictor: the detector.
        source: the video; a path is that of a file.
        output: the video to write, see `VideoWriter`, or `frames/%06d.png`; None: none.
        results: files of all detections, whatever their score, by format, see `open_results`; or
            `crop`: a folder with a picture of each detection that is drawn.
        drawing: which detections are drawn, and how.
        encoding: codec and quality of the output.
        checkpoint: file of the detector, to be named in the results; see `checkpoint_name`.
        resume: take over what a run that was cut off has found; the outputs are the same as
            without the cut.
        duration_s, patience_s: of a live source, see `LiveStream`.
        reporter: progress and warnings.

    Raises:
        VideoError: a source of which no frame decodes, or an output that cannot be written.
        ConfigError: an output that is the source, two outputs in one file, a journal that is in
            the way or of another run, a live source with supports that are not past, or settings
            that do not fit the video, the model or the output.
    """
    reporter, drawing = reporter or SilentReporter(), drawing or Drawing()
    files = OutputFiles(output, results or {})
    source = Source("file", str(source)) if isinstance(source, Path) else source
    files.refuse_source(source)
    if source.is_live and predictor.num_supports and predictor.config.inference.support != "causal":
        raise ConfigError(
            f"{source}: a stream has no future frames to take supports from",
            hint="--support causal takes past ones",
        )
    breaks: list[VideoError] = []
    with ExitStack() as stack:
        is_interrupted = stack.enter_context(_put_off_interrupt())
        video = stack.enter_context(
            open_source(source, duration_s=duration_s, patience_s=patience_s, reporter=reporter)
        )
        painter = Painter(
            drawing, predictor.categories, video.width, video.height, predictor.num_supports
        )
        journal = None
        journal_file = files.journal()
        if journal_file is not None and not source.is_live:
            run = _run(predictor, source, checkpoint)
            journal = stack.enter_context(Journal(journal_file, run, resume=resume))
            if journal.num_frames:
                reporter.message(f"{journal_file}: goes on after {journal.num_frames:,} frames")
        outputs = stack.enter_context(
            open_outputs(files, predictor, video, painter, encoding or Encoding(), checkpoint)
        )
        _say_padding(outputs, source, reporter)
        decided = predictor.expect(None if source.is_live else video.declared_num_frames)
        if decided is not None:
            reporter.message(decided)
        known = () if journal is None else iter(journal)
        depth = depth_for(predictor.batch)
        frames = video if isinstance(video, LiveStream) else ReadAhead(video, depth)
        latencies_s: list[float] = []
        bar = reporter.progress(f"detecting in {source.stem}", video.declared_num_frames)
        with bar as progress, WriteBehind(outputs.write, depth) as behind:
            for found in _until_break(
                predictor.frames(frames, known=known, is_live=source.is_live), breaks
            ):
                if isinstance(video, LiveStream):
                    latencies_s.append(video.now_s() - float(found.frame.time_s or 0))
                if journal is not None and found.frame.index >= journal.num_frames:
                    journal.write(found.detections)
                alone = None
                if drawing.compares:
                    (alone,) = predictor.detect([found.frame.image], None)
                behind.put((found, alone))
                progress.advance()
                if is_interrupted():
                    break
        if outputs.num_frames == 0 and breaks:
            raise breaks[0]
        outputs.finish(truncated=bool(breaks) or is_interrupted())
        done = DetectedVideo(
            outputs.num_frames,
            outputs.num_detections,
            outputs.num_drawn,
            breaks[0].message if breaks else None,
            is_interrupted(),
            _liveness(video, latencies_s) if isinstance(video, LiveStream) else None,
        )
    # Only now all files have their names.
    if journal is not None and not done.is_interrupted:
        journal.remove()
    return done


def _say_padding(outputs: Outputs, source: Source, reporter: Reporter) -> None:
    if outputs.writer is None or outputs.writer.size == outputs.writer.padded_size:
        return
    before, after = ("{}x{}".format(*s) for s in (outputs.writer.size, outputs.writer.padded_size))
    reporter.message(f"{source} is drawn as {before}: its last pixels are repeated to {after}")


def _run(predictor: Predictor, source: Source, checkpoint: Path | None) -> dict[str, Any]:
    """What tells a run from one that would find other boxes."""
    place = Path(source.place)
    file = place if source.kind == "file" else None
    return {
        "video": place.name,
        "bytes": None if file is None else file.stat().st_size if file.exists() else None,
        "model": digest(checkpoint or embedded_checkpoint()),
        **dataclasses.asdict(predictor.config.inference),
        "short_side": predictor.config.data.short_side,
        "long_side": predictor.config.data.long_side,
        "device": predictor.device.type,
    }


def _liveness(video: LiveStream, latencies_s: list[float]) -> Liveness:
    median, most = np.percentile(latencies_s or [0.0], [50, 95]).tolist()
    return Liveness(median, most, video.num_dropped, video.num_reconnections)


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
