"""Everything that is written of a video: its pictures again, and files of detections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from sparsevod_core.embedded import checkpoint_name
from sparsevod_core.errors import ConfigError
from sparsevod_core.inference.drawing import Painter
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.results import ResultsFile, open_results
from sparsevod_core.inference.results.crops import Crops
from sparsevod_core.structures import Detections, FrameDetections
from sparsevod_core.video.containers import Encoding
from sparsevod_core.video.image_writer import ImageWriter, is_pattern
from sparsevod_core.video.opening import OpenVideo
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.sources import Source
from sparsevod_core.video.writer import VideoWriter

STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Where the outputs of a video go.

    Attributes:
        video: a video file, or `frames/%06d.png`; None: no pictures are written.
        results: files of detections by format, see `open_results`; `crop` is a folder of pictures.

    Raises:
        ConfigError: nothing at all, or two outputs in one file.
    """

    video: Path | None
    results: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.video is None and not self.results:
            raise ConfigError(
                "nothing to write: neither a video nor detections",
                hint="--no-video goes with --json, --csv or another file of detections",
            )
        places = [place.absolute() for place in self.places()]
        twice = [place for place in self.places() if places.count(place.absolute()) > 1]
        if twice or list(self.results.values()).count(STDOUT) > 1:
            name = twice[0] if twice else "stdout"
            raise ConfigError(f"{name}: two outputs cannot be written to the same file")

    def places(self) -> list[Path]:
        """All files and folders; stdout is none."""
        files = [path for path in self.results.values() if path != STDOUT]
        return files if self.video is None else [self._video_place(), *files]

    def journal(self) -> Path | None:
        """Where a run that is cut off leaves what it has found: beside the first of them."""
        places = self.places()
        return places[0].with_name(places[0].name + ".journal.jsonl") if places else None

    def are_done(self) -> bool:
        """Whether all are there, and no run was cut off that began to make them anew."""
        journal = self.journal()
        is_cut_off = journal is not None and journal.exists()
        return all(place.exists() for place in self.places()) and not is_cut_off

    def refuse_source(self, source: Source) -> None:
        """Check that the video itself is not overwritten.

        Raises:
            ConfigError: it would be.
        """
        if source.kind != "file":
            return
        for place in self.places():
            if place.exists() and place.samefile(source.place):
                raise ConfigError(
                    f"{place} is the source: it is not overwritten", hint="choose another -o"
                )

    def _video_place(self) -> Path:
        assert self.video is not None
        return self.video.parent if is_pattern(self.video) else self.video


@dataclass(slots=True)
class Outputs:
    """The opened files of a video, written frame by frame.

    Attributes:
        writer: of the video; None: there is none.
        results: files of detections.
        painter: draws the frames.
        start_s: what the source's clock shows at its start.
        num_frames: written so far.
        num_detections: in them, whatever their score.
        num_drawn: those that are drawn.
    """

    writer: VideoWriter | ImageWriter | None
    results: list[ResultsFile]
    painter: Painter
    start_s: Fraction
    num_frames: int = field(default=0, init=False)
    num_detections: int = field(default=0, init=False)
    num_drawn: int = field(default=0, init=False)

    def write(self, entry: tuple[FrameDetections, Detections | None]) -> None:
        """Append a frame: what was found in it and, to compare, what was found without supports."""
        found, alone = entry
        time_s = found.frame.time_s
        if time_s is not None:
            time_s -= self.start_s
        if self.writer is not None:
            picture = self.painter.paint(found.frame.image, found.detections, alone)
            self.writer.write(picture, time_s)
        for file in self.results:
            file.write(found, time_s)
        self.num_frames += 1
        self.num_detections += len(found.detections)
        self.num_drawn += len(self.painter.shown(found.detections))

    def finish(self, *, truncated: bool) -> None:
        """To be called once, after the last frame."""
        if self.writer is not None:
            self.writer.finish(truncated=truncated)
        for file in self.results:
            file.finish(truncated=truncated)


@contextmanager
def open_outputs(
    files: OutputFiles,
    predictor: Predictor,
    video: OpenVideo,
    painter: Painter,
    encoding: Encoding,
    checkpoint: Path | None,
) -> Iterator[Outputs]:
    """All files, which appear when the block ends well; see `detect_video` for the arguments.

    Raises:
        VideoError, DataError: one cannot be written.
        ConfigError: an encoding that does not fit, or a folder that is there already.
    """
    header = _header(predictor, video, checkpoint)
    with ExitStack() as stack:
        writer = None
        if files.video is not None:
            writer = stack.enter_context(_writer(files.video, video, painter.size, encoding))
        results: list[ResultsFile] = []
        for kind, path in files.results.items():
            opened: ResultsFile = (
                Crops(path, predictor.categories, painter.shown)
                if kind == "crop"
                else open_results(kind, path, header, predictor.categories)
            )
            results.append(stack.enter_context(opened))
        yield Outputs(writer, results, painter, video.start_s)


def _writer(
    path: Path, video: OpenVideo, size: tuple[int, int], encoding: Encoding
) -> AbstractContextManager[VideoWriter | ImageWriter]:
    if is_pattern(path):
        return ImageWriter(path, *size)
    return VideoWriter(
        path,
        *size,
        frame_rate=video.frame_rate,
        time_base=video.time_base,
        encoding=encoding,
        pixel_aspect=video.pixel_aspect,
        audio_from=video.path if isinstance(video, VideoReader) and video.has_audio else None,
        start_s=video.start_s,
    )


def _header(predictor: Predictor, video: OpenVideo, checkpoint: Path | None) -> dict[str, Any]:
    rate, settings = video.frame_rate, predictor.config.inference
    return {
        "video": str(video.path),
        "width": video.width,
        "height": video.height,
        "frame_rate": None if rate is None else f"{rate.numerator}/{rate.denominator}",
        "checkpoint": None if checkpoint is None else checkpoint_name(checkpoint),
        "support": {
            "mode": settings.support,
            "supports": predictor.num_supports,
            "window_stride": settings.window_stride,
        },
        "seed": predictor.config.seed,
        "run": predictor.run,
    }
