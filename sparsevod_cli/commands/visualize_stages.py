"""`sparsevod visualize-stages`: the paper's Fig. 3 for frames of a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsevod_cli import console
from sparsevod_cli.options import (
    CheckpointFile,
    ConfigFile,
    Device,
    JsonOut,
    Overrides,
    Seed,
    Support,
    Supports,
    named_or_embedded,
    overrides_with,
)
from sparsevod_core.errors import ConfigError

if TYPE_CHECKING:
    from sparsevod_core.inference.inspection import StageInspection
    from sparsevod_core.reporting import Reporter

MAX_ROWS = 24


def visualize_stages(
    video: Annotated[Path, typer.Argument(metavar="VIDEO", help="A video file.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="NAME.png", help="Or NAME.pdf: both files are written."
        ),
    ] = Path("stages.png"),
    checkpoint: CheckpointFile = None,
    frames: Annotated[
        str | None,
        typer.Option("--frames", metavar="10,40,70", help="Frames to draw, numbered from 0."),
    ] = None,
    num_frames: Annotated[
        int,
        typer.Option(
            "--num-frames", min=1, max=MAX_ROWS, help="So many, spread evenly, without --frames."
        ),
    ] = 3,
    stages: Annotated[
        str, typer.Option("--stages", metavar="1,3,6", help="Stages to draw, or all.")
    ] = "all",
    score: Annotated[
        float,
        typer.Option("--score", min=0, max=1, help="Draw a stage's boxes with a greater score."),
    ] = 0.3,
    supports: Supports = None,
    support: Support = None,
    config_file: ConfigFile = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = "auto",
    json_out: JsonOut = None,
) -> None:
    """Draw the learned proposals and the boxes of every stage, as the paper's Fig. 3.

    Rows are frames, columns the learned proposals and the stages. A proposal has the colour of the
    object on which it ends in every column. Without --checkpoint the model that comes with the
    package is used; which classes it knows is said.

    The JSON holds every proposal at every stage, whatever its score. Keys: schema
    ("sparsevod.stages/1"), video, checkpoint ("embedded" for the package's own), num_frames,
    proposal_init, support (mode, supports, window_stride), score, categories (id, name), frames. Of
    a frame: index (from 0), time_s (seconds, or null), width, height (pixels), supports (frame
    numbers), proposals_xyxy, proposals_mean_iou (over all pairs, 1: all the same), ends_on (for
    each proposal, the one that finds the object on which it ends, with a score greater than score;
    null: ends on none), stages. Of a stage: stage (from 1), boxes_xyxy (x1, y1, x2, y2 in pixels of
    the frame, which they may leave), scores (0 to 1, of the best class), labels (that class's
    name), class_ids (its id in your annotations). The n-th entry of each list is the n-th proposal.

    Example: sparsevod visualize-stages car.mp4 --checkpoint best.pth -o stages.png --frames 10,40
    """
    from sparsevod_cli.progress import ConsoleReporter

    files = output.with_suffix(".png"), output.with_suffix(".pdf")
    if output not in files:
        raise ConfigError(f"-o {output}: expected NAME.png or NAME.pdf; both are written")
    chosen = None if frames is None else _numbers("--frames", frames)

    from sparsevod_core.embedded import checkpoint_name
    from sparsevod_core.figures.saving import save_figure
    from sparsevod_core.figures.stages import draw_stages
    from sparsevod_core.inference import Predictor
    from sparsevod_core.inference.inspection import inspect_stages

    settings = overrides_with(
        overrides,
        seed,
        config_file=config_file,
        inference__supports=supports,
        inference__support=support,
    )
    reporter = ConsoleReporter()
    checkpoint = named_or_embedded(checkpoint, reporter)
    predictor = Predictor.from_checkpoint(
        checkpoint, device=device, overrides=settings, reporter=reporter
    )
    columns = _stages(stages, predictor.config.model.num_stages)
    found = inspect_stages(predictor, video, frames=chosen, count=num_frames)
    _tell(found, score, reporter)
    figure = draw_stages(
        found.views,
        [category.name for category in found.categories],
        score=score,
        proposal_init=found.proposal_init,
        stages=columns,
        caption=_caption(found, checkpoint, score),
    )
    for file in files:
        save_figure(figure, file)
        reporter.message(f"wrote {file}")
    if json_out is not None:
        name = checkpoint_name(checkpoint)
        console.write_json(json_out, {"checkpoint": name, **found.to_dict(score)})


def _numbers(option: str, text: str) -> list[int]:
    """Whole numbers separated by commas, each once."""
    try:
        numbers = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(
            f"{option} {text!r}: expected whole numbers separated by commas, e.g. {option} 10,40"
        ) from None
    if len(numbers) > MAX_ROWS:
        raise ConfigError(f"{option}: at most {MAX_ROWS} make a readable figure")
    return numbers


def _stages(text: str, num_stages: int) -> list[int] | None:
    if text == "all":
        return None
    numbers = _numbers("--stages", text)
    for number in numbers:
        if not 1 <= number <= num_stages:
            raise ConfigError(
                f"--stages {text}: no stage {number}: the model has stages 1 to {num_stages}"
            )
    return numbers


def _tell(found: StageInspection, score: float, reporter: Reporter) -> None:
    """What the figure shows, in words."""
    from sparsevod_core.figures.stage_view import are_alike, mean_overlap

    proposals = found.views[0].proposals_xyxy
    reporter.message(f"{len(proposals)} learned proposals, {found.proposal_init} initialisation")
    if are_alike(proposals):
        reporter.warning(
            f"the learned proposals are nearly the same box (mean IoU "
            f"{mean_overlap(proposals):.2f}). This is no bug: with `image` initialisation they "
            "start as the whole image and usually stay so, and the stages spread them. For "
            "scattered ones as in the paper's Fig. 3 train with --set model.proposal_init=grid "
            "(or random)"
        )
    best = max(float(view.stage_scores[-1].max()) for view in found.views)
    if not best > score:
        reporter.warning(
            f"the last stage has no box with a score > {score:g} (best {best:.2f}): "
            "lower --score, or train longer"
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
        f"Model {checkpoint.name} on {found.video.name}, "
        f"frame{'s' if counts[1:] else ''} {frames} of {found.num_frames}; {supports}; "
        f"boxes with score > {score:g}; proposals with {found.proposal_init} initialisation."
    )
