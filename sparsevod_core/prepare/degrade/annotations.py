"""Annotations of a degraded copy: those of the source, with other file names and `degradation`.

They are streamed entry by entry, so that memory does not grow with the number of boxes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparsevod_core.data.annotation_file import SECTIONS
from sparsevod_core.data.json_stream import stream_sections
from sparsevod_core.data.records import VideoSet
from sparsevod_core.errors import DataError
from sparsevod_core.files.kinds import starting
from sparsevod_core.files.unfinished import writing
from sparsevod_core.prepare.degrade.frames import frame_file
from sparsevod_core.prepare.degrade.plan import VideoPlan
from sparsevod_core.version import version

DEGRADED_JSON = starting(
    "annotations of a degraded copy", rb'\{"info": \{"tool": "sparsevod [^"]*", "degraded": '
)


@dataclass(slots=True)
class Source:
    """What a copy needs of the source's annotations beside the `VideoSet`.

    Attributes:
        info: The `info` of the file, without what the copy replaces.
        num_known_motion: Number of boxes with a motion IoU.
    """

    info: dict[str, Any] = field(default_factory=dict)
    num_known_motion: int = 0

    @classmethod
    def read(cls, annotations: Path) -> Source:
        """Read the file, which a `VideoSet` has been loaded from.

        Raises:
            DataError: Its frames are already degraded: degraded again, they could hide an object
                in all of its frames.
        """
        source = cls()
        for section, entries in stream_sections(annotations, SECTIONS):
            if section == "annotations":
                source.num_known_motion += sum(e.get("motion_iou") is not None for e in entries)
            elif section == "images" and any(map(_is_degraded, entries)):
                raise DataError(
                    f"{annotations}: has frames that are already degraded",
                    hint="give the set that they were made from",
                )
            elif section == "info":
                source.info |= next((e for e in entries if isinstance(e, dict)), {})
        for key in ("tool", "degraded", "root"):  # file names start from the folder of the copy
            source.info.pop(key, None)
        return source


def write_annotations(
    file: Path, videos: VideoSet, plans: list[VideoPlan], info: Mapping[str, Any], degraded: object
) -> None:
    """Write the annotations of a copy whose frames are in a folder named like the file.

    Ids, boxes and further fields stay. An image gets the `file_name` of its copy, and `degradation`
    with the severity by kind. A video loses its `file_name`, since its frames are images now.

    Args:
        info: Further content of `info`.
        degraded: `info.degraded`, which describes the copy.

    Raises:
        ConfigError, DataError: See `files.unfinished.writing`.
    """
    changed: dict[str, Callable[[Any], Any]] = {
        "images": _image_entries(file.stem, videos, plans),
        "videos": _video_entry,
    }
    about = {"tool": f"sparsevod {version()}", "degraded": degraded, **info}
    with writing(file, DEGRADED_JSON) as temporary, temporary.open("w", encoding="ascii") as out:
        out.write(f'{{"info": {json.dumps(about)}')
        for section, entries in stream_sections(videos.annotations_path, SECTIONS):
            if section in SECTIONS:
                out.write(f',\n"{section}": [')
                _write_list(out.write, map(changed.get(section, _unchanged), entries))
                out.write("]")
        out.write("}\n")


def _is_degraded(entry: Mapping[str, Any]) -> bool:
    degradation = entry.get("degradation")  # another tool's may have another form
    return isinstance(degradation, dict) and bool(degradation)


def _write_list(write: Callable[[str], object], entries: Iterator[Any]) -> None:
    separator = "\n"
    for entry in entries:
        write(separator + json.dumps(entry))
        separator = ",\n"
    write("\n")


def _image_entries(
    folder: str, videos: VideoSet, plans: list[VideoPlan]
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function that changes an entry of `images`."""
    place_of = {
        videos.image_id(frame): (plan, position)
        for plan in plans
        for position, frame in enumerate(plan.frames)
    }

    def changed(entry: dict[str, Any]) -> dict[str, Any]:
        plan, position = place_of[int(entry["id"])]
        height, width = videos.frame_size(plan.frames[position])
        return entry | {
            "file_name": f"{folder}/{plan.folder}/{frame_file(videos, plan, position)}",
            "width": width,
            "height": height,
            "degradation": plan.degradation(position),
        }

    return changed


def _video_entry(entry: dict[str, Any]) -> dict[str, Any]:
    file_name = entry.pop("file_name", None)
    entry.setdefault("name", file_name or str(entry["id"]))
    return entry


def _unchanged(entry: Any) -> Any:
    return entry
