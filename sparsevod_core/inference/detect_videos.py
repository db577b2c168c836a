"""Detection in several videos, which processes share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sparsevod_core import distributed
from sparsevod_core.config import override_pairs
from sparsevod_core.data.frame_ids import FrameIds
from sparsevod_core.data.records import VideoSet
from sparsevod_core.distributed.launch import launch
from sparsevod_core.embedded import embedded_checkpoint
from sparsevod_core.errors import ConfigError, SparseVodError
from sparsevod_core.files.check import require_distinct, require_not_inputs
from sparsevod_core.inference.detect_video import DetectedVideo, detect_video
from sparsevod_core.inference.device import resolve_device
from sparsevod_core.inference.drawing import Drawing
from sparsevod_core.inference.jobs import Job, plan
from sparsevod_core.inference.manifest import Manifests
from sparsevod_core.inference.predictor import Predictor
from sparsevod_core.inference.tracking import require_library
from sparsevod_core.reporting import MessagesOnly, Reporter, SilentReporter, counted, listed
from sparsevod_core.video.containers import Encoding
from sparsevod_core.video.sources import Source, find_sources
from sparsevod_core.weights.by_name import checkpoint_file


@dataclass(frozen=True, slots=True)
class JobResult:
    """Result of a job: either `detected` or `error` is set."""

    job: Job
    detected: DetectedVideo | None = None
    error: SparseVodError | None = None


def detect_videos(
    videos: Sequence[str],
    output: Path | None = None,
    *,
    results: Mapping[str, Path] | None = None,
    has_video: bool = True,
    annotations: Path | None = None,
    root: Path | None = None,
    checkpoint: Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    gpus: int | None = None,
    shard: str | None = None,
    drawing: Drawing | None = None,
    encoding: Encoding | None = None,
    track: bool = False,
    resume: bool = False,
    duration_s: float | None = None,
    patience_s: float = 10.0,
    reporter: Reporter | None = None,
) -> list[JobResult]:
    """Detect objects in videos, as `detect_video` does, skipping those that are done.

    Several videos are shared among the processes. An error in one of them is part of the result
    and does not stop the others.

    Args:
        videos: The videos, see `find_sources`.
        output: Path of the output video, a folder, or a path in which `*` is the video's name;
            None: a file in the current folder, or the folder `detections/` for several videos.
        results: Paths of files of detections by format, see `detect_video`; folders for several
            videos.
        has_video: Whether a video is written, or only `results`.
        annotations: COCO-VID JSON whose image and class ids COCO results use.
        root: Folder that its file names start from, see `VideoSet.load`.
        checkpoint: Path of the checkpoint, or the name of published weights; None: the bundled
            model.
        overrides: Settings such as `inference.supports=2`. By default precision is `auto`, and
            support frames of streams are `causal`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        gpus: Number of processes to start, one per GPU; None: one process.
        shard: `I/N`: process only every N-th video, starting with the I-th.
        drawing, encoding, track, resume, duration_s, patience_s: See `detect_video`.
        reporter: Receives progress, warnings and a line for each video.

    Raises:
        SparseVodError: No such video, paths or settings that cannot be used, or an error in the
            only video.
    """
    reporter = reporter or SilentReporter()
    sources = _distinct(find_sources(videos, reporter))
    jobs = plan(sources, output, results or {}, shard=shard, has_video=has_video)
    paths = [path for job in jobs for path in job.files.paths()]
    require_not_inputs(paths, _inputs(videos, sources, checkpoint, annotations))
    require_distinct(paths)
    if track:
        require_library()
    annotated = None
    if annotations is None and root is not None:
        raise ConfigError(f"--root {root}: goes with --annotations")
    if annotations is not None:
        if "coco" not in (results or {}):
            raise ConfigError(
                f"--annotations {annotations}: gives COCO results their ids, but there are none",
                hint="add --coco FILE",
            )
        annotated = FrameIds(VideoSet.load(annotations, root))
    # A download comes before the processes, which would all wait for it.
    model = checkpoint_file(checkpoint or embedded_checkpoint(), reporter)
    manifests = Manifests.of(jobs, model, annotations, track)
    to_do = [job for job in jobs if not manifests.is_done(job)]
    if len(jobs) == 1 and to_do:  # before the model is loaded
        jobs[0].files.require_writable()
    if not jobs:
        reporter.message(f"--shard {shard}: no videos in this shard")
    if len(to_do) < len(jobs):
        reporter.message(
            f"skipping {len(jobs) - len(to_do)} of {counted(len(jobs), 'video')}: already done"
        )
    if not to_do:
        return []
    # With annotations, detections are to be scored: they are those of `eval`.
    defaults = [] if annotated is not None else ["inference.precision=auto"]
    is_chosen = "inference.support" in override_pairs(overrides)
    if not is_chosen and any(job.source.is_live for job in to_do):
        defaults.append("inference.support=causal")
        reporter.message("using --support-mode causal: a stream has no future frames")
    return launch(
        _detect_jobs,
        min(gpus, len(to_do)) if gpus else None,
        device,
        to_do,
        partial(
            detect_video,
            drawing=drawing,
            encoding=encoding,
            track=track,
            resume=resume,
            duration_s=duration_s,
            patience_s=patience_s,
        ),
        checkpoint=checkpoint,
        overrides=[*defaults, *overrides],
        device=device,
        is_single=len(jobs) == 1,
        annotated=annotated,
        manifests=manifests,
        reporter=reporter,
    )


def _distinct(sources: Sequence[Source]) -> list[Source]:
    """Return the sources without those that are another one in other words."""
    by_place: dict[tuple[str, str], Source] = {}
    for source in sources:
        place = os.path.abspath(source.place) if source.is_path else source.place  # noqa: PTH100
        by_place.setdefault((source.kind, place), source)
    return list(by_place.values())


def _inputs(
    words: Sequence[str],
    sources: Sequence[Source],
    checkpoint: Path | None,
    annotations: Path | None,
) -> dict[Path, str]:
    """Return what the command reads, by path."""
    name = "the source" if len(sources) == 1 else "a source"
    inputs = {Path(one.place): name for one in sources if one.is_path}
    inputs |= {Path(word[1:]): "the list" for word in words if word.startswith("@")}
    if checkpoint is not None:
        inputs[checkpoint] = "the checkpoint"
    if annotations is not None:
        inputs[annotations] = "the annotations"
    return inputs


def _detect_jobs(
    jobs: Sequence[Job],
    detect: Callable[..., DetectedVideo],
    *,
    checkpoint: Path | None,
    overrides: Sequence[str],
    device: str,
    is_single: bool,
    annotated: FrameIds | None,
    manifests: Manifests,
    reporter: Reporter,
) -> list[JobResult]:
    """Run in each process: take the next job that no process has taken, until none is left."""
    own_device = distributed.own_device(resolve_device(device))
    results = []
    with distributed.process_group(own_device):
        if distributed.is_joined():  # progress bars of several processes would overwrite each other
            reporter = MessagesOnly(reporter)
        predictor = Predictor.from_checkpoint(
            checkpoint,
            device=str(own_device),
            overrides=overrides,
            reporter=reporter if distributed.is_main() else None,
        )
        if annotated is not None and distributed.is_main():
            annotated.match(predictor.categories).report(reporter)
        for job in distributed.shared_out(jobs):
            try:
                manifests.begin(job)
                detected = detect(
                    predictor,
                    job.source,
                    job.files.video,
                    results=job.files.results,
                    annotated=annotated,
                    reporter=reporter,
                )
            except SparseVodError as error:
                if is_single:
                    raise
                reporter.warning(error.in_one_line())
                results.append(JobResult(job, error=error))
                continue
            _report(job, detected, reporter)
            results.append(JobResult(job, detected))
            if detected.is_interrupted:
                break
        return [result for part in distributed.gather(results) for result in part]


def _report(job: Job, detected: DetectedVideo, reporter: Reporter) -> None:
    if detected.broken:
        reporter.warning(detected.broken)
    paths = job.files.paths()
    files = listed(paths) if paths else "to stdout"
    reporter.message(
        f"wrote {files}: {counted(detected.num_frames, 'frame')}, "
        f"{counted(detected.num_detections, 'detection')} "
        f"({detected.num_drawn} drawn)"
    )
    if detected.live is not None:
        live = detected.live
        reporter.message(
            f"latency: median {1000 * live.latency_s:.0f} ms, 95th percentile "
            f"{1000 * live.latency_p95_s:.0f} ms; {live.num_dropped} frames dropped, "
            f"{live.num_reconnections} reconnections"
        )
    elif detected.is_interrupted and (journal := job.files.journal()) is not None:
        reporter.message(f"interrupted: run again with --resume to continue from {journal}")
