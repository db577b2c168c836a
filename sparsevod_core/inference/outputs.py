"""Output files of a video: the video with boxes, and files of detections."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from sparsevod_core.embedded import checkpoint_name
from sparsevod_core.errors import ConfigError
from sparsevod_core.files.check import check_outputs, require_distinct
from sparsevod_core.files.names import beside
from sparsevod_core.inference.drawing import Painter
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.results import KINDS, ResultsFile, ResultsText, open_results
from sparsevod_core.inference.results.coco import CocoIds
from sparsevod_core.inference.results.coco_vid import CocoVid
from sparsevod_core.inference.results.crops import Crops
from sparsevod_core.structures import Detections, FrameDetections
from sparsevod_core.video.containers import Encoding, container_for
from sparsevod_core.video.image_writer import ImageWriter, images_folder, is_pattern
from sparsevod_core.video.opening import OpenVideo
from sparsevod_core.video.reader import VideoReader
from sparsevod_core.video.sources import Source
from sparsevod_core.video.writer import OWN_VIDEO, VideoWriter

STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """Paths of the outputs of one video.

    Attributes:
        video: Path of a video, or `frames/%06d.png` for images; None: no video is written.
        results: Paths of files of detections by format, see `open_results`; `coco_vid` is a file of
            the drawn detections, `crop` a folder of their images.

    Raises:
        ConfigError: No output at all, two outputs with the same path, a folder that would be
            stdout, a video of an unknown kind, or a pattern for images without a folder.
    """

    video: Path | None
    results: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.video is None and not self.results:
            raise ConfigError(
                "nothing to write: neither a video nor detections",
                hint="use --no-video with --json, --csv or another file of detections",
            )
        for kind in ("yolo", "crop"):
            if self.results.get(kind) == STDOUT:
                raise ConfigError(
                    f"--{kind} -: cannot write a folder to stdout", hint="name a folder"
                )
        if self.video is not None and not is_pattern(self.video):
            container_for(self.video)
        if list(self.results.values()).count(STDOUT) > 1:
            raise ConfigError(
                "stdout: two outputs have this path", hint="give each output its own path"
            )
        require_distinct([*self.paths(), *filter(None, [self.journal()])])

    def paths(self) -> list[Path]:
        """Return the paths of all files and folders, without stdout."""
        paths = [path for path in self.results.values() if path != STDOUT]
        if self.video is not None:
            paths.insert(0, images_folder(self.video) if is_pattern(self.video) else self.video)
        return paths

    def journal(self) -> Path | None:
        """Return the path of the journal: beside the first output; None if all go to stdout."""
        paths = self.paths()
        return beside(paths[0], ".journal.jsonl") if paths else None

    def are_done(self) -> bool:
        """Return True if all outputs exist and no run that was remaking them was cut off."""
        journal = self.journal()
        is_cut_off = journal is not None and journal.exists()
        return all(path.exists() for path in self.paths()) and not is_cut_off

    def require_writable(self, inputs: Mapping[Path, str] | None = None) -> None:
        """Check that no other file would be lost, and that the outputs can be written.

        Raises:
            ConfigError: An output is one of `inputs`, see `check_outputs`, or an existing file
                that is no result of `detect`.
            DataError: An output cannot be written.
        """
        kinds = {path: KINDS[kind] for kind, path in self.results.items()}
        if self.video is not None and not is_pattern(self.video):
            kinds[self.video] = OWN_VIDEO
        check_outputs([(path, kinds.get(path)) for path in self.paths()], inputs)


@dataclass(slots=True)
class Outputs:
    """Open output files of one video.

    Attributes:
        writer: Writer of the video, None if no video is written.
        results: Files of detections.
        painter: Draws the frames.
        start_s: Time in seconds at which the source starts.
        num_frames: Number of frames written so far.
        num_detections: Number of detections in them, whatever their score.
        num_drawn: Number of detections drawn.
    """

    writer: VideoWriter | ImageWriter | None
    results: list[ResultsFile]
    painter: Painter
    start_s: Fraction
    num_frames: int = field(default=0, init=False)
    num_detections: int = field(default=0, init=False)
    num_drawn: int = field(default=0, init=False)

    def write(self, entry: tuple[FrameDetections, Detections | None]) -> None:
        """Append a frame with its detections and, to compare, those without support frames."""
        found, unsupported = entry
        time_s = found.time_s
        if time_s is not None:
            time_s -= self.start_s
        if self.writer is not None:
            image = self.painter.paint(found.frame.image, found.detections, unsupported)
            self.writer.write(image, time_s)
        for file in self.results:
            file.write(found, time_s)
        self.num_frames += 1
        self.num_detections += len(found)
        self.num_drawn += len(self.painter.shown(found.detections))

    def finish(self, *, truncated: bool) -> None:
        """Write what follows the last frame; call once."""
        if self.writer is not None:
            self.writer.finish(truncated=truncated)
        for file in self.results:
            file.finish(truncated=truncated)


@contextmanager
def open_outputs(
    files: OutputFiles,
    predictor: Predictor,
    source: Source,
    video: OpenVideo,
    painter: Painter,
    encoding: Encoding,
    published: Collection[str] = (),
    coco_ids: CocoIds | None = None,
    *,
    is_tracked: bool = False,
) -> Iterator[Outputs]:
    """Open all outputs; they appear under their names if the block ends without an exception.

    Folders in `published` are from an earlier attempt of this run and are replaced. `coco_ids` are
    for COCO results, see `CocoResults`. `is_tracked` says whether detections will have `track_ids`.

    Raises:
        VideoError, DataError: An output cannot be written.
        ConfigError: The encoding does not fit the container, an output folder is not empty, or
            there is a file of another kind.
    """
    header = _header(predictor, source, video, is_tracked)
    categories = predictor.categories
    with ExitStack() as stack:
        writer = None
        if files.video is not None:
            writer = stack.enter_context(
                _writer(files.video, video, painter.size, encoding, published)
            )
        results: list[ResultsFile] = []
        for kind, path in files.results.items():
            is_own = path.name in published
            opened: ResultsFile
            if kind == "crop":
                opened = Crops(path, categories, painter.shown, is_own=is_own)
            elif kind == "coco_vid":
                content = CocoVid(path, header, source, video, categories, painter.shown)
                opened = ResultsText(path, content, KINDS[kind])
            else:
                opened = open_results(
                    kind, path, header, categories, coco_ids=coco_ids, is_own=is_own
                )
            results.append(stack.enter_context(opened))
        yield Outputs(writer, results, painter, video.start_s)


def _writer(
    path: Path,
    video: OpenVideo,
    size: tuple[int, int],
    encoding: Encoding,
    published: Collection[str],
) -> AbstractContextManager[VideoWriter | ImageWriter]:
    if is_pattern(path):
        return ImageWriter(path, *size, is_own=images_folder(path).name in published)
    return VideoWriter(
        path,
        *size,
        frame_rate=video.frame_rate,
        time_base=video.time_base,
        encoding=encoding,
        pixel_aspect=video.pixel_aspect,
        audio_from=video.path if isinstance(video, VideoReader) and video.has_audio else None,
        start_s=video.start_s,
        jumps=video.jumps if isinstance(video, VideoReader) else (),
    )


def _header(
    predictor: Predictor, source: Source, video: OpenVideo, is_tracked: bool
) -> dict[str, Any]:
    rate, checkpoint = video.frame_rate, predictor.checkpoint
    return {
        "video": "stdin" if source.kind == "stdin" else str(video.path),
        "width": video.width,
        "height": video.height,
        "frame_rate": None if rate is None else f"{rate.numerator}/{rate.denominator}",
        "checkpoint": None if checkpoint is None else checkpoint_name(checkpoint),
        "support": predictor.supports.header,
        "seed": predictor.config.seed,
        "run": predictor.run,
        **({"track": asdict(predictor.config.track)} if is_tracked else {}),
    }
