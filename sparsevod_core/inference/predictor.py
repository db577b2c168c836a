"""Frames in, detections out: the detector with resizing, support frames and source coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from sparsevod_core.checkpoint import embedded_checkpoint, load_detector
from sparsevod_core.config import Config
from sparsevod_core.data.targets import (
    Pictures,
    Target,
    batches,
    causal_targets,
    uniform_targets,
    window_targets,
)
from sparsevod_core.data.transforms import pad_to_multiple, resize_image, resized_size
from sparsevod_core.errors import CheckpointError, ConfigError, DataError
from sparsevod_core.fast import Plan, computing_in, optimised, plan_for
from sparsevod_core.fast.plan import FRAMES_WORTH_COMPILING
from sparsevod_core.fast.recorded import RecordedDetector
from sparsevod_core.inference.device import resolve_device, resolve_precision
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category, Detections, FrameDetections
from sparsevod_core.video.footage import Footage
from sparsevod_core.video.reader import VideoReader

Pixels: TypeAlias = np.ndarray | Tensor
_SUPPORTS_AT_ONCE = 8  # bounds the memory that many supports take on their way through the backbone


class Predictor:
    """A detector ready for use: frames of any size in, boxes in their own pixels out.

    A frame is RGB pixels of type uint8: a numpy array [H, W, 3], or a tensor [3, H, W] as
    torchvision decodes it.

    Args:
        detector: is moved to the device and set to evaluation mode. Its weights are those of the
            first call of `remember` or `detect`.
        config: `inference` and the sizes in `data` are used.
        categories: `categories[k]` is the class of label k.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ConfigError: a device that is not there, or as many categories as classes are needed.
    """

    def __init__(
        self,
        detector: SparseVOD,
        config: Config,
        categories: Sequence[Category],
        *,
        device: str = "auto",
    ) -> None:
        if len(categories) != config.model.num_classes:
            raise ConfigError(
                f"{len(categories)} categories for a detector of {config.model.num_classes} classes"
            )
        self.categories = tuple(categories)
        self.device = resolve_device(device)
        precision = resolve_precision(config.inference.precision, self.device)
        self.config = config.replace({"inference.precision": precision})
        self.detector = detector.to(self.device).eval()
        self._is_compiled = config.inference.compile == "on"

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str | None = None,
        *,
        device: str = "auto",
        overrides: Sequence[str] = (),
        reporter: Reporter | None = None,
    ) -> Predictor:
        """The detector of a checkpoint file, ours or another project's Sparse R-CNN.

        Args:
            path: the file; None: the model that comes with the package.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            overrides: settings as `inference.supports=2`, on top of those in the file.
            reporter: is told what a foreign file was taken for.

        Raises:
            CheckpointError: missing, truncated, unsafe, or of another model.
            ConfigError: a device that is not there, or a setting that does not fit.
        """
        path = embedded_checkpoint() if path is None else path
        target = resolve_device(device)
        detector, checkpoint = load_detector(path, device=target, reporter=reporter)
        config = checkpoint.config.replace(_pairs(overrides))
        if config.model != checkpoint.config.model:
            raise ConfigError(
                f"{path} holds a trained model: settings under `model` cannot change any more"
            )
        return cls(detector, config, checkpoint.categories, device=str(target))

    @property
    def num_supports(self) -> int:
        """Support frames per target: as configured; 0 for a detector that looks at none."""
        is_temporal = self.detector.has_temporal_roi or self.detector.has_aggregation
        return self.config.inference.supports if is_temporal else 0

    def plain(self) -> Predictor:
        """The same detector as it is trained, every layer by itself: to be looked into."""
        config = self.config.replace({"inference.fast": False})
        return Predictor(self.detector, config, self.categories, device=str(self.device))

    def expect(self, num_frames: int | None) -> str | None:
        """Say, before the first frame, how many frames come; None: as many as never end.

        With `inference.compile=auto` on a GPU that decides whether compiling pays.

        Returns:
            What was decided, as a line for the user; None where there is nothing to decide.
        """
        if self.device.type == "cpu":
            return None
        setting = self.config.inference.compile
        is_long = num_frames is None or num_frames >= FRAMES_WORTH_COMPILING
        self._is_compiled = setting == "on" or (setting == "auto" and is_long)
        count = "no end of" if num_frames is None else f"{num_frames:,}"
        if self._is_compiled:
            return f"compiling the model first ({count} frames; --compile off starts at once)"
        return f"not compiling the model ({count} frames; --compile on does)"

    def remember(self, frames: Sequence[Pixels]) -> SupportMemory | None:
        """What the detector keeps of support frames; None where there are none, or it needs none.

        Args:
            frames: all of one video and size.
        """
        if not frames or self.num_supports == 0:
            return None
        chunks = [
            frames[i : i + _SUPPORTS_AT_ONCE] for i in range(0, len(frames), _SUPPORTS_AT_ONCE)
        ]
        memories = [self._remember(chunk) for chunk in chunks]
        return _joined(memories)

    def detect(
        self,
        frames: Sequence[Pixels],
        memory: SupportMemory | None,
        *,
        clip: bool = True,
    ) -> list[Detections]:
        """Detections of target frames of one video, in the pixels of each frame, best first.

        Args:
            frames: of any sizes.
            memory: of the video's support frames; None: every frame is seen alone.
            clip: cut boxes at the frame's border; boxes that are empty then are dropped.

        Raises:
            DataError: what is no such frame.
            CheckpointError: weights that give no finite scores.
        """
        if not frames:
            return []
        frames = [_as_array(frame) for frame in frames]
        with self.computing():
            images, sizes = self.as_seen(frames)
            # One by one where nothing may depend on how many frames come together.
            at_once = 1 if self.plan.apart else len(images)
            parts = zip(images.split(at_once), sizes.split(at_once), strict=True)
            outputs = [self._model.detect(self._model.encode(*part), memory) for part in parts]
            best = zip(*map(top_detections, outputs), strict=True)
            boxes_xyxy, scores, labels = (torch.cat(values).cpu() for values in best)
        if not scores.isfinite().all():
            raise CheckpointError(
                "the model's scores are not finite numbers",
                hint="training has diverged: look at the loss in the run's metrics.jsonl",
            )
        found = zip(boxes_xyxy, scores, labels, sizes.tolist(), frames, strict=True)
        return [
            _in_source_pixels(boxes, score, label, size, frame.shape, clip=clip)
            for boxes, score, label, size, frame in found
        ]

    def video(self, path: Path | str) -> Iterator[FrameDetections]:
        """Every frame of a video file with its detections, in order, as they are computed.

        Support frames are chosen as `config.inference.support` says. SupportMemory does not grow with the
        length of the video.

        Raises:
            VideoError: where the file breaks, after every frame before the break was given; or it
                cannot be opened.
        """
        with VideoReader(path) as reader:
            yield from self.frames(reader)

    def frames(
        self, video: Footage, *, clip: bool = True, known: Iterable[Detections] = ()
    ) -> Iterator[FrameDetections]:
        """As `video`, of a video that is open already; `clip` as for `detect`.

        Args:
            known: what an earlier run found in the first frames: these do not go through the model.
                The others get the same supports, and go in the same batches, as they would without.
        """
        settings, count = self.config.inference, self.num_supports
        pictures: Pictures = {}
        if settings.support == "uniform" or count == 0:
            targets = uniform_targets(video, count, pictures)
        elif settings.support == "window":
            targets = window_targets(video, count, settings.window_stride, pictures)
        else:
            targets = causal_targets(video, count, pictures)
        yield from self._detect_all(targets, pictures, clip, iter(known))

    def _detect_all(
        self, targets: Iterator[Target], pictures: Pictures, clip: bool, known: Iterator[Detections]
    ) -> Iterator[FrameDetections]:
        """Every support goes through the model once, and is remembered while a target needs it."""
        memories: dict[int, SupportMemory] = {}
        memory: SupportMemory | None = None
        supports: list[int] = []
        for batch in batches(targets, self.config.inference.batch):
            frames = [target.frame for target in batch]
            found = list(islice(known, len(batch)))
            if len(found) < len(batch):
                found = []  # a batch that is known in part goes through the model whole
            if not found:
                if batch[0].supports != supports:
                    supports = batch[0].supports
                    for number in dict.fromkeys(supports):
                        if number not in memories:  # alone: the numbers do not depend on when
                            memories[number] = self._remember([pictures.pop(number)])
                    memory = _joined([memories[number] for number in supports])
                    # A frame that is ahead, or the target itself, is a support again further on.
                    first = frames[0].index
                    memories = {n: m for n, m in memories.items() if n in supports or n >= first}
                found = self.detect([frame.image for frame in frames], memory, clip=clip)
            yield from map(FrameDetections, frames, found)
            # Supports of a batch that was known are not remembered yet, and may be wanted.
            wanted = batch[-1].supports
            for number in [n for n in pictures if n < frames[-1].index and n not in wanted]:
                del pictures[number]

    def _remember(self, frames: Sequence[Pixels]) -> SupportMemory:
        with self.computing():
            images, sizes = self.as_seen(frames)
            return self._model.remember(self._model.encode(images, sizes))

    @cached_property
    def plan(self) -> Plan:
        """How the detector computes here."""
        settings = self.config.inference
        if not settings.fast:
            return Plan(precision=settings.precision)
        return plan_for(self.device, settings.precision, compiled=self._is_compiled)

    @cached_property
    def _model(self) -> SparseVOD | RecordedDetector:
        """What computes: made at the first frame, as it copies all weights."""
        return optimised(self.detector, self.plan) if self.config.inference.fast else self.detector

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The precision in which the detector computes, as a context."""
        settings = self.config.inference
        is_under_autocast = settings.precision == "bf16" and not settings.fast
        with (
            torch.inference_mode(),
            computing_in(settings.precision),
            torch.autocast(self.device.type, torch.bfloat16, enabled=is_under_autocast),
        ):
            yield

    def as_seen(
        self, frames: Sequence[Pixels]
    ) -> tuple[UInt8[Tensor, "B 3 H W"], Int[Tensor, "B 2"]]:
        """Frames as the model was trained on them: resized, padded, on the device.

        Returns:
            The batch, and height and width of each frame in it without padding.

        Raises:
            DataError: what is no frame.
        """
        data = self.config.data
        resized = []
        for frame in map(_as_array, frames):
            if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
                raise DataError(
                    f"a frame of shape {frame.shape} and type {frame.dtype}: expected RGB pixels "
                    "[height, width, 3], or a tensor [3, height, width], of type uint8"
                )
            height, width, _ = frame.shape
            size = resized_size(height, width, data.short_side, data.long_side)
            pixels = torch.from_numpy(np.require(frame, requirements=["C", "W"]))
            resized.append(resize_image(pixels.permute(2, 0, 1), size))
        images, sizes = pad_to_multiple(resized)
        return images.to(self.device), sizes.to(self.device)


