"""Degraded copy of a prepared set, to see how robust a detector is.

As in the rendered set, bursts of motion blur, defocus, low light and noise cover up to 40 % of the
frames of each video, and every object is seen undegraded in part of its track.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.files.check import check_outputs
from sparsevod_core.files.lock import locked
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.unfinished import write_text
from sparsevod_core.machine import num_processors
from sparsevod_core.prepare.conversion.counts import Example
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.degrade.annotations import DEGRADED_JSON, Source, write_annotations
from sparsevod_core.prepare.degrade.frames import FrameCopier, frame_file
from sparsevod_core.prepare.degrade.plan import SHARE, VideoPlan, plan_stills, plan_video
from sparsevod_core.reporting import Reporter, SilentReporter

VERSION = 1
"""Version of the degradations; another one may give other frames for the same seed."""
SETTINGS_FILE = "degraded.json"
_DIFFERENCES = {"inputs": "of other annotations or frames"}


def degrade_set(
    annotations: Path,
    output: Path | None,
    *,
    seed: int,
    root: Path | None = None,
    dry_run: bool = False,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> PreparedSplit:
    """Write a degraded copy of a COCO-VID set, or only plan it.

    The frames are written as images to a folder named like the JSON file, beside it. Finished
    videos are kept when the work is interrupted, and the same call continues.

    Args:
        annotations: COCO-VID JSON of the set, with image files or video files.
        output: Folder for a JSON file of the same name, or a `.json` file; may be None if
            `dry_run`.
        seed: Seed of the degradations, 0 or more. With the name of a video it determines its
            frames, whatever the number of workers.
        root: Folder of the frames; None: the folder recorded in the file.
        dry_run: If True, write nothing.
        workers: Number of threads; None: one per core.

    Returns:
        The counts of the set; `degraded_frames` has the number of degraded frames by kind.

    Raises:
        ConfigError: No output, or one that would overwrite something else.
        DataError: Invalid annotations or frames that are already degraded; a frame that cannot be
            read; another copy in the output; the output cannot be written.
        VideoError: A frame of a video file that cannot be read.
    """
    reporter = reporter or SilentReporter()
    if output is None and not dry_run:
        raise ConfigError("a degraded copy needs a place", hint="give -o FOLDER or -o NAME.json")
    videos = VideoSet.load(annotations, root)
    source = Source.read(annotations)
    num_listed = len(videos.tables.video_names)
    plans = [plan_video(videos, video, seed) for video in range(num_listed)]
    stills = plan_stills(videos, seed)
    if stills is not None:
        plans.append(stills)
    result = _counts(annotations.stem, videos, plans, source)
    if not result.degraded_frames:
        reporter.warning(
            f"{annotations}: no frame is degraded: still images stay clean, and videos in which no "
            "object has enough frames to be clean in some of them"
        )
    if output is None or dry_run:
        return result
    file = output if output.suffix == ".json" else output / f"{annotations.stem}.json"
    folder = file.with_name(file.stem)
    inputs = {annotations: "the annotations", videos.root: "the folder of the frames"}
    check_outputs([(file, DEGRADED_JSON), (folder, None)], inputs)
    degraded = {"seed": seed, "share": SHARE, "version": VERSION}
    with locked([file]):
        _claim(folder, degraded | {"inputs": _digest(videos)})
        threads = num_processors() if workers is None else max(workers, 1)
        _write_frames(videos, plans, folder, threads, reporter)
        write_annotations(file, videos, plans, source.info, degraded)
    result.file = file
    return result


def _write_frames(
    videos: VideoSet, plans: list[VideoPlan], folder: Path, threads: int, reporter: Reporter
) -> None:
    with closing(FrameCopier(videos, folder, threads)) as copier:
        try:
            with reporter.progress("degrading", videos.num_frames) as progress:
                for plan in plans:
                    if copier.is_finished(plan):
                        progress.advance(len(plan.frames), note=plan.folder)
                    else:
                        copier.write(plan, progress)
        except BaseException:
            if any(map(copier.is_finished, plans)):
                kept = "finished videos are kept; run the same command to resume"
                reporter.message(f"{folder}: {kept}")
            raise


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Record what a folder is made from; raise if it holds frames of something else."""
    file = folder / SETTINGS_FILE
    try:
        # A process that was killed may have left an unfinished file of settings.
        if folder.exists() and any(
            not p.name.startswith(f"{SETTINGS_FILE}.") for p in folder.iterdir()
        ):
            _require_same(file, settings)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_text(file, json.dumps(settings, indent=2) + "\n")


def _require_same(file: Path, settings: dict[str, Any]) -> None:
    try:
        earlier = json.loads(file.read_text("utf-8"))
        different = [key for key in settings if earlier[key] != settings[key]]
        if not different:
            return
        what = _DIFFERENCES.get(different[0], f"with another {different[0]}")
        what = f"a degraded copy {what}"
    except FileNotFoundError:
        what = "something else"
    except (ValueError, TypeError, LookupError):
        what = f"a {SETTINGS_FILE} that is not of a degraded copy"
    raise DataError(
        f"{file.parent}: contains {what}", hint="give another output, or remove this folder"
    )


def _digest(videos: VideoSet) -> str:
    """Return a hash of the annotations and the place of the frames."""
    with videos.annotations_path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(os.fsencode(os.path.realpath(videos.root)))
    return digest.hexdigest()


def _counts(name: str, videos: VideoSet, plans: list[VideoPlan], source: Source) -> PreparedSplit:
    """Return the counts of the set and of its degraded frames."""
    tables = videos.tables
    num_listed = len(tables.video_names)
    num_stills = videos.num_frames - int(tables.video_starts[num_listed])
    boxes_per_frame = np.diff(tables.box_starts)
    video_of_box = np.repeat(
        np.searchsorted(tables.video_starts, np.arange(videos.num_frames), side="right"),
        boxes_per_frame,
    )
    is_tracked = tables.instance_ids >= 0
    tracks = np.stack([video_of_box, tables.instance_ids], axis=1)[is_tracked]
    per_class = np.bincount(tables.labels, minlength=len(videos.categories)).tolist()
    kinds = Counter(burst.kind for plan in plans for burst in plan.bursts for _ in burst.severities)
    result = PreparedSplit(
        name,
        num_videos=num_listed,
        num_frames=videos.num_frames - num_stills,
        num_stills=num_stills,
        num_targets=len(videos.target_frames()),
        num_empty=int((boxes_per_frame == 0).sum()),
        num_tracks=len(np.unique(tracks, axis=0)),
        num_known_motion=source.num_known_motion,
        num_crowd=int(tables.is_crowd.sum()),
        boxes_per_class={
            category.name: n for category, n in zip(videos.categories, per_class, strict=True)
        },
        degraded_frames=dict(sorted(kinds.items())),
    )
    for video, plan in enumerate(plans):
        is_video = video < num_listed
        files = [
            f"{name}/{plan.folder}/{frame_file(videos, plan, position)}"
            for position in (0, len(plan.frames) - 1)
        ]
        example = Example(
            name=videos.video_name(video) if is_video else plan.folder,
            num_frames=len(plan.frames),
            first_number=int(tables.frame_ids[plan.frames[0]]),
            last_number=int(tables.frame_ids[plan.frames[-1]]),
            first_file=files[0],
            last_file=files[1],
        )
        result.add_example(example, is_video=is_video)
    return result
