"""`prepare-vid --check`: a report on prepared sets as text, JSON and a page of plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import typer

from sparsevod_cli import console
from sparsevod_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sparsevod_core.data.checks.distributions import Histogram
    from sparsevod_core.data.checks.findings import Finding
    from sparsevod_core.data.checks.report import DatasetReport
    from sparsevod_core.figures.dataset_page import Bars

SHOWN_PLACES = 3
NOTED_FINDINGS = 8
WIDTH = 79


def check_sets(
    files: Sequence[Path],
    root: Path | None,
    page: Path | None,
    *,
    decode: bool,
    strict: bool,
    json_out: Path | None,
) -> int:
    """Report on prepared sets.

    Returns:
        Exit code: 1 where training would stop or, if `strict`, there is any problem.
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.data.checks.report import SCHEMA, check_datasets

    if page is not None and len(files) > 1:
        raise ConfigError("-o names the page of one --check FILE; without it each has its own")
    reports, shared = check_datasets(files, root, decode=decode, reporter=ConsoleReporter())
    if str(json_out) != "-":
        for report in reports:
            show(report)
        show_findings(shared)
    for report in reports:
        _save_page(report, page)
    if json_out is not None:
        sets = [report.to_dict() for report in reports]
        overlap = [finding.to_dict() for finding in shared]
        console.write_json(json_out, {"schema": SCHEMA, "sets": sets, "overlap": overlap})
    problems = sum(report.count("problem") for report in reports) + len(shared)
    errors = sum(report.count("error") for report in reports)
    return int(errors > 0 or (strict and problems > 0))


def show(report: DatasetReport) -> None:
    """A report as text on stdout, 80 letters wide."""
    typer.echo(f"{report.file}\n")
    for name, text in _overview(report):
        typer.echo(f"  {name:<10}{text}")
    typer.echo()
    _show_classes(report)
    show_findings(report.findings)
    typer.echo(_verdict(report) + "\n")


def show_findings(findings: Sequence[Finding]) -> None:
    """Each finding with the first of its places."""
    for finding in findings:
        line = f"{finding.severity}: {finding.text}: {finding.count:,}"
        for text in (*wrap(line, WIDTH), *wrap(finding.advice, WIDTH, initial_indent="  ")):
            typer.echo(text)
        for place in finding.places[:SHOWN_PLACES]:
            typer.echo(f"    {place}")
        if finding.places and finding.count > SHOWN_PLACES:
            typer.echo("    ...")
    if findings:
        typer.echo()


def dataset_page(report: DatasetReport) -> Figure:
    """The page of plots of a set."""
    import numpy as np

    from sparsevod_core.data.checks.distributions import SIDE_EDGES_PX
    from sparsevod_core.figures.dataset_page import DatasetView, draw_dataset

    width, height, _ = report.frames.sizes[0]
    return draw_dataset(
        DatasetView(
            title=str(report.file),
            facts=_facts(report),
            notes=_notes(report.findings),
            class_names=[one.name for one in report.classes],
            boxes_per_class=np.array([one.boxes for one in report.classes]),
            sides_px=report.boxes.sides_per_class,
            side_edges_px=SIDE_EDGES_PX,
            speeds=np.array([[c.fast, c.medium, c.slow] for c in report.tracks.per_class]),
            boxes_per_frame=_bars(report.frames.boxes_per_frame),
            frames_per_video=_bars(report.frames.frames_per_video),
            track_lengths=_bars(report.tracks.lengths),
            motion_iou=_bars(report.tracks.motion_iou),
            aspect=_bars(report.boxes.aspect),
            centres=report.boxes.centres,
            frame_aspect=width / height,
        )
    )


