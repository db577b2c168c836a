"""`sparsevod eval`: how good are the boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    Batch,
    ConfigFile,
    Device,
    JsonOut,
    NumSupports,
    Overrides,
    Seed,
    SupportMode,
    overrides_with,
)
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.reporting import Reporter, SilentReporter

if TYPE_CHECKING:
    from sparsevod_core.config import Config
    from sparsevod_core.data.records import VideoSet
    from sparsevod_core.evaluation.rescore import Evaluation

SCHEMA_OF_SEVERAL = "sparsevod.evals/1"


def evaluate(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(metavar="CKPT", help="The model; else the one that comes with the package."),
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
        list[str] | None,
        typer.Option(
            "--from-predictions",
            metavar="[NAME=]FILE",
            help="Score this COCO results file, without a model; may be repeated to compare.",
        ),
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
    figures: Annotated[
        Path | None,
        typer.Option("--figures", help="Folder for figures, and pictures of the worst frames."),
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
        typer.Option("--limit-videos", min=1, help="Only so many videos, the first."),
    ] = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Measure box AP: of a model on annotated videos, or of predictions saved before.

    Without CKPT and --from-predictions it is the model that comes with the package, on
    --annotations; which classes it knows is said.

    The numbers are COCO's, 0 to 1: AP (IoU 0.50 to 0.95), AP50, AP75, overall and per class; a
    class without boxes has none ("-", null in the JSON) and does not count. Speed is that of the
    objects: fast, medium and slow are a motion IoU below 0.7, up to 0.9 and above. Errors are
    counted among detections with a score above 0.3, each given to the box that it overlaps most, by
    0.5 or more, whatever its class: a box is found, found as another class, or missed; a detection
    without a box is a false alarm. The worst videos have the lowest AP50 over their own frames
    (videos without boxes follow, by false alarms), the worst frames the most errors.

    Several --from-predictions are compared. Each is called by its file's name, or by NAME.

    --figures writes ap_by_iou (AP against the IoU threshold, the paper's Fig. 4; all results in
    one), precision_recall, confusion.png, and worst_frames.png and worst_videos.png with a folder
    of full-size pictures each. Curves are PNG and PDF. With several results each has a folder.

    Keys of --json: schema ("sparsevod.eval/1"), AP, AP50, AP75, AR1, AR10, AR100, per_class (by
    name: AP, AP50, AP75, num_boxes), num_frames, num_boxes, num_detections, AP_by_iou ("0.50" to
    "0.95"), motion (coco: fast, medium, slow with AP, AP50, AP75, num_boxes, other boxes ignored;
    fgfa: AP of all, fast, medium, slow by FGFA's rules; both null, and why under unknown, where the
    annotations do not tell how objects move), degraded and clean (AP, AP50, AP75, num_frames,
    num_boxes of the frames whose `degradation` in the annotations is set or empty, as in a rendered
    set; else null), confusion (score, iou, correct,
    wrong_class, missed, false_alarms, the same per_class, top: true, predicted, count, share;
    classes, matrix: true class by predicted, background last), worst_frames (image_id, video,
    frame_id, file_name, num_boxes, missed, wrong_class, false_alarms, errors: kind, true,
    predicted, score, true_xywh, found_xywh), worst_videos (video, AP50, num_frames, the same
    counts, frames), annotations, checkpoint ("embedded" for the package's own), predictions,
    settings, run (version, device, precision, threads), classes_left_out, classes_unknown. Several
    results: schema ("sparsevod.evals/1") and results, by name.

    Videos are shared among --gpus processes; the numbers are those of one. With --save-predictions
    a run that was cut off, however, goes on with --resume after the videos that were finished.

    Example: sparsevod eval runs/vid/last.pth --annotations val.json --root frames --json ap.json

    Example: sparsevod eval last.pth --gpus 8 --save-predictions found.json --resume

    Example: sparsevod eval --annotations val.json --from-predictions ours=a.json --figures out
    """
    is_main = console.is_first_process()
    from sparsevod_cli.progress import ConsoleReporter

    settings = overrides_with(
        overrides,
        seed,
        config_file=config_file,
        inference__supports=num_supports,
        inference__support=support_mode,
        inference__batch=batch,
    )
    reporter: Reporter = ConsoleReporter() if is_main else SilentReporter()
    if resume and save_predictions is None:
        raise ConfigError(
            "--resume goes on with --save-predictions FILE: which?",
            hint="sparsevod eval CKPT --save-predictions FILE --resume",
        )
    if figures is not None:
        _make_folder(figures)
    if from_predictions:
        of_a_model = (checkpoint, save_predictions, limit_videos, settings, not clip, gpus)
        if annotations is None or any(of_a_model) or (root is not None and figures is None):
            raise ConfigError(
                "--from-predictions runs no model: it goes with --annotations, --json and "
                "--figures; --root says where the frames of the figures are",
                hint="sparsevod eval --annotations GT.json --from-predictions DETS.json",
            )
        results = _score_files(annotations, from_predictions, reporter)
    else:
        from sparsevod_core.config import override_pairs
        from sparsevod_core.distributed.launch import launch
        from sparsevod_core.embedded import embedded_checkpoint
        from sparsevod_core.evaluation.errors.report import with_report

        given = overrides_with(settings, data__val_annotations=annotations, data__val_root=root)
        is_named = "data.val_annotations" in override_pairs(given)
        # The root that the checkpoint records is that of the set that it records.
        settings = overrides_with(given, defaults={"data.val_root": None} if is_named else None)
        result = launch(
            _evaluate_model,
            gpus,
            device,
            checkpoint,
            is_named,
            limit_videos,
            settings=settings,
            device=device,
            clip=clip,
            save_predictions=save_predictions,
            resume=resume,
            reporter=reporter,
        )
        if not is_main:
            return
        results = {(checkpoint or embedded_checkpoint()).stem: with_report(result)}
    _finish(results, json_out, figures, root, reporter)


