"""Conversion of labelled videos in any format, ImageNet VID included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsevod_core.errors import ConfigError
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.formats import FORMATS, recognize
from sparsevod_core.prepare.imagenet_vid.convert import prepare_imagenet_vid
from sparsevod_core.prepare.imagenet_vid.layout import holds_imagenet_vid
from sparsevod_core.prepare.own_videos import prepare_own_videos
from sparsevod_core.prepare.reading.label_set import Hints
from sparsevod_core.reporting import Reporter


def prepare_labelled(
    root: Path,
    output: Path | None,
    label_format: str = "auto",
    *,
    hints: Hints,
    include_det: bool = True,
    val_fraction: float | None = None,
    seed: int | None = None,
    splits: Sequence[str] = (),
    strict: bool = False,
    dry_run: bool = False,
    workers: int = 0,
    reporter: Reporter,
) -> list[PreparedSplit]:
    """Convert the labels at `root`; see `prepare_imagenet_vid` and `prepare_own_videos`.

    Args:
        label_format: `imagenet`, a key of `FORMATS`, or `auto` to recognize it.

    Raises:
        ConfigError: Unknown format, or options of ImageNet VID for other data or vice versa.
        DataError: The format is not recognized, or as raised by the conversion.
    """
    if label_format == "imagenet" or (label_format == "auto" and holds_imagenet_vid(root)):
        if hints != Hints() or val_fraction is not None:
            raise ConfigError(
                "--classes, --images, --val-fraction, --first-frame and --group-by-folder are for "
                "your own videos, not for ImageNet VID"
            )
        return prepare_imagenet_vid(
            root,
            output,
            splits=splits,
            include_det=include_det,
            strict=strict,
            dry_run=dry_run,
            workers=workers,
            reporter=reporter,
        )
    if label_format not in ("auto", *FORMATS):
        raise ConfigError(f"--format {label_format}: expected auto, imagenet, {', '.join(FORMATS)}")
    if label_format == "auto":
        label_format, sign = recognize(root)
        reporter.message(f"{root}: detected format {label_format} from {sign}")
    if not include_det:
        raise ConfigError(f"--no-det is for ImageNet VID, not for {label_format}")
    return prepare_own_videos(
        root,
        output,
        label_format,
        hints=hints,
        splits=splits,
        val_fraction=val_fraction,
        seed=seed or 0,
        strict=strict,
        dry_run=dry_run,
        workers=workers,
        reporter=reporter,
    )