def _overview(report: DatasetReport) -> list[tuple[str, str]]:
    frames, boxes, tracks, files = report.frames, report.boxes, report.tracks.all, report.files
    sizes = ", ".join(f"{width}x{height}" for width, height, _ in frames.sizes[:3])
    more = f" and {frames.num_sizes - 3} sizes more" if frames.num_sizes > 3 else ""
    lines = [("videos", f"{frames.videos:,}{_spread(frames.per_video, 'frames')}")]
    if frames.stills:
        lines.append(("stills", f"{frames.stills:,}"))
    lines += [
        ("frames", f"{frames.frames:,}; {frames.empty:,} without a box"),
        ("", f"{frames.targets:,} to train on, {frames.supports:,} only support"),
        ("", f"{sizes}{more}"),
        ("boxes", f"{boxes.boxes:,}"),
    ]
    if boxes.boxes:
        size = boxes.all
        lines.append(
            (
                "",
                f"median side {size.median_side_px:.0f} px, "
                f"{size.median_side_share:.0%} of the frame's",
            )
        )
    lines.append(("tracks", f"{tracks.tracks:,}{_spread(tracks.lengths, 'boxes')}"))
    if tracks.tracks:
        lines.append(
            ("", f"{tracks.with_gaps:,} with gaps; {tracks.untracked:,} boxes without a track")
        )
    there = files.images + files.video_files - files.missing
    kinds = ((files.images, "image"), (files.video_files, "video"))
    kind = " and ".join(name for number, name in kinds if number)
    lines.append(
        (
            "files",
            f"{there:,} of {there + files.missing:,} {kind} files found, {files.opened:,} opened",
        )
    )
    lines.append(("below", str(report.root)))
    return lines


def _spread(values: tuple[float, float, float] | None, unit: str) -> str:
    if values is None:
        return ""
    low, median, high = values
    if low == high:
        return f" of {low:,g} {unit}"
    return f" of {low:,g} to {high:,g} {unit} (median {median:,g})"


def _show_classes(report: DatasetReport) -> None:
    from sparsevod_core.data.checks.classes import ids_in_words

    counts = [
        [
            one.name,
            str(one.id),
            *(f"{n:,}" for n in (one.boxes, one.frames, one.videos, one.tracks)),
        ]
        for one in report.classes
    ]
    title = f"Classes, ids {ids_in_words(report.classes)}"
    console.table(title, ["", "id", "boxes", "frames", "videos", "tracks"], counts)
    sizes = {"all": (report.boxes.all, report.tracks.all)} | {
        one.name: pair
        for one, pair in zip(
            report.classes,
            zip(report.boxes.per_class, report.tracks.per_class, strict=True),
            strict=True,
        )
    }
    rows = [
        [
            name,
            "-" if size.median_side_px is None else f"{size.median_side_px:.0f}",
            *_shares(size.small, size.medium, size.large),
            *_shares(motion.fast, motion.medium, motion.slow),
        ]
        for name, (size, motion) in sizes.items()
    ]
    columns = ["", "side px", "small", "medium", "large", "fast", "medium", "slow"]
    console.table("Sizes (COCO's) and motion of boxes", columns, rows)


def _shares(*counts: int) -> list[str]:
    total = sum(counts)
    return [f"{count / total:.0%}" if total else "-" for count in counts]


def _verdict(report: DatasetReport) -> str:
    rest = (
        f"{_count(report.count('problem'), 'problem')}, {_count(report.count('remark'), 'remark')}"
    )
    errors = report.count("error")
    return f"{_count(errors, 'error')}, {rest}: training would stop" if errors else rest


def _count(number: int, what: str) -> str:
    plural = f"{what}es" if what[-1] in "sx" else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"


def _facts(report: DatasetReport) -> str:
    counts = {
        "video": report.frames.videos,
        "still": report.frames.stills,
        "frame": report.frames.frames,
        "box": report.boxes.boxes,
        "class": len(report.classes),
        "track": report.tracks.all.tracks,
    }
    return " · ".join(_count(count, what) for what, count in counts.items() if count)


def _notes(findings: Sequence[Finding]) -> list[str]:
    lines = [
        f"{one.severity}: {one.text}: {one.count:,}" + (f" ({one.advice})" if one.advice else "")
        for one in findings[:NOTED_FINDINGS]
    ]
    if len(findings) > NOTED_FINDINGS:
        lines.append(f"and {len(findings) - NOTED_FINDINGS} more")
    return lines or ["nothing is broken or odd"]


def _bars(histogram: Histogram) -> Bars:
    from sparsevod_core.figures.dataset_page import Bars

    return Bars(histogram.edges, histogram.counts)


def _save_page(report: DatasetReport, page: Path | None) -> None:
    """Beside the annotations, where nothing else is asked for and the folder can be written."""
    from sparsevod_core.figures.saving import save_figure

    path = page or report.file.with_suffix(".check.png")
    try:
        save_figure(dataset_page(report), path)
    except DataError as error:
        if page is not None:
            raise
        console.say(f"warning: {error.message}; name another place for the plots with -o")
    else:
        console.say(f"wrote {path}")
