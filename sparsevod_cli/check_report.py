"""Output of `prepare-vid --check`: a report as text, JSON and a page of plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from sparsevod_cli import console
from sparsevod_cli.check_page import dataset_page
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.files.kinds import MARKED
from sparsevod_core.files.names import fitted
from sparsevod_core.reporting import counted

if TYPE_CHECKING:
    from sparsevod_core.prepare.checks.findings import Finding
    from sparsevod_core.prepare.checks.report import DatasetReport

SHOWN_PLACES = 3
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
    """Report on COCO-VID files.

    Args:
        files: Paths of the annotations.
        root: Folder that file names are relative to; None: found as in training.
        page: Path of the page of plots; None: beside each file.
        decode: If True, open every image and count the frames of every video file.
        strict: If True, problems lead to exit code 1 as errors do.
        json_out: Path of the JSON report, `-` for stdout instead of text; None for no JSON.

    Returns:
        Exit code: 1 if training would stop or, if `strict`, there is any problem.

    Raises:
        ConfigError: `page` is given for several files, or is not a PNG, PDF or SVG; an output
            would overwrite another file.
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.figures.saving import figure_kind
    from sparsevod_core.prepare.checks.report import SCHEMA, check_datasets

    if page is not None:
        figure_kind(page)
        if len(files) > 1:
            raise ConfigError(
                "-o goes with a single --check FILE",
                hint="without -o, each FILE gets a page beside it",
            )
    inputs = {f"the annotation file {file}": file for file in files}
    pages = [] if page is None else [(page, MARKED)]
    console.check_outputs(json_out, SCHEMA, inputs, pages)
    reports, shared = check_datasets(files, root, decode=decode, reporter=ConsoleReporter())
    for report in reports:
        _save_page(report, page)
    if json_out is not None:
        sets = [report.to_dict() for report in reports]
        overlap = [asdict(finding) for finding in shared]
        console.write_json(json_out, {"schema": SCHEMA, "sets": sets, "overlap": overlap})
    if str(json_out) != "-":
        for report in reports:
            show(report)
        show_findings(shared)
    problems = sum(report.count("problem") for report in reports) + len(shared)
    errors = sum(report.count("error") for report in reports)
    return int(errors > 0 or (strict and problems > 0))


def show(report: DatasetReport) -> None:
    """Print a report, at most 79 characters wide."""
    console.out(f"{report.file}\n")
    if not report.is_complete:
        console.out("  These numbers do not include broken entries, which are listed below.\n")
    for name, text in _overview(report):
        console.out(f"  {name:<10}{text}")
    console.out()
    _show_classes(report)
    show_findings(report.findings)
    console.out(_verdict(report) + "\n")


def show_findings(findings: Sequence[Finding]) -> None:
    """Print each finding with its first places."""
    for finding in findings:
        line = f"{finding.severity}: {finding.text}: {finding.count:,}"
        for text in (*wrap(line, WIDTH), *wrap(finding.advice, WIDTH, initial_indent="  ")):
            console.out(text)
        for place in finding.places[:SHOWN_PLACES]:
            console.out(f"    {place}")
        if finding.places and finding.count > SHOWN_PLACES:
            console.out("    ...")
    if findings:
        console.out()


def _overview(report: DatasetReport) -> list[tuple[str, str]]:
    frames, boxes, tracks, files = report.frames, report.boxes, report.tracks.all, report.files
    sizes = ", ".join(f"{height}x{width}" for width, height, _ in frames.sizes[:3])
    more = f" and {frames.num_sizes - 3} more sizes" if frames.num_sizes > 3 else ""
    lines = [("videos", f"{frames.videos:,}{_spread(frames.per_video, 'frames')}")]
    if frames.stills:
        lines.append(("stills", f"{frames.stills:,}"))
    lines += [
        ("frames", f"{frames.frames:,}; {frames.empty:,} without a box"),
        ("", f"{frames.targets:,} to train on, {frames.supports:,} only as support"),
        ("", f"{sizes}{more} (height x width)"),
        ("boxes", f"{boxes.boxes:,}"),
    ]
    if boxes.boxes:
        side, share = boxes.all.median_side_px, boxes.all.median_side_share
        lines.append(("", f"median side {side:.0f} px, {share:.0%} of the frame's"))
    lines.append(("tracks", f"{tracks.tracks:,}{_spread(tracks.lengths, 'boxes')}"))
    if tracks.tracks:
        lines.append(
            ("", f"{tracks.with_gaps:,} with gaps; {tracks.untracked:,} boxes without a track")
        )
    there = files.images + files.video_files - files.missing
    kinds = ((files.images, "image"), (files.video_files, "video"))
    kind = " and ".join(name for number, name in kinds if number)
    found = f"{there:,} of {there + files.missing:,} {kind} files found, {files.opened:,} opened"
    return [*lines, ("files", found), ("root", str(report.root))]


def _spread(values: tuple[float, float, float] | None, unit: str) -> str:
    if values is None:
        return ""
    low, median, high = values
    if low == high:
        return f", with {low:,.0f} {unit} each"
    return f", with {low:,.0f} to {high:,.0f} {unit} each (median {median:,.0f})"


def _show_classes(report: DatasetReport) -> None:
    from sparsevod_core.prepare.checks.classes import ids_in_words

    counted_in = ("boxes", "frames", "videos", "tracks")
    counts = [
        [one.name, str(one.id), *(f"{getattr(one, what):,}" for what in counted_in)]
        for one in report.classes
    ]
    title = f"Classes, ids {ids_in_words(report.classes)}"
    console.table(title, ["", "id", *counted_in], counts)
    names = ["all", *(one.name for one in report.classes)]
    sizes = [report.boxes.all, *report.boxes.per_class]
    motions = [report.tracks.all, *report.tracks.per_class]
    rows = [
        [
            name,
            "-" if size.median_side_px is None else f"{size.median_side_px:.0f}",
            *_shares(size.small, size.medium, size.large),
            *_shares(motion.fast, motion.medium, motion.slow, motion.unknown),
        ]
        for name, size, motion in zip(names, sizes, motions, strict=True)
    ]
    columns = ["", "side px", "small", "medium", "large", "fast", "medium", "slow", "unknown"]
    console.table("Sizes (as in COCO) and motion of boxes", columns, rows)


def _shares(*counts: int) -> list[str]:
    total = sum(counts)
    return [f"{count / total:.0%}" if total else "-" for count in counts]


def _verdict(report: DatasetReport) -> str:
    rest = ", ".join(counted(report.count(name), name) for name in ("problem", "remark"))
    errors = report.count("error")
    return f"{counted(errors, 'error')}, {rest}: training would stop" if errors else rest


def _save_page(report: DatasetReport, page: Path | None) -> None:
    """Write the page of plots, by default beside the annotations if that folder is writable."""
    from sparsevod_core.figures.saving import save_figure

    path = page or report.file.with_name(fitted(report.file.stem, ".check.png"))
    try:
        save_figure(dataset_page(report), path)
    except (ConfigError, DataError) as error:
        if page is not None:
            raise
        console.say(f"warning: {error.message}; give another path for the plots with -o")
    else:
        console.say(f"wrote {path}")
