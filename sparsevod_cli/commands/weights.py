"""`sparsevod weights`: list and download published weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsevod_cli import console
from sparsevod_cli.options import Cache, JsonOut
from sparsevod_core.errors import SparseVodError

if TYPE_CHECKING:
    from sparsevod_core.weights.registry import PublishedWeights

SCHEMA = "sparsevod.weights/1"

app = typer.Typer(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def weights(context: typer.Context, cache: Cache = None, json_out: JsonOut = None) -> None:
    """List the published weights that can be used by name wherever a checkpoint is.

    They are downloaded when they are first used. The column "published" has the AP50 on ImageNet
    VID's validation set, or the AP on COCO's, in percent, as their authors state it.

    The environment variable SPARSEVOD_CACHE names another folder, and SPARSEVOD_WEIGHTS_URL a
    mirror.

    Keys of --json: schema ("sparsevod.weights/1"), cache, weights (a list: name, is_detector,
    system, backbone, data, num_classes, metric, published, project, license, url, sha256 (its first
    digits), file, bytes (null if the file is not in the cache)).

    Example: sparsevod weights --json weights.json
    """
    if context.invoked_subcommand is not None:
        return
    from sparsevod_core.weights.cache import cache_folder
    from sparsevod_core.weights.registry import PUBLISHED

    console.check_outputs(json_out, SCHEMA, {})
    folder = cache_folder()
    entries = [_entry(one, folder) for one in PUBLISHED.values()]
    if json_out is not None:
        console.write_json(json_out, {"schema": SCHEMA, "cache": str(folder), "weights": entries})
    if str(json_out) != "-":
        columns = ("name", "system", "backbone", "classes", "published", "cached", "source")
        rows = [_row(one) for one in entries]
        console.table(f"Published weights (cache: {folder})", columns, rows)


@app.command()
def get(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of weights.")],
    cache: Cache = None,
) -> None:
    """Download published weights, unless they are in the cache, and print the paths of the files.

    A broken connection is tried again, and a download that was interrupted continues. Files are
    compared with the digits of their SHA-256 that their authors put in their names. A file that you
    save in the folder yourself is used like a downloaded one. A failure does not stop the downloads
    of the other names; the exit code is then 1.

    Example: sparsevod weights get selsa-r50-vid fgfa-r50-vid
    """
    from sparsevod_cli.progress import ConsoleReporter
    from sparsevod_core.weights.by_name import published
    from sparsevod_core.weights.cache import fetch

    reporter = ConsoleReporter()
    has_failed = False
    for name in names:
        try:
            console.out(fetch(published(name), reporter=reporter))
        except SparseVodError as error:
            console.error(error.message, error.hint)
            has_failed = True
    if has_failed:
        raise typer.Exit(1)


def _entry(weights: PublishedWeights, folder: Path) -> dict[str, Any]:
    from sparsevod_core.weights.cache import weights_url

    file = folder / weights.file_name
    return {
        "name": weights.name,
        "is_detector": weights.is_detector,
        "system": weights.system,
        "backbone": weights.backbone,
        "data": weights.data,
        "num_classes": weights.num_classes,
        "metric": weights.metric,
        "published": weights.published,
        "project": weights.project,
        "license": weights.license,
        "url": weights_url(weights),
        "sha256": weights.digits or None,
        "file": str(file),
        "bytes": file.stat().st_size if file.is_file() else None,
    }


def _row(entry: dict[str, Any]) -> list[str]:
    is_detector, size = entry["is_detector"], entry["bytes"]
    return [
        entry["name"],
        entry["system"],
        entry["backbone"] or "-",
        f"{entry['num_classes']} of {entry['data']}" if is_detector else "-",
        f"{entry['metric']} {entry['published']}" if entry["metric"] else "-",
        "no" if size is None else f"{size / 1e6:.0f} MB",
        entry["project"],
    ]