def _joined(memories: Sequence[SupportMemory]) -> SupportMemory | None:
    """One memory of all their support frames, in order."""
    if len(memories) < 2:
        return memories[0] if memories else None
    return SupportMemory.joined(memories)


def _as_array(frame: Pixels) -> np.ndarray:
    """Pixels in the order of an array."""
    if isinstance(frame, Tensor):
        frame = frame.movedim(0, -1).cpu().numpy() if frame.ndim == 3 else frame.cpu().numpy()
    return frame


def _in_source_pixels(
    boxes_xyxy: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    resized: Sequence[int],
    source: Sequence[int],
    *,
    clip: bool,
) -> Detections:
    """From pixels of the resized frame to those of the source; both start with height and width."""
    (height, width), (resized_height, resized_width) = source[:2], resized
    ratios = np.array([width / resized_width, height / resized_height] * 2, dtype=np.float32)
    boxes = boxes_xyxy.float().numpy() * ratios
    if clip:
        boxes = boxes.clip(0, np.array([width, height] * 2, dtype=np.float32))
    is_box = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Detections(boxes, scores.float().numpy(), labels.numpy())[is_box]


def _pairs(overrides: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--set {text!r}: expected key=value, e.g. --set inference.batch=4")
        pairs[key.strip()] = value.strip()
    return pairs
