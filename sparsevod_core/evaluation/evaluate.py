"""Evaluation of a detector on annotated videos, in one process or several."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core import distributed
from sparsevod_core.checkpoint.digest import digest
from sparsevod_core.config import override_pairs, with_roots
from sparsevod_core.data.class_match import ClassMatch
from sparsevod_core.data.records import VideoSet
from sparsevod_core.distributed.launch import launch
from sparsevod_core.embedded import checkpoint_name
from sparsevod_core.errors import DataError
from sparsevod_core.evaluation.metrics.detection_table import DetectionCollector
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.predictions.from_detector import (
    detect_annotated_frames,
    scored_detections,
)
from sparsevod_core.evaluation.predictions.writer import FramePredictions, PredictionsWriter
from sparsevod_core.evaluation.score import Evaluation, score
from sparsevod_core.inference import Predictor, resolve_device
from sparsevod_core.reporting import Reporter, SilentReporter
from sparsevod_core.weights.by_name import checkpoint_file

POLL_S = 0.2


def evaluate(
    predictor: Predictor,
    videos: VideoSet,
    *,
    clip: bool = True,
    only: Sequence[int] | None = None,
    checkpoint: Path | None = None,
    save_predictions: Path | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Evaluate a detector on the annotated frames of videos.

    Support frames are drawn from the annotated frames of each video, as
    `predictor.config.inference` says. Classes are matched by name. Detections of classes that the
    annotations lack are dropped, and classes that the model lacks score 0; both are reported.

    Processes in a `distributed.process_group` share the videos: all call this function, and all get
    the result. It is identical to that of one process (on a CPU up to rounding, which may depend on
    the number of threads per process).

    Args:
        predictor: The model. `config.inference.batch` frames of a video are processed together.
        videos: The data set. Unless it was loaded `for_scoring`, its file is read again.
        clip: If True, clip boxes to the frame (False to compare with MMDetection).
        only: Videos to run and score. Default: all.
        checkpoint: Path of the model, recorded in the result. Default: that of the predictor.
        save_predictions: Path of a COCO results file to write, with NAME.run.json, which says how
            it was made. Finished videos are kept beside it until all are finished.
        resume: If True, continue the interrupted evaluation that was writing `save_predictions`,
            which needs a model with the same weights.
        reporter: Receives progress and the classes that do not match, from rank 0.

    Raises:
        DataError: Annotations or frames are invalid, or no class is in common.
        ConfigError: There are unfinished predictions and not `resume`, or they are of another model
            or made with other settings.
    """
    reporter = (reporter if distributed.is_main() else None) or SilentReporter()
    chosen = list(range(videos.num_videos)) if only is None else list(only)
    image_ids = [[videos.image_id(f) for f in videos.video_frames(video)] for video in chosen]
    truth = GroundTruth.of_videos(videos)
    if only is not None:
        truth = truth.restricted_to([id_ for ids in image_ids for id_ in ids])
    collector = DetectionCollector(truth)
    classes = ClassMatch(predictor.categories, truth.path, truth.category_names, truth.category_ids)
    classes.report(reporter)
    settings = _settings(predictor, clip)

    writer = None
    if save_predictions is not None:
        made_by = {**_identity(predictor, videos.annotations_path, image_ids), **settings}
        writer = PredictionsWriter(save_predictions, image_ids, made_by, distributed.rank())
        finished = set()
        for predictions in writer.begin(resume=resume) if distributed.is_main() else ():
            try:
                collector.update(*predictions)
            except ValueError as error:  # categories or images that the annotations lack
                raise DataError(
                    f"{writer.path}.partial: not of this evaluation: {error}"
                ) from error
            finished.add(predictions.image_id)
        if finished:
            reporter.message(f"{writer.path}: skipping {len(finished):,} frames: already done")
        finished = distributed.from_main(finished)
        chosen = [v for v, ids in zip(chosen, image_ids, strict=True) if ids[0] not in finished]
    lengths = [len(videos.video_frames(video)) for video in chosen]
    shard = shard_videos(lengths, distributed.rank(), distributed.world_size())
    mine = [chosen[position] for position in shard]
    try:
        with writer or nullcontext(), progress_of_all(sum(lengths), reporter) as advance:
            if decision := predictor.expect(sum(lengths[position] for position in shard)):
                reporter.message(decision)
            for frame, detections in detect_annotated_frames(predictor, videos, mine, clip=clip):
                predictions = FramePredictions(
                    videos.image_id(frame), *scored_detections(detections, classes)
                )
                collector.update(*predictions)
                if writer is not None:
                    writer.write(predictions)
                advance()
    except KeyboardInterrupt:
        if writer is not None:
            reporter.message(f"{writer.path}: finished videos are kept; use --resume to continue")
        raise

    collectors = distributed.gather_on_main(collector)  # waits until all have written their videos
    result = None
    if distributed.is_main():
        if writer is not None:
            writer.complete(predictor.run)
        for other in collectors[1:]:
            collector.merge(other)
        result = score(truth, collector.table(), reporter)
    shared = distributed.from_main(result and replace(result, truth=None, table=None))
    result = result or shared
    assert result is not None
    return replace(
        result,
        checkpoint=checkpoint or predictor.checkpoint,
        predictions=save_predictions,
        root=videos.root,
        settings=settings,
        run=predictor.run,
        classes_left_out=tuple(classes.left_out),
        classes_unknown=tuple(classes.unknown),
    )


