"""A small rendered video set in ImageNet VID's layout, for tests and for training in minutes.

Objects of six classes move, turn, grow and occlude one another over a panning landscape. Some
frames are blurred, dark, noisy or covered while their neighbors are clean, which is the problem
that video detection solves. Training and validation share only the classes. The same settings give
the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.files.names import cannot_write
from sparsevod_core.files.unfinished import Unfinished
from sparsevod_core.prepare.conversion.prepared_split import PreparedSplit
from sparsevod_core.prepare.imagenet_vid.convert import DEGRADATIONS_FILE, prepare_imagenet_vid
from sparsevod_core.prepare.imagenet_vid.layout import SPLITS, spread_targets
from sparsevod_core.prepare.synthetic.classes import OBJECT_CLASSES
from sparsevod_core.prepare.synthetic.scene import RenderedFrame, Scene, VisibleObject
from sparsevod_core.reporting import Progress, Reporter, SilentReporter

T = TypeVar("T")

SETTINGS_FILE = "synthetic.json"
PREVIEW_FILE = "preview.mp4"
PREVIEW_RATE = Fraction(10)
JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticConfig:
    """Settings of a rendered set, recorded in it."""

    train_videos: int = 396
    """Many short videos: a model generalizes with the number of scenes, not of frames."""
    val_videos: int = 36
    frames: int = 10
    """Number of frames per training video."""
    val_frames: int = 25
    """Number of frames per validation video."""
    width: int = 320
    height: int = 240
    classes: tuple[str, ...] = tuple(OBJECT_CLASSES)
    min_objects: int = 1
    max_objects: int = 3
    mixed_share: float = 0.11
    """Fraction of the videos with several objects that have two classes; the others have one. In
    ImageNet VID, 61 of the 555 validation videos have several, and a frame has 1.6 objects."""
    degraded_share: float = 0.4
    """Largest fraction of a video's frames that is degraded, in bursts of 2 to 5."""
    seed: int = 0

    def __post_init__(self) -> None:
        numbers_of_videos = (self.train_videos, self.val_videos)
        lengths, sides = (self.frames, self.val_frames), (self.width, self.height)
        classes = ", ".join(OBJECT_CLASSES)
        for holds, expectation in (
            (min(numbers_of_videos) >= 1, "at least one training and one validation video"),
            (min(lengths) >= 1 and max(lengths) <= 999_999, "1 to 999999 frames"),
            (min(sides) >= 64 and max(sides) <= 4096, "frames of 64x64 to 4096x4096 pixels"),
            (self.classes and {*self.classes} <= OBJECT_CLASSES.keys(), f"classes of {classes}"),
            (1 <= self.min_objects <= self.max_objects, "1 <= min_objects <= max_objects"),
            (0 <= self.mixed_share <= 1, "a mixed_share of 0 to 1"),
            # With more, some objects would never be clearly visible.
            (0 <= self.degraded_share <= 0.4, "a degraded_share of 0 to 0.4"),
            (self.seed >= 0, "a seed of 0 or more"),
        ):
            if not holds:
                raise ConfigError(f"cannot render this set: expected {expectation}")

    def length(self, split: str) -> int:
        """Return the number of frames of each video of `split`."""
        return self.frames if split == "train" else self.val_frames


