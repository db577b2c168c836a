"""The one way from any label format to COCO-VID JSON: read video by video, count, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, Protocol, TypeVar

from sparsevod_core.data.formats.annotated import AnnotatedFrame, AnnotatedVideo, LabelledBox
from sparsevod_core.data.formats.coco_vid import CocoVidWriter
from sparsevod_core.data.formats.prepared_split import PreparedSplit
from sparsevod_core.errors import DataError
from sparsevod_core.reporting import Reporter


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Source = TypeVar("Source", bound=_Named)


def convert(
    sources: Sequence[Source],
    read: Callable[[Source], AnnotatedVideo],
    result: PreparedSplit,
    *,
    categories: Sequence[Mapping[str, Any]],
    info: Mapping[str, Any],
    strict: bool,
    reporter: Reporter,
) -> PreparedSplit:
    """Read every source and write `result.file`, or only count where that is None.

    Args:
        sources: videos or folders of stills, in the order in which they are written.
        read: opens one; what is broken it leaves out and names in `problems`.
        result: knows what is expected; the counts are added to it.
        categories: `{"id": ..., "name": ...}` records, in the order of the labels.
        info: recorded in the file beside the version; `root`: where file names start from.
        strict: stop at the first problem.
        reporter: told about progress.

    Raises:
        DataError: no usable frame, the file cannot be written, or, if `strict`, any problem.
    """
    result.boxes_per_class = {str(category["name"]): 0 for category in categories}
    class_names = {category["id"]: str(category["name"]) for category in categories}
    with ExitStack() as stack:
        writer = None
        if result.file is not None:
            about = {"tool": f"sparsevod {version('sparsevod')}", "split": result.split, **info}
            writer = stack.enter_context(
                CocoVidWriter(result.file, info=about, categories=categories)
            )
        progress = stack.enter_context(
            reporter.progress(f"reading {result.split}", len(sources), "folders")
        )
        for source in sources:
            video = read(source)
            if strict and video.problems:
                raise stopped(video.problems[0])
            _count(result, video, class_names)
            if writer is not None:
                _write(writer, video)
            progress.advance(note=source.name)
        if not (result.num_frames or result.num_stills):
            reason = (result.problems or ["there is none"])[0]
            raise DataError(f"no usable frame in the split {result.split}: {reason}")
    return result


def stopped(problem: str) -> DataError:
    """What `strict` raises."""
    return DataError(problem, hint="without --strict it is left out, and reported")


def _count(result: PreparedSplit, video: AnnotatedVideo, class_names: Mapping[int, str]) -> None:
    frames = video.frames
    if video.is_video:
        result.num_videos += bool(frames)
        result.num_frames += len(frames)
    else:
        result.num_stills += len(frames)
    result.num_targets += sum(frame.is_target is not False for frame in frames)
    result.num_empty += sum(not frame.boxes for frame in frames)
    result.num_other_boxes += video.num_other_boxes
    result.problems += video.problems
    for frame in frames:
        for box in frame.boxes:
            result.boxes_per_class[class_names[box.class_id]] += 1


def _write(writer: CocoVidWriter, video: AnnotatedVideo) -> None:
    of_video: dict[str, Any] = {}
    if video.is_video and video.frames:
        first = video.frames[0]
        record: dict[str, Any] = {"name": video.name}
        if video.file_name is not None:
            record["file_name"] = video.file_name
        record |= {"width": first.width, "height": first.height, "num_frames": len(video.frames)}
        of_video["video_id"] = writer.add_video(**record)
    instances: dict[int, int] = {}
    for frame in video.frames:
        image_id = writer.add_image(**of_video, **_image(frame, video))
        for box in frame.boxes:
            # Track ids count within a video, instance ids over the data set.
            if box.track is None:
                instance = writer.new_instance()
            else:
                instance = instances.get(box.track) or writer.new_instance()
                instances[box.track] = instance
            writer.add_annotation(
                image_id=image_id, **of_video, instance_id=instance, **_annotation(box)
            )


def _image(frame: AnnotatedFrame, video: AnnotatedVideo) -> dict[str, Any]:
    image: dict[str, Any] = {} if frame.image_id is None else {"id": frame.image_id}
    if video.is_video:
        image["frame_id"] = frame.number
    image |= {"file_name": frame.file_name, "width": frame.width, "height": frame.height}
    if frame.is_target is not None:
        image["is_vid_train_frame"] = frame.is_target
    return image | dict(frame.extra)


def _annotation(box: LabelledBox) -> dict[str, Any]:
    left, top, right, bottom = (int(side) if side == int(side) else side for side in box.box_xyxy)
    width, height = right - left, bottom - top
    annotation: dict[str, Any] = {
        "category_id": box.class_id,
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": int(box.is_crowd),
        "occluded": box.occluded,
        "generated": box.generated,
    }
    if box.motion_iou is not None:
        annotation["motion_iou"] = round(box.motion_iou, 6)
    return annotation