def evaluate_checkpoint(
    checkpoint: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    num_processes: int | None = None,
    limit_videos: int | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a checkpoint on its validation set, with an error report on rank 0.

    Args:
        checkpoint: Path of the model, or the name of published weights. None: the bundled model.
        overrides: Settings such as `inference.supports=2`; `data.val_annotations=...` replaces the
            validation set recorded in the checkpoint.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        num_processes: Number of processes to start, one per GPU.
        limit_videos: Number of videos to use, from the first. Default: all.
        options: `clip`, `save_predictions`, `resume` and `reporter`, see `evaluate`.

    Raises:
        DataError: There is no validation set, or see `evaluate`.
        ConfigError: A device or setting is not available, or see `evaluate`.
        CheckpointError: The checkpoint cannot be loaded.
    """
    if checkpoint is not None:
        # A download comes before the processes, which would all wait for it.
        checkpoint_file(checkpoint, options.get("reporter"))
    return launch(
        _evaluate_in_process,
        num_processes,
        device,
        checkpoint,
        overrides,
        device,
        limit_videos,
        options,
    )


def _evaluate_in_process(
    checkpoint: Path | None,
    overrides: Sequence[str],
    device: str,
    limit_videos: int | None,
    options: dict[str, Any],
) -> Evaluation:
    is_other_set = "data.val_annotations" in override_pairs(overrides)
    own_device = distributed.own_device(resolve_device(device))
    with distributed.process_group(own_device):
        predictor = Predictor.from_checkpoint(
            checkpoint,
            device=str(own_device),
            overrides=with_roots(overrides),
            reporter=options.get("reporter") if distributed.is_main() else None,
        )
        videos = _validation_set(predictor, is_other_set)
        only = range(videos.num_videos)[:limit_videos]
        result = evaluate(predictor, videos, only=only, checkpoint=predictor.checkpoint, **options)
    return result if result.table is None else result.with_errors()


def _validation_set(predictor: Predictor, is_other_set: bool) -> VideoSet:
    data = predictor.config.data
    annotations, root = data.val_annotations, data.val_root
    if annotations is None or not (is_other_set or Path(annotations).is_file()):
        model = (
            "the model" if predictor.checkpoint is None else checkpoint_name(predictor.checkpoint)
        )
        recorded = "no validation set" if annotations is None else f"{annotations}, not found here"
        prepare = ", or prepare ImageNet VID: sparsevod prepare-vid ROOT -o data/imagenet_vid"
        raise DataError(
            f"no videos to evaluate on: {model} records {recorded}",
            hint="use --annotations GT.json --root DIR" + (prepare if annotations else ""),
        )
    return VideoSet.load(annotations, root, for_scoring=True)


def shard_videos(num_frames: Sequence[int], rank: int, world_size: int) -> list[int]:
    """Return the videos of one process, as ascending positions in `num_frames` (one per video).

    The longest videos are assigned first, each to the process with the fewest frames so far. Videos
    are never split, so batches and supports do not depend on the number of processes.
    """
    loads = [0] * world_size
    mine = []
    for video in sorted(range(len(num_frames)), key=lambda video: -num_frames[video]):
        receiver = loads.index(min(loads))
        loads[receiver] += num_frames[video]
        if receiver == rank:
            mine.append(video)
    return sorted(mine)


@contextmanager
def progress_of_all(total: int, reporter: Reporter) -> Iterator[Callable[[], None]]:
    """Count the frames of all processes; rank 0 shows them and waits for the others at the end.

    Raises:
        DataError: Another process failed.
    """
    tally, failures = distributed.Tally(), distributed.Tally()
    shown = 0

    def advance(count: int = 1) -> None:
        nonlocal shown
        done = tally.add(count)
        progress.advance(done - shown)
        shown = done

    with reporter.progress("evaluating", total) as progress:
        try:
            yield advance
        except BaseException:
            failures.add(1)
            raise
        while distributed.is_main() and shown < total:
            if failures.add(0):
                raise DataError("another process failed", hint="its error message says why")
            time.sleep(POLL_S)
            advance(0)


def _settings(predictor: Predictor, clip: bool) -> dict[str, Any]:
    config = predictor.config
    return {
        **dataclasses.asdict(config.inference),
        "batch": predictor.batch,
        "supports": predictor.num_supports,
        **predictor.frame_settings,
        "clip": clip,
        "seed": config.seed,
    }


def _identity(
    predictor: Predictor, annotations: Path, image_ids: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Identify the model and the selected frames by their content, wherever the files are."""
    frames = np.array([id_ for ids in image_ids for id_ in ids], dtype=np.int64)
    return {
        "model": predictor.model_digest,
        "annotations": digest(annotations),
        "frames": f"{len(frames)} in {len(image_ids)} videos, "
        f"sha256 {hashlib.sha256(frames.tobytes()).hexdigest()[:16]}",
    }
