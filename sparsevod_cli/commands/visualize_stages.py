"""`sparsevod visualize-stages`: the stages of a detector, for frames of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    Cache,
    CheckpointFile,
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
from sparsevod_core.files.kinds import MARKED
from sparsevod_core.files.names import fitted
from sparsevod_core.files.unfinished import write_text

if TYPE_CHECKING:
    from sparsevod_core.inference.inspection import StageInspection
    from sparsevod_core.reporting import Reporter

MAX_ROWS = 24


def visualize_stages(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="NAME.png",
            help="Figure; also writes NAME.pdf and NAME.html.",
        ),
    ] = Path("stages.png"),
    checkpoint: CheckpointFile = None,
    frames: Annotated[
        str | None,
        typer.Option("--frames", metavar="10,40,70", help="Frames to draw (from 0)."),
    ] = None,
    num_frames: Annotated[
        int,
        typer.Option(
            "--num-frames",
            min=1,
            max=MAX_ROWS,
            help="Number of evenly spread frames to draw, if --frames is not given.",
        ),
    ] = 3,
    stages: Annotated[
        str, typer.Option("--stages", metavar="1,3,6", help="Stages to draw (from 1), or all.")
    ] = "all",
    score: Annotated[
        float,
        typer.Option("--score", min=0, max=1, help="Draw boxes with a score greater than this."),
    ] = 0.3,
    num_supports: NumSupports = None,
    support_mode: SupportMode = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    cache: Cache = None,
    json_out: JsonOut = None,
) -> None:
    """Draw the proposals of a frame and the boxes of every stage (the paper's Fig. 3).

    Rows are frames; columns are the proposals, the stages, and the scores by stage. In all columns
    a proposal has the color of the object it ends on; the last stage shows its path.
    NAME_supports.png shows the support frames that informed the objects most, with the proposals
    and positions that did. NAME.html is an interactive page with sliders for stages and frames; it
    works offline. Without --checkpoint the bundled model is used; its classes are printed.

    Proposals are learned boxes (sparsevod), reference points (transvod) or region proposals. Stages
    are the refinement stages (sparsevod), the decoder layers and the temporal part (transvod), or
    the boxes of the head before and after NMS. mamba and mega go through all frames before the
    last one drawn, as they learn from them.

    The JSON contains every proposal at every stage, whatever its score. Keys: schema
    ("sparsevod.stages/1"), video, checkpoint ("embedded" for the bundled model), run (as of
    detect), system, num_frames, proposal_init (only sparsevod), support (mode, supports,
    window_stride; global_supports with mega), score, categories (id, name), frames.
    Keys of a frame: index (from 0), time_s (in seconds, or null), width, height (in pixels),
    supports (frame numbers, each once; mamba and mega: the at most 32 frames with the largest
    weights), proposals_xyxy (transvod: points, without a size), proposal_scores (only region
    proposals: objectness), proposals_mean_iou (over all pairs; 1 if all are identical), ends_on
    (for each proposal: the proposal that detects the object it ends on, with a score greater than
    score; null if it ends on none), stages. Keys of a stage: stage (from 1), name, boxes_xyxy (x1,
    y1, x2, y2 in pixels of the frame, not clipped), scores (0 to 1, of the best class; after NMS 0
    for what was dropped), labels (name of that class), class_ids (its id in the annotations the
    model was trained on).
    With support frames also, for each layer that reads them: LAYER_weights (shares of the support
    frames, in order, then of the frame itself; mamba and mega: the rest belongs to other frames)
    and, where proposals are read, LAYER_strongest (support: frame number, proposal, weight,
    box_xyxy in that frame). Layers: tfe_weights, spfa_weights, spfa_strongest (sparsevod); fc1,
    fc2, ... after each layer of the head (selsa, troi, mamba), tfe (troi); map, the mean weight of
    the map under the box (fgfa); global1, local1, ... (mega); temporal1, ... (transvod). The n-th
    entry of each list is the n-th proposal.

    Example: sparsevod visualize-stages car.mp4 --checkpoint best.pth -o stages.png --frames 10,40
    """
    from sparsevod_cli.progress import ConsoleReporter

    suffixes = (".png", ".pdf", ".html")
    if output.suffix not in suffixes:
        raise ConfigError(f"-o {output}: expected NAME.png, NAME.pdf or NAME.html")
    chosen = None if frames is None else _numbers("--frames", frames)

    from sparsevod_core.embedded import checkpoint_name, embedded_checkpoint
    from sparsevod_core.figures.saving import save_figure
    from sparsevod_core.figures.stage_html import stage_html
    from sparsevod_core.figures.stages import draw_stages
    from sparsevod_core.figures.supports import draw_supports
    from sparsevod_core.inference import Predictor
    from sparsevod_core.inference.inspection import inspect_stages, stage_names

    stems = (output.stem, f"{output.stem}_supports")
    files = [
        output.with_name(fitted(stem, suffix)) for stem in stems for suffix in (".png", ".pdf")
    ]
    console.check_outputs(
        json_out,
        "sparsevod.stages/1",
        {"the source": video, "the checkpoint": checkpoint, "the configuration file": config_file},
        [(file, MARKED) for file in (*files, output.with_suffix(".html"))],
    )
    settings = overrides_with(
        overrides,
        seed,
        config_file=config_file,
        inference__supports=num_supports,
        inference__support=support_mode,
    )
    reporter = ConsoleReporter()
    predictor = Predictor.from_checkpoint(
        checkpoint, device=device, overrides=settings, reporter=reporter
    )
    columns = _stages(stages, len(stage_names(predictor).stages))
    found = inspect_stages(predictor, video, frames=chosen, count=num_frames, reporter=reporter)
    _report(found, score, reporter)
    names = [category.name for category in found.categories]
    checkpoint = checkpoint or embedded_checkpoint()
    caption = _caption(found, checkpoint, score)
    figures = {
        output.stem: draw_stages(
            found.views,
            names,
            score=score,
            names=found.names,
            stages=columns,
            caption=caption,
        )
    }
    if any(view.supports for view in found.views):
        figures[f"{output.stem}_supports"] = draw_supports(
            found.views, names, score=score, caption=caption
        )
    for stem, figure in figures.items():
        for suffix in (".png", ".pdf"):
            file = output.with_name(fitted(stem, suffix))
            save_figure(figure, file)
            reporter.message(f"wrote {file}")
    page = stage_html(
        found.views,
        names,
        score=score,
        names=found.names,
        caption=caption,
        times_s=[None if f.time_s is None else float(f.time_s) for f in found.frames],
        indices=[frame.index for frame in found.frames],
    )
    write_text(output.with_suffix(".html"), page, MARKED)
    reporter.message(f"wrote {output.with_suffix('.html')}: open it in a browser")
    if json_out is not None:
        made_by = {"checkpoint": checkpoint_name(checkpoint), "run": predictor.run}
        console.write_json(json_out, {**found.to_dict(score), **made_by})


def _numbers(option: str, text: str) -> list[int]:
    """Return integers from comma-separated text, without duplicates."""
    try:
        numbers = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(
            f"{option} {text!r}: expected comma-separated integers, e.g. {option} 10,40"
        ) from None
    if len(numbers) > MAX_ROWS:
        raise ConfigError(f"{option}: expected at most {MAX_ROWS} numbers, got {len(numbers)}")
    return numbers


def _stages(text: str, num_stages: int) -> list[int] | None:
    if text == "all":
        return None
    numbers = _numbers("--stages", text)
    for number in numbers:
        if not 1 <= number <= num_stages:
            raise ConfigError(
                f"--stages {text}: no stage {number}; the model has stages 1 to {num_stages}"
            )
    return numbers


def _report(found: StageInspection, score: float, reporter: Reporter) -> None:
    from sparsevod_core.figures.stage_view import are_alike, mean_overlap

    proposals = found.views[0].proposals_xyxy
    names = found.names
    reporter.message(f"{found.system}: {len(proposals)} {names.proposals.lower()}, {names.origin}")
    if found.proposal_init and are_alike(proposals):
        reporter.warning(
            f"the learned proposals are nearly the same box (mean IoU "
            f"{mean_overlap(proposals):.2f}). This is expected: with `image` initialization they "
            "start as the entire image and hardly change; the stages spread them. For scattered "
            "proposals as in the paper's Fig. 3, train with --set model.proposal_init=grid"
        )
    best = max(float(view.stage_scores[-1].max()) for view in found.views)
    if not best > score:
        reporter.warning(
            f"the last stage has no box with a score > {score:g} (best: {best:.2f}); "
            "use a lower --score, or train longer"
        )


def _caption(found: StageInspection, checkpoint: Path, score: float) -> str:
    frames = ", ".join(str(frame.index) for frame in found.frames)
    counts = [len(numbers) for numbers in found.supports]
    if max(counts) == 0:
        supports = "no support frames"
    elif len(set(found.supports)) == 1:
        supports = (
            f"support frames {', '.join(map(str, found.supports[0]))} ({found.support['mode']})"
        )
    else:
        supports = f"up to {max(counts)} support frames each ({found.support['mode']})"
    return (
        f"Model {checkpoint.name} ({found.system}) on {found.video.name}, "
        f"frame{'s' if counts[1:] else ''} {frames} of {found.num_frames}; {supports}; "
        f"boxes with score > {score:g}; {found.names.proposals.lower()}: {found.names.origin}."
    )
