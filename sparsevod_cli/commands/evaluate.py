"""`sparsevod eval`: how good are the boxes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    Batch,
    ConfigFile,
    Device,
    JsonOut,
    Overrides,
    Seed,
    Support,
    Supports,
    overrides_with,
)
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.reporting import Reporter, SilentReporter

if TYPE_CHECKING:
    from sparsevod_core.config import Config
    from sparsevod_core.data.records import VideoSet
    from sparsevod_core.evaluation.rescore import Evaluation


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(metavar="CKPT", help="The model, as `sparsevod train` saves it."),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            help="COCO or COCO-VID JSON; else the validation set that the checkpoint records.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Folder that file names in the annotations start from."),
    ] = None,
    from_predictions: Annotated[
        Path | None,
        typer.Option("--from-predictions", help="Score this COCO results file, without a model."),
    ] = None,
    save_predictions: Annotated[
        Path | None,
        typer.Option("--save-predictions", help="Write the detections as a COCO results file."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with --save-predictions where a run was cut off."),
    ] = False,
    gpus: Annotated[
        int | None, typer.Option("--gpus", help="Processes to start, one for each GPU.")
    ] = None,
    clip: Annotated[
        bool,
        typer.Option("--clip/--no-clip", help="Clip boxes to the frame; MMDetection does not."),
    ] = True,
    supports: Supports = None,
    support: Support = None,
    batch: Batch = None,
    limit_videos: Annotated[
        int | None,
        typer.Option("--limit-videos", min=1, help="Only so many videos, the first."),
    ] = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Measure box AP: of a model on annotated videos, or of predictions saved before.

    The numbers are COCO's, 0 to 1: AP (IoU 0.50 to 0.95), AP50, AP75, overall and per class. The
    JSON has the keys schema, AP, AP50, AP75, AR1, AR10, AR100, per_class, num_frames, num_boxes,
    num_detections, annotations, checkpoint, predictions, settings, classes_left_out and
    classes_unknown; a class without boxes has null for its AP and does not count.

    Videos are shared among --gpus processes; the numbers are those of one. With --save-predictions
    a run that was cut off, however, goes on with --resume after the videos that were finished.

    Example: sparsevod eval runs/vid/last.pth --annotations val.json --root frames --json ap.json

    Example: sparsevod eval last.pth --gpus 8 --save-predictions found.json --resume
    """
    is_main = os.environ.get("RANK", "0") == "0"
    from sparsevod_cli.progress import ConsoleReporter

    settings = overrides_with(
        overrides,
        seed,
        config_file=config_file,
        inference__supports=supports,
        inference__support=support,
        inference__batch=batch,
    )
    reporter: Reporter = ConsoleReporter() if is_main else SilentReporter()
    if resume and save_predictions is None:
        raise ConfigError(
            "--resume goes on with --save-predictions FILE: which?",
            hint="sparsevod eval CKPT --save-predictions FILE --resume",
        )
    if from_predictions is not None:
        from sparsevod_core.evaluation.rescore import evaluate_predictions

        of_a_model = (checkpoint, root, save_predictions, limit_videos, settings, not clip, gpus)
        if annotations is None or any(of_a_model):
            raise ConfigError(
                "--from-predictions runs no model: it goes with --annotations and --json only",
                hint="sparsevod eval --annotations GT.json --from-predictions DETS.json",
            )
        result = evaluate_predictions(annotations, from_predictions, reporter=reporter)
    elif checkpoint is not None:
        from sparsevod_core.distributed.launch import launch

        result = launch(
            _evaluate_model,
            gpus,
            device,
            checkpoint,
            annotations,
            root,
            limit_videos,
            settings=settings,
            device=device,
            clip=clip,
            save_predictions=save_predictions,
            resume=resume,
            reporter=reporter,
        )
    else:
        raise ConfigError(
            "nothing to evaluate: name a checkpoint, or saved predictions with --from-predictions",
            hint="sparsevod eval CKPT --annotations GT.json --root DIR",
        )
    if not is_main:
        return
    if str(json_out) != "-":
        _show(result)
    if json_out is not None:
        console.write_json(json_out, result.to_dict())


def _evaluate_model(
    checkpoint: Path,
    annotations: Path | None,
    root: Path | None,
    limit_videos: int | None,
    *,
    settings: list[str],
    device: str,
    reporter: Reporter,
    **options: Any,
) -> Evaluation:
    """What each process does."""
    from sparsevod_core import distributed
    from sparsevod_core.evaluation.evaluate import evaluate as evaluate_model
    from sparsevod_core.inference import Predictor, resolve_device

    own_device = distributed.own_device(resolve_device(device))
    with distributed.process_group(own_device):
        predictor = Predictor.from_checkpoint(
            checkpoint,
            device=str(own_device),
            overrides=settings,
            reporter=reporter if distributed.is_main() else None,
        )
        videos = _videos(checkpoint, predictor.config, annotations, root)
        return evaluate_model(
            predictor,
            videos,
            only=range(videos.num_videos)[:limit_videos],
            checkpoint=checkpoint,
            reporter=reporter,
            **options,
        )


def _videos(
    checkpoint: Path, config: Config, annotations: Path | None, root: Path | None
) -> VideoSet:
    """The set that was named, else the one that the checkpoint's config records."""
    from sparsevod_core.data.records import VideoSet

    if annotations is not None:
        return VideoSet.load(annotations, root)
    recorded, recorded_root = config.data.val_annotations, config.data.val_root
    if recorded is None or not Path(recorded).is_file():
        what = "no validation set" if recorded is None else f"{recorded}, which is not there"
        raise DataError(
            f"which videos? {checkpoint} records {what}",
            hint="name a set with --annotations GT.json --root DIR, or prepare ImageNet VID: "
            "sparsevod prepare-vid ROOT -o data/imagenet_vid",
        )
    return VideoSet.load(Path(recorded), root or (Path(recorded_root) if recorded_root else None))


def _show(result: Evaluation) -> None:
    boxes = result.boxes

    def row(name: str, values: tuple[float, float, float], num_boxes: int) -> list[str]:
        # A class without boxes has no AP, which is not an AP of 0.
        return [name, *("-" if v != v else f"{v:.3f}" for v in values), f"{num_boxes:,}"]

    rows = [row("all", (boxes.AP, boxes.AP50, boxes.AP75), boxes.num_boxes)]
    rows += [
        row(name, (one.AP, one.AP50, one.AP75), one.num_boxes)
        for name, one in boxes.per_class.items()
    ]
    title = f"{result.annotations.name}: {boxes.num_frames:,} frames"
    console.table(title, ["", "AP", "AP50", "AP75", "boxes"], rows)
