"""Runs a detector over annotated videos and scores what it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sparsevod_core import distributed
from sparsevod_core.data.records import VideoSet
from sparsevod_core.evaluation.class_match import ClassMatch
from sparsevod_core.evaluation.coco import BoxAP, BoxAPEvaluator
from sparsevod_core.evaluation.detect_videos import VideoDetector, detect_videos
from sparsevod_core.evaluation.ground_truth import GroundTruth
from sparsevod_core.evaluation.rescore import Evaluation, evaluate_predictions, score
from sparsevod_core.evaluation.results_writer import ResultsWriter
from sparsevod_core.reporting import Reporter, SilentReporter

__all__ = ["Evaluation", "VideoDetector", "evaluate", "evaluate_predictions", "shard_videos"]


def evaluate(
    predictor: VideoDetector,
    videos: VideoSet,
    *,
    clip: bool = True,
    only: Sequence[int] | None = None,
    checkpoint: Path | None = None,
    save_predictions: Path | None = None,
    shared: bool = False,
    reporter: Reporter | None = None,
) -> Evaluation:
    """COCO AP of `predictor` over the annotated frames of `videos`.

    Supports are drawn from the listed frames of each video as `predictor.config.inference` says.
    Classes are matched by name: the model's that the annotations lack are left out, the
    annotations' that the model lacks score 0, and both are said.

    Args:
        predictor: the model; `config.inference.batch` frames of a video go through it together.
        videos: what to evaluate on. The boxes are read again from its file, at full precision.
        clip: clip boxes to the frame (False to compare with MMDetection).
        only: the videos to run and score; None: all.
        checkpoint: recorded in the result.
        save_predictions: where to write a COCO results file; scoring it again gives these numbers.
        shared: share the videos among the processes of the run, all of which must call this; each
            gets the whole result. The numbers are those of one process.
        reporter: told of progress and of classes that do not match.

    Raises:
        DataError: broken annotations or frames, or no class in common.
    """
    if shared and save_predictions is not None:
        raise ValueError("save_predictions needs one process that sees every frame")
    reporter = reporter or SilentReporter()
    chosen = list(range(videos.num_videos)) if only is None else list(only)
    truth = GroundTruth.load(videos.annotations_path)
    if only is not None:
        truth = truth.restricted_to([videos.image_id(f) for f in _frames(videos, chosen)])
    evaluator = BoxAPEvaluator(truth)
    classes = ClassMatch(predictor.categories, truth)
    classes.say(reporter)
    if shared:
        lengths = [len(videos.video_frames(video)) for video in chosen]
        shard = shard_videos(lengths, distributed.rank(), distributed.world_size())
        chosen = [chosen[position] for position in shard]

    with ExitStack() as stack:
        writer = stack.enter_context(ResultsWriter(save_predictions)) if save_predictions else None
        total = len(_frames(videos, chosen))
        progress = stack.enter_context(reporter.progress("evaluate", total))
        for frame, detections in detect_videos(predictor, videos, chosen, clip=clip):
            found = (videos.image_id(frame), *classes.select(detections))
            evaluator.update(*found)
            if writer is not None:
                writer.write(*found)
            progress.advance()
    return Evaluation(
        boxes=_score_together(evaluator, reporter) if shared else score(evaluator, reporter),
        annotations=videos.annotations_path,
        checkpoint=checkpoint,
        predictions=save_predictions,
        settings=_settings(predictor, clip),
        classes_left_out=tuple(classes.left_out),
        classes_unknown=tuple(classes.unknown),
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


def _score_together(evaluator: BoxAPEvaluator, reporter: Reporter) -> BoxAP:
    """All processes' detections, scored by one and told to all."""
    parts = distributed.gather(evaluator)
    boxes = None
    if distributed.is_main():
        whole, *others = parts
        for other in others:
            whole.merge(other)
        boxes = score(whole, reporter)
    boxes = distributed.from_main(boxes)
    assert boxes is not None
    return boxes


def _frames(videos: VideoSet, chosen: Sequence[int]) -> list[int]:
    return [frame for video in chosen for frame in videos.video_frames(video)]


def _settings(predictor: VideoDetector, clip: bool) -> dict[str, Any]:
    config = predictor.config
    return {
        **dataclasses.asdict(config.inference),
        "supports": predictor.num_supports,
        "short_side": config.data.short_side,
        "long_side": config.data.long_side,
        "clip": clip,
        "seed": config.seed,
    }