def prepare_synthetic(
    folder: Path, config: SyntheticConfig | None = None, *, reporter: Reporter | None = None
) -> list[PreparedSplit]:
    """Render the set into `folder` and convert it to `train.json` and `val.json` there.

    The first validation video is also written as `preview.mp4`. The folder must be new
    or empty, and appears when it is complete. If it already holds the same set, that is only
    converted again.

    Raises:
        DataError: The folder holds something else, or cannot be written.
    """
    config, reporter = config or SyntheticConfig(), reporter or SilentReporter()
    folder = folder.absolute()
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    info = {"synthetic": settings}
    if _holds(folder, settings):
        reporter.message(f"{folder}: this set is already rendered")
        return _convert(folder, info, reporter)
    unfinished = Unfinished(folder, is_folder=True)
    root = unfinished.temporary
    try:
        text = json.dumps(settings, indent=2)
        (root / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")
        _render(root, config, reporter)
        prepared = _convert(root, info, reporter)
        unfinished.publish()
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        unfinished.discard()
    for split in prepared:
        split.file = folder / f"{split.split}.json"
    return prepared


def _convert(root: Path, info: dict[str, Any], reporter: Reporter) -> list[PreparedSplit]:
    return prepare_imagenet_vid(
        root, root, include_det=False, strict=True, info=info, reporter=reporter
    )


def _holds(folder: Path, settings: dict[str, Any]) -> bool:
    """Return True if the folder is this set, False if it is new or empty; raise otherwise."""
    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return False
        if json.loads((folder / SETTINGS_FILE).read_text("utf-8")) == settings:
            return True
        what = "another rendered set"
    except (OSError, ValueError):
        what = "something else"
    raise DataError(f"{folder}: contains {what}", hint="give another folder, or remove this one")


def _render(root: Path, config: SyntheticConfig, reporter: Reporter) -> None:
    degradations: dict[str, dict[str, float]] = {}
    total = config.train_videos * config.frames + config.val_videos * config.val_frames
    with reporter.progress("rendering", total) as progress:
        for split in SPLITS:
            for video, names in enumerate(_deal_classes(config, split)):
                degradations |= _render_video(root, config, split, video, names, progress)
    text = json.dumps({"frames": degradations}, indent=1)
    (root / DEGRADATIONS_FILE).write_text(text + "\n", encoding="utf-8")
    _write_lists(root, config)
    _write_preview(root, config)


def _deal_classes(config: SyntheticConfig, split: str) -> list[list[str]]:
    """Return the class of each object of each video, balanced over classes and object counts.

    The balance is exact for multiples of 18 videos, given six classes and 1 to 3 objects.
    """
    num_videos = config.train_videos if split == "train" else config.val_videos
    rng = np.random.default_rng((config.seed, SPLITS.index(split)))
    counts = range(config.min_objects, config.max_objects + 1)
    count_of = {name: iter(_deal(rng, counts, num_videos)) for name in config.classes}
    dealt = []
    for name in _deal(rng, config.classes, num_videos):
        names = [name] * next(count_of[name])
        others = [other for other in config.classes if other != name]
        if len(names) > 1 and others and rng.random() < config.mixed_share:
            names[int(rng.integers(len(names)))] = others[int(rng.integers(len(others)))]
        dealt.append(names)
    return dealt


def _deal(rng: np.random.Generator, values: Sequence[T], number: int) -> list[T]:
    """Return `number` values in random order, each as often as any other if `number` allows."""
    rounds = -(-number // len(values))
    return [values[i] for _ in range(rounds) for i in rng.permutation(len(values))][:number]


def _scene(config: SyntheticConfig, split: str, video: int, class_names: list[str]) -> Scene:
    return Scene(
        (config.seed, SPLITS.index(split), video + 1),
        class_names,
        num_frames=config.length(split),
        height=config.height,
        width=config.width,
        degraded_share=config.degraded_share,
    )


def _render_video(
    root: Path,
    config: SyntheticConfig,
    split: str,
    video: int,
    class_names: list[str],
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Write the JPEGs and XML of one video; return its degraded frames by file name."""
    scene = _scene(config, split, video, class_names)
    folder = f"VID/{split}/{_snippet(split, video)}"
    for kind in ("Data", "Annotations"):
        (root / kind / folder).mkdir(parents=True)
    degradations = {}
    for index in range(config.length(split)):
        frame = scene.frame(index)
        name = f"Data/{folder}/{index:06d}.JPEG"
        _write_jpeg(root / name, frame.image)
        xml = _annotation_xml(_snippet(split, video), index, frame, config)
        (root / "Annotations" / folder / f"{index:06d}.xml").write_text(xml, encoding="utf-8")
        if frame.degradation:
            degradations[name] = frame.degradation
        progress.advance(note=folder)
    return degradations


def _write_jpeg(path: Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    path.write_bytes(encoded.tobytes())


def _write_preview(root: Path, config: SyntheticConfig) -> None:
    """Write the first validation video as a video file."""
    from sparsevod_core.video.containers import Encoding
    from sparsevod_core.video.writer import VideoWriter

    scene = _scene(config, "val", 0, _deal_classes(config, "val")[0])
    preview, size = root / PREVIEW_FILE, (config.width, config.height)
    with VideoWriter(preview, *size, frame_rate=PREVIEW_RATE, encoding=Encoding(crf=12)) as writer:
        for index in range(config.val_frames):
            writer.write(scene.frame(index).image)


def _snippet(split: str, video: int) -> str:
    """Return a name like the official ones; training videos are in groups of a thousand."""
    name = f"synthetic_{split}_{video:08d}"
    return f"synthetic_VID_train_{video // 1000:04d}/{name}" if split == "train" else name


def _write_lists(root: Path, config: SyntheticConfig) -> None:
    train, val, classes = [], [], []
    for video in range(config.train_videos):
        for number in spread_targets(config.frames):
            train.append(f"train/{_snippet('train', video)} 1 {number} {config.frames}\n")
    for video in range(config.val_videos):
        first = video * config.val_frames + 1
        val.append(f"val/{_snippet('val', video)} {first} 0 {config.val_frames}\n")
    for number, name in enumerate(config.classes, start=1):
        classes.append(f"{_wnid(number)} {number} {name}\n")
    for path, lines in (
        ("ImageSets/VID/VID_train_15frames.txt", train),
        ("ImageSets/VID/VID_val_videos.txt", val),
        ("devkit/data/map_vid.txt", classes),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("".join(lines), encoding="utf-8")


def _wnid(number: int) -> str:
    return f"s{number:08d}"  # not a WordNet noun, which begins with n


def _annotation_xml(snippet: str, index: int, frame: RenderedFrame, config: SyntheticConfig) -> str:
    objects = "".join(_object_xml(item, config) for item in frame.objects)
    return (
        "<annotation>\n"
        f"\t<folder>{snippet}</folder>\n"
        f"\t<filename>{index:06d}</filename>\n"
        "\t<source>\n\t\t<database>SparseVOD synthetic</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{config.width}</width>\n\t\t<height>{config.height}</height>\n"
        f"\t</size>\n{objects}</annotation>\n"
    )


def _object_xml(item: VisibleObject, config: SyntheticConfig) -> str:
    left, top, right, bottom = item.box_xyxy
    return (
        f"\t<object>\n\t\t<trackid>{item.track}</trackid>\n"
        f"\t\t<name>{_wnid(config.classes.index(item.class_name) + 1)}</name>\n"
        f"\t\t<bndbox>\n\t\t\t<xmax>{right}</xmax>\n\t\t\t<xmin>{left}</xmin>\n"
        f"\t\t\t<ymax>{bottom}</ymax>\n\t\t\t<ymin>{top}</ymin>\n\t\t</bndbox>\n"
        f"\t\t<occluded>{int(item.occluded)}</occluded>\n\t\t<generated>0</generated>\n"
        "\t</object>\n"
    )