def _make_folder(figures: Path) -> None:
    """Now, not after an hour of evaluation."""
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--figures {figures}: not a folder: {error.strerror}") from error


def _finish(
    results: dict[str, Evaluation],
    json_out: Path | None,
    figures: Path | None,
    root: Path | None,
    reporter: Reporter,
) -> None:
    """Tables and JSON, then figures: what takes a while can be interrupted without a loss."""
    from sparsevod_cli.evaluation_tables import show_result, show_results
    from sparsevod_core.evaluation.errors.report import draw_figures

    values = {name: one.to_dict() for name, one in results.items()}
    several = len(values) > 1
    if str(json_out) != "-":
        if several:
            show_results(values)
        else:
            show_result(*values.values())
    if json_out is not None:
        together = {"schema": SCHEMA_OF_SEVERAL, "results": values}
        console.write_json(json_out, together if several else next(iter(values.values())))
    if figures is not None:
        draw_figures(results, figures, root=root, reporter=reporter)
        reporter.message(f"figures are in {figures}")


def _score_files(
    annotations: Path, from_predictions: list[str], reporter: Reporter
) -> dict[str, Evaluation]:
    """Each results file by its name; of its detections only the errors are kept."""
    from sparsevod_core.evaluation.errors.report import with_report
    from sparsevod_core.evaluation.rescore import evaluate_predictions

    return {
        name: with_report(evaluate_predictions(annotations, file, reporter=reporter))
        for name, file in _named(from_predictions).items()
    }


def _named(texts: list[str]) -> dict[str, Path]:
    """Files by the names that they were given, else by their own without .json."""
    files: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or Path(text).is_file():
            name, file = Path(text).stem, text
        if name in files or name in ("", ".", "..") or "/" in name:
            raise ConfigError(
                f"--from-predictions {text}: "
                + (f"{name} is {files[name]} already" if name in files else "no name for it"),
                hint="name each: --from-predictions ours=a.json --from-predictions theirs=b.json",
            )
        files[name] = Path(file)
    return files


def _evaluate_model(
    checkpoint: Path | None,
    is_named: bool,
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
        videos = _videos(checkpoint, predictor.config, is_named)
        return evaluate_model(
            predictor,
            videos,
            only=range(videos.num_videos)[:limit_videos],
            checkpoint=predictor.checkpoint,
            reporter=reporter,
            **options,
        )


def _videos(checkpoint: Path | None, config: Config, is_named: bool) -> VideoSet:
    """The set that was named, else the one that the checkpoint's config records."""
    from sparsevod_core.data.records import VideoSet
    from sparsevod_core.embedded import checkpoint_name, embedded_checkpoint

    annotations, root = config.data.val_annotations, config.data.val_root
    if annotations is None or not (is_named or Path(annotations).is_file()):
        what = "no validation set" if annotations is None else f"{annotations}, which is not there"
        prepare = ", or prepare ImageNet VID: sparsevod prepare-vid ROOT -o data/imagenet_vid"
        name = checkpoint_name(checkpoint or embedded_checkpoint())
        raise DataError(
            f"which videos? the model ({name}) records {what}",
            hint="name a set with --annotations GT.json --root DIR"
            + (prepare if annotations else ""),
        )
    return VideoSet.load(Path(annotations), None if root is None else Path(root))
