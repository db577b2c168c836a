"""`sparsevod eval`: box AP of a model or of saved predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    Batch,
    Cache,
    ConfigFile,
    Device,
    JsonOut,
    NumSupports,
    Overrides,
    Seed,
    SupportMode,
    overrides_with,
)
from sparsevod_core.errors import ConfigError
from sparsevod_core.files.kinds import COCO_RESULTS, MARKED, Kind
from sparsevod_core.reporting import Reporter, SilentReporter

SCHEMA_OF_SEVERAL = "sparsevod.evals/1"


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CKPT",
            help="Checkpoint to evaluate, or the name of published weights; default: the bundled "
            "model.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            help="COCO or COCO-VID JSON; default: the validation set recorded in the checkpoint.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", help="Folder of the frames; default: the folder recorded in the JSON."
        ),
    ] = None,
    from_predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--from-predictions",
            metavar="[NAME=]FILE",
            help="Score a COCO results file, or a folder of them with other frames each, without a "
            "model; repeatable, to compare several.",
        ),
    ] = None,
    save_predictions: Annotated[
        Path | None,
        typer.Option(
            "--save-predictions",
            help="Write the detections as a COCO results file, and how they were made to "
            "NAME.run.json.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Resume an interrupted run that has --save-predictions."),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", help="Number of processes to share the videos among, one per GPU."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            "--figures",
            help="Folder for figures and for images of the worst frames.",
        ),
    ] = None,
    clip: Annotated[
        bool,
        typer.Option("--clip/--no-clip", help="Clip boxes to the frame; MMDetection does not."),
    ] = True,
    num_supports: NumSupports = None,
    support_mode: SupportMode = None,
    batch: Batch = None,
    limit_videos: Annotated[
        int | None,
        typer.Option("--limit-videos", min=1, help="Use only the first N videos."),
    ] = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    cache: Cache = None,
    json_out: JsonOut = None,
) -> None:
    """Compute the box AP of a model on annotated videos, or of saved predictions.

    Without CKPT and --from-predictions, evaluate the bundled model on --annotations and print its
    classes. Several --from-predictions are compared, each under NAME or the name of its file.

    AP is COCO's, from 0 to 1: AP (IoU 0.50 to 0.95), AP50 and AP75, overall and per class. A class
    without ground-truth boxes has no AP ("-" in the tables, null in the JSON) and is not averaged;
    classes_without_boxes lists such classes. Crowd boxes do not count.
    Objects are fast at a motion IoU below 0.7, medium up to 0.9 and slow above.

    Errors are counted among detections with a score above 0.3. Each is assigned to the box that it
    overlaps most, by an IoU of at least 0.5, whatever its class. A box is detected correctly,
    detected as a wrong class, or missed. A detection without a box is a false alarm. The worst
    videos have the lowest AP50 on their own frames; videos without boxes follow, ordered by false
    alarms. The worst frames have the most errors.

    -o writes ap_by_iou (AP against the IoU threshold, the paper's Fig. 4, one line per result),
    precision_recall, confusion.png, and worst_frames.png and worst_videos.png, each with a folder
    of its images in full size. Curves are written as PNG and PDF. Several results get a subfolder
    each.

    --gpus processes share the videos; the results are identical to those of one process. An
    interrupted run with --save-predictions can be resumed: --resume skips the finished videos.

    --json has the keys schema ("sparsevod.eval/1"), AP, AP50, AP75, AR1, AR10, AR100, per_class (by
    name: AP, AP50, AP75, num_boxes), num_frames, num_boxes, num_detections, AP_by_iou ("0.50" to
    "0.95"), annotations, checkpoint ("embedded" for the bundled model), predictions, settings, run
    (version, device, precision, threads, seed, settings: all of them, model: a digest),
    classes_left_out (the annotations lack them) and classes_unknown (the model lacks them). Several
    results are under results, by name, with schema "sparsevod.evals/1".

    motion has AP by speed: coco (fast, medium, slow with AP, AP50, AP75, num_boxes; other boxes are
    ignored), fgfa (AP of all, fast, medium, slow by FGFA's rules) and num_unknown (boxes that no
    speed counts: labels of their track are too far apart). If the annotations do not say how
    objects move, both are null and unknown is the reason. degraded and clean (AP, AP50, AP75,
    num_frames, num_boxes) are of frames whose `degradation` in the annotations is set or empty, as
    in a rendered set or a degraded copy; otherwise they are null.

    confusion has score, iou, correct, wrong_class, missed, false_alarms, the same four per_class,
    top (true, predicted, count, share of the true class), classes and matrix (true class by
    predicted class, background last). worst_frames have image_id, video, frame_id, file_name,
    num_boxes, missed, wrong_class, false_alarms and errors (kind, true, predicted, score,
    true_xywh, found_xywh); worst_videos have video, AP50, num_frames, the same counts and frames.

    Example: sparsevod eval runs/vid/last.pth --annotations val.json --root frames --json ap.json

    Example: sparsevod eval last.pth --gpus 8 --save-predictions predictions.json --resume

    Example: sparsevod eval --annotations val.json --from-predictions ours=a.json -o report
    """
    from sparsevod_cli.progress import ConsoleReporter

    settings = overrides_with(
        overrides,
        seed,
        config_file=config_file,
        inference__supports=num_supports,
        inference__support=support_mode,
        inference__batch=batch,
    )
    is_main = console.is_first_process()
    reporter: Reporter = ConsoleReporter() if is_main else SilentReporter()
    if resume and save_predictions is None:
        raise ConfigError(
            "--resume needs --save-predictions FILE",
            hint="use: sparsevod eval CKPT --save-predictions FILE --resume",
        )
    files = _named(from_predictions or [])
    if is_main:
        inputs = {
            "the checkpoint": checkpoint,
            "the annotation file": annotations,
            "the configuration file": config_file,
            **{f"the file of predictions {name}": file for name, file in files.items()},
        }
        _check_outputs(json_out, save_predictions, figures, inputs, list(files))
    if from_predictions:
        of_a_model = (checkpoint, save_predictions, limit_videos, settings, not clip, gpus)
        if annotations is None or any(of_a_model) or (root is not None and figures is None):
            raise ConfigError(
                "--from-predictions runs no model: it needs --annotations and takes only --json, "
                "-o and, with -o, --root",
                hint="use: sparsevod eval --annotations GT.json --from-predictions DETS.json",
            )
        from sparsevod_core.evaluation.score import evaluate_predictions

        results = {
            name: evaluate_predictions(annotations, file, reporter=reporter).with_errors()
            for name, file in files.items()
        }
    else:
        from sparsevod_core.embedded import embedded_checkpoint
        from sparsevod_core.evaluation.evaluate import evaluate_checkpoint

        result = evaluate_checkpoint(
            checkpoint,
            overrides=overrides_with(
                settings, data__val_annotations=annotations, data__val_root=root
            ),
            device=device,
            num_processes=gpus,
            limit_videos=limit_videos,
            clip=clip,
            save_predictions=save_predictions,
            resume=resume,
            reporter=reporter,
        )
        results = {(checkpoint or embedded_checkpoint()).stem: result}
    if is_main:
        _show({name: one.to_dict() for name, one in results.items()}, json_out)
        if figures is not None:  # last: it takes a while and may be interrupted
            from sparsevod_core.evaluation.figures import draw_figures

            draw_figures(results, figures, root=root, reporter=reporter)
            reporter.message(f"wrote figures to {figures}")


def _check_outputs(
    json_out: Path | None,
    save_predictions: Path | None,
    figures: Path | None,
    inputs: Mapping[str, Path | None],
    names: Sequence[str],
) -> None:
    """Fail now and not after an hour of evaluation if an output cannot be written."""
    from sparsevod_core.evaluation.score import SCHEMA

    others: list[tuple[Path, Kind | None]] = []
    if save_predictions is not None:
        others.append((save_predictions, COCO_RESULTS))
    if figures is not None:
        from sparsevod_core.evaluation.figures import figure_files

        others += [(file, MARKED) for file in figure_files(figures, names)]
    schema = SCHEMA_OF_SEVERAL if names[1:] else SCHEMA
    console.check_outputs(json_out, schema, inputs, others)


def _named(texts: Sequence[str]) -> dict[str, Path]:
    """Return the files of --from-predictions by NAME, or by file name without .json."""
    files: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or Path(text).is_file():
            name, file = Path(text).stem, text
        if name in files or name in ("", ".", "..") or "/" in name:
            raise ConfigError(
                f"--from-predictions {text}: "
                + (f"{name} is already {files[name]}" if name in files else "not a valid name"),
                hint="use: --from-predictions ours=a.json --from-predictions theirs=b.json",
            )
        files[name] = Path(file)
    return files


def _show(results: Mapping[str, dict[str, Any]], json_out: Path | None) -> None:
    from sparsevod_cli.evaluation_tables import show_result, show_results

    first, *others = results.values()
    if json_out is not None:
        together = {"schema": SCHEMA_OF_SEVERAL, "results": results}
        console.write_json(json_out, together if others else first)
    if str(json_out) == "-":
        return
    if others:
        show_results(results)
    else:
        show_result(first)
