"""Detection in one video: the video with boxes, and files of detections."""

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

from sparsevod_core.data.frame_ids import FrameIds
from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.files.lock import locked
from sparsevod_core.inference.drawing import Drawing, Painter
from sparsevod_core.inference.journal import Journal
from sparsevod_core.inference.outputs import OutputFiles, Outputs, open_outputs
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.results.coco import CocoIds
from sparsevod_core.inference.tracking import Tracker
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.structures import FrameDetections
from sparsevod_core.video.containers import Encoding
from sparsevod_core.video.fingerprint import fingerprint
from sparsevod_core.video.image_folder import ImageFolder
from sparsevod_core.video.live import LiveStream
from sparsevod_core.video.opening import OpenVideo, open_source
from sparsevod_core.video.overlap import ReadAhead, WriteBehind, depth_for
from sparsevod_core.video.sources import Source


@dataclass(frozen=True, slots=True)
class DetectedVideo:
    """Summary of detection in a video.

    Attributes:
        num_frames: Number of frames in the outputs.
        num_detections: Number of detections in them, whatever their score.
        num_drawn: Number of detections drawn.
        broken: Error message if the source broke off, else None.
        is_interrupted: Whether Ctrl-C ended the run.
        live: Statistics of a stream or camera, else None.
    """

    num_frames: int
    num_detections: int
    num_drawn: int
    broken: str | None
    is_interrupted: bool
    live: LiveStatistics | None = None


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    """How well detection kept up with a live source.

    Attributes:
        latency_s: Median time in seconds from a frame's arrival to its detections.
        latency_p95_s: 95th percentile of that time.
        num_dropped: Number of frames dropped because the model was busy.
        num_reconnections: Number of times that a lost connection was restored.
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
    annotated: FrameIds | None = None,
    drawing: Drawing | None = None,
    encoding: Encoding | None = None,
    track: bool = False,
    resume: bool = False,
    duration_s: float | None = None,
    patience_s: float = 10.0,
    reporter: Reporter | None = None,
) -> DetectedVideo:
    """Detect objects in every frame; write the video with boxes and files of detections.

    The output video has the source's frames, times and audio. Outputs appear under their names when
    they are complete. If the source breaks off, or after Ctrl-C, they contain the frames up to
    there. Until then, and after Ctrl-C, a journal beside the output keeps the detections for
    `resume`. Decoding, the model and writing run concurrently.

    Args:
        predictor: Detector.
        source: Source of the video; a path is a video file.
        output: Path of the output video, see `VideoWriter`, or `frames/%06d.png`; None: no video.
        results: Paths of files of detections by format, see `OutputFiles`.
        annotated: Set whose image and class ids COCO results use, see `CocoResults`.
        drawing: Which detections are drawn, and how.
        encoding: Codec and quality of the output video.
        track: If True, give objects the ids of `tracking`, in the video and the files.
        resume: If True, reuse the detections of a run that was cut off. The outputs are the same
            as those of an uninterrupted run.
        duration_s, patience_s: Limits for a live source, see `LiveStream`.
        reporter: Receives progress and warnings.

    Raises:
        VideoError: No frame of the source decodes.
        DataError: An output cannot be written, another process is writing it, or `annotated` has no
            frame of the source.
        ConfigError: An output is the source, another output or a file that is no earlier result, a
            journal exists without `resume` or belongs to another run, the supports of a live source
            are not causal, settings do not fit the video, the model or the output, or the library
            for `track` is missing.
    """
    reporter, drawing = reporter or SilentReporter(), drawing or Drawing()
    files = OutputFiles(output, results or {})
    source = Source("file", str(source)) if isinstance(source, Path) else source
    files.require_writable(_inputs(predictor, source))
    if source.is_live and predictor.num_supports and predictor.config.inference.support != "causal":
        raise ConfigError(
            f"{source}: a stream has no future frames to use as support frames",
            hint="use --support-mode causal, which takes past frames",
        )
    tracker = Tracker(predictor.config.track) if track else None
    breaks: list[VideoError] = []
    with ExitStack() as stack:
        is_interrupted = stack.enter_context(_deferred_interrupt())
        stack.enter_context(locked(files.paths()))
        video = stack.enter_context(
            open_source(source, duration_s=duration_s, patience_s=patience_s, reporter=reporter)
        )
        painter = Painter(
            drawing, predictor.categories, video.width, video.height, predictor.num_supports
        )
        coco_ids = None
        if annotated is not None:
            coco_ids = _coco_ids(annotated, predictor, source, video)
        journal = None
        journal_file = files.journal()
        if journal_file is not None and not source.is_live:
            run = _journal_header(predictor, source, video)
            journal = stack.enter_context(
                Journal(journal_file, run, resume=resume, num_classes=len(predictor.categories))
            )
            if journal.num_frames:
                reporter.message(f"{journal_file}: resuming after {journal.num_frames:,} frames")
        outputs = stack.enter_context(
            open_outputs(
                files,
                predictor,
                source,
                video,
                painter,
                encoding or Encoding(),
                () if journal is None else journal.published,
                coco_ids,
                is_tracked=track,
            )
        )
        _report_padding(outputs, source, reporter)
        decision = predictor.expect(None if source.is_live else video.declared_num_frames)
        if decision is not None:
            reporter.message(decision)
        resumed = () if journal is None else iter(journal)
        depth = depth_for(predictor.batch)
        frames = video if isinstance(video, LiveStream) else ReadAhead(video, depth)
        latencies_s: list[float] = []
        bar = reporter.progress(f"detecting in {source.stem}", video.declared_num_frames)
        with bar as progress, WriteBehind(outputs.write, depth) as behind:
            found_frames = predictor.frames(frames, resumed=resumed, is_live=source.is_live)
            for found in _until_break(found_frames, breaks):
                if isinstance(video, LiveStream):
                    latencies_s.append(video.now_s() - float(found.time_s or 0))
                if journal is not None and found.index >= journal.num_frames:
                    journal.write(found.detections)
                if tracker is not None:  # resumed frames too, so that ids are the same
                    found = tracker.update(found)
                unsupported = None
                if drawing.compares:
                    (unsupported,) = predictor.detect([found.frame.image], None)
                behind.put((found, unsupported))
                progress.advance()
                if is_interrupted():
                    break
        if outputs.num_frames == 0 and breaks:
            raise breaks[0]
        outputs.finish(truncated=bool(breaks) or is_interrupted())
        for note in (*video.notes, *(outputs.writer.notes if outputs.writer else ())):
            reporter.warning(f"{source}: {note}")
        if journal is not None:
            journal.publish(files.paths(), is_last=not is_interrupted())
        detected = DetectedVideo(
            outputs.num_frames,
            outputs.num_detections,
            outputs.num_drawn,
            _text(breaks[0], source, video) if breaks else None,
            is_interrupted(),
            _live_statistics(video, latencies_s) if isinstance(video, LiveStream) else None,
        )
    return detected


def _inputs(predictor: Predictor, source: Source) -> dict[Path, str]:
    inputs = {Path(source.place): "the source"} if source.is_path else {}
    if predictor.checkpoint is not None:
        inputs[predictor.checkpoint] = "the checkpoint"
    return inputs


def _coco_ids(
    annotated: FrameIds, predictor: Predictor, source: Source, video: OpenVideo
) -> CocoIds:
    annotations = annotated.videos.annotations_path
    size = video.height, video.width
    if isinstance(video, ImageFolder):
        images = annotated.of_images(video.files, size)
    elif source.kind == "file":
        images = annotated.of_video(Path(video.path), size)
    else:
        raise ConfigError(
            f"{source}: {annotations} cannot have frames of it", hint="leave out --annotations"
        )
    return CocoIds(images, annotated.match(predictor.categories).id_of_label)


def _report_padding(outputs: Outputs, source: Source, reporter: Reporter) -> None:
    if outputs.writer is None or outputs.writer.size == outputs.writer.padded_size:
        return
    size, padded = ("{}x{}".format(*s) for s in (outputs.writer.size, outputs.writer.padded_size))
    reporter.message(f"{source}: {size} pixels, padded to {padded} by repeating the last ones")


def _journal_header(predictor: Predictor, source: Source, video: OpenVideo) -> dict[str, Any]:
    """Return the values that determine the detections."""
    path = Path(source.place)
    # What stdin brought is in a file by now.
    content = Source("file", str(video.path)) if source.kind == "stdin" else source
    is_file = source.kind == "file" and path.exists()
    return {
        "video": path.name,
        "bytes": path.stat().st_size if is_file else None,
        "content": fingerprint(content),
        "model": predictor.model_digest,
        **dataclasses.asdict(predictor.config.inference),
        **predictor.frame_settings,
        "seed": predictor.config.seed,
        "device": predictor.device.type,
    }


def _text(error: VideoError, source: Source, video: OpenVideo) -> str:
    text = error.in_one_line()
    # What stdin brought is in a file whose name says nothing.
    return text.replace(str(video.path), "stdin") if source.kind == "stdin" else text


def _live_statistics(video: LiveStream, latencies_s: list[float]) -> LiveStatistics:
    median, p95 = np.percentile(latencies_s or [0.0], [50, 95]).tolist()
    return LiveStatistics(median, p95, video.num_dropped, video.num_reconnections)


def _until_break(
    frames: Iterator[FrameDetections], breaks: list[VideoError]
) -> Iterator[FrameDetections]:
    """Yield the frames before the source breaks off; append the error instead of raising it."""
    try:
        yield from frames
    except VideoError as error:
        breaks.append(error)


@contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells if Ctrl-C was pressed; pressed again, it raises at once."""
    received = False

    def receive(*_: object) -> None:
        nonlocal received
        if received:
            raise KeyboardInterrupt
        received = True

    is_main = threading.current_thread() is threading.main_thread()  # the only one allowed to
    previous = signal.getsignal(signal.SIGINT)
    if not is_main or previous is signal.SIG_IGN:
        yield lambda: False
        return
    signal.signal(signal.SIGINT, receive)
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGINT, previous)
