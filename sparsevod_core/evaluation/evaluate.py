"""Runs a detector over annotated videos and scores what it finds."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core import distributed
from sparsevod_core.checkpoint.digest import digest
from sparsevod_core.data.records import VideoSet
from sparsevod_core.evaluation.metrics.coco import BoxAPEvaluator
from sparsevod_core.evaluation.metrics.ground_truth import GroundTruth
from sparsevod_core.evaluation.predictions.class_match import ClassMatch
from sparsevod_core.evaluation.predictions.detect_videos import VideoDetector, detect_videos
from sparsevod_core.evaluation.predictions.results_writer import FrameResults, ResultsWriter
from sparsevod_core.evaluation.rescore import Evaluation, evaluate_predictions, score
from sparsevod_core.reporting import Reporter, SilentReporter

__all__ = ["Evaluation", "VideoDetector", "evaluate", "evaluate_predictions", "shard_videos"]

POLL_S = 0.2


def evaluate(
    predictor: VideoDetector,
    videos: VideoSet,
    *,
    clip: bool = True,
    only: Sequence[int] | None = None,
    checkpoint: Path | None = None,
    save_predictions: Path | None = None,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Evaluation:
    """COCO AP of `predictor` over the annotated frames of `videos`.

    Supports are drawn from the listed frames of each video as `predictor.config.inference` says.
    Classes are matched by name: the model's that the annotations lack are left out, the
    annotations' that the model lacks score 0, and both are said.

    Processes that have joined one another (`distributed.process_group`) share the videos: all call
    this, and each gets the whole result. Detections and numbers are those of one process (on a CPU
    up to rounding, which may differ with the number of threads that each has).

    Args:
        predictor: the model; `config.inference.batch` frames of a video go through it together.
        videos: what to evaluate on. Unless loaded `for_scoring`, its file is read again for the
            boxes at full precision.
        clip: clip boxes to the frame (False to compare with MMDetection).
        only: the videos to run and score; None: all.
        checkpoint: recorded in the result; its content must be the same to resume.
        save_predictions: where to write a COCO results file; scoring it again gives these numbers.
            Videos that are finished are kept beside it until all are.
        resume: go on with what an evaluation that was cut off has kept there.
        reporter: told of progress and of classes that do not match, by rank 0.

    Raises:
        DataError: broken annotations or frames, or no class in common.
        ConfigError: unfinished predictions in the way, or of another model or other settings.
    """
    reporter = (reporter if distributed.is_main() else None) or SilentReporter()
    chosen = list(range(videos.num_videos)) if only is None else list(only)
    image_ids = [[videos.image_id(f) for f in videos.video_frames(video)] for video in chosen]
    truth = GroundTruth.of_videos(videos)
    if only is not None:
        truth = truth.restricted_to([id_ for ids in image_ids for id_ in ids])
    evaluator = BoxAPEvaluator(truth)
    classes = ClassMatch(predictor.categories, truth)
    classes.say(reporter)
    settings = _settings(predictor, clip)

    writer = None
    if save_predictions is not None:
        made_by = {**_identity(checkpoint, videos.annotations_path, image_ids), **settings}
        writer = ResultsWriter(save_predictions, image_ids, made_by, rank=distributed.rank())
        finished = _go_on(writer, evaluator, resume, reporter)
        chosen = [v for v, ids in zip(chosen, image_ids, strict=True) if ids[0] not in finished]
    lengths = [len(videos.video_frames(video)) for video in chosen]
    shard = shard_videos(lengths, distributed.rank(), distributed.world_size())
    with ExitStack() as stack:
        if writer is not None:
            stack.enter_context(_kept_on_interrupt(writer, reporter))
        advance = stack.enter_context(_progress_of_all(sum(lengths), reporter))
        mine = [chosen[position] for position in shard]
        decided = predictor.expect(sum(lengths[position] for position in shard))
        if decided is not None:
            reporter.message(decided)
        for frame, detections in detect_videos(predictor, videos, mine, clip=clip):
            found = FrameResults(videos.image_id(frame), *classes.select(detections))
            evaluator.update(*found)
            if writer is not None:
                writer.write(found)
            advance()
    scores, table = None, None
    parts = distributed.gather_on_main(evaluator)  # so all have left the block and written theirs
    if distributed.is_main():
        if writer is not None:
            writer.complete()
        table = _merged(parts).table()
        scores = score(truth, table, reporter)
    scores = distributed.from_main(scores)
    assert scores is not None
    return Evaluation(
        boxes=scores.boxes,
        motion=scores.motion,
        degradation=scores.degradation,
        annotations=videos.annotations_path,
        checkpoint=checkpoint,
        predictions=save_predictions,
        root=videos.root,
        settings=settings,
        run=predictor.run,
        classes_left_out=tuple(classes.left_out),
        classes_unknown=tuple(classes.unknown),
        truth=truth,
        table=table,
    )


def shard_videos(num_frames: Sequence[int], rank: int, world_size: int) -> list[int]:
    """Positions in `num_frames`, a video's length each, of the videos that fall to one process.

    Every video falls whole to exactly one, the longest first, each to the process with the fewest
    frames so far. So frames meet the same batches and supports whatever the number of processes.
    """
    loads = [0] * world_size
    mine = []
    for video in sorted(range(len(num_frames)), key=lambda video: -num_frames[video]):
        receiver = loads.index(min(loads))
        loads[receiver] += num_frames[video]
        if receiver == rank:
            mine.append(video)
    return sorted(mine)


def _go_on(
    writer: ResultsWriter, evaluator: BoxAPEvaluator, resume: bool, reporter: Reporter
) -> set[int]:
    """Image ids of the videos that were finished before; rank 0 takes over what was found there."""
    finished = set()
    if distributed.is_main():
        for frame in writer.begin(resume=resume):
            evaluator.update(*frame)
            finished.add(frame.image_id)
        if finished:
            reporter.message(f"{writer.path}: {len(finished):,} frames are there already")
    return distributed.from_main(finished)


@contextmanager
def _kept_on_interrupt(writer: ResultsWriter, reporter: Reporter) -> Iterator[None]:
    try:
        with writer:
            yield
    except KeyboardInterrupt:
        reporter.message(f"{writer.path}: finished videos are kept; --resume goes on with the next")
        raise


@contextmanager
def _progress_of_all(total: int, reporter: Reporter) -> Iterator[Callable[[], None]]:
    """Counts frames of all processes; rank 0 shows them, and waits here for the others."""
    tally = distributed.Tally()
    shown = 0

    def advance(count: int = 1) -> None:
        nonlocal shown
        done = tally.add(count)
        progress.advance(done - shown)
        shown = done

    with reporter.progress("evaluate", total) as progress:
        yield advance
        while distributed.is_main() and shown < total:
            time.sleep(POLL_S)
            advance(0)


def _merged(parts: Sequence[BoxAPEvaluator]) -> BoxAPEvaluator:
    whole, *others = parts
    for other in others:
        whole.merge(other)
    return whole


def _settings(predictor: VideoDetector, clip: bool) -> dict[str, Any]:
    config = predictor.config
    return {
        **dataclasses.asdict(config.inference),
        "batch": predictor.batch,
        "supports": predictor.num_supports,
        "short_side": config.data.short_side,
        "long_side": config.data.long_side,
        "clip": clip,
        "seed": config.seed,
    }


def _identity(
    checkpoint: Path | None, annotations: Path, image_ids: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """What tells this model and this selection of frames from others, wherever the files lie."""
    frames = np.array([id_ for ids in image_ids for id_ in ids], dtype=np.int64)
    return {
        "checkpoint": None if checkpoint is None else digest(checkpoint),
        "annotations": digest(annotations),
        "frames": f"{len(frames)} in {len(image_ids)} videos, "
        f"sha256 {hashlib.sha256(frames.tobytes()).hexdigest()[:16]}",
    }
