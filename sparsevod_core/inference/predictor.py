"""Frames in, detections out: the detector with resizing, support frames and source coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sparsevod_core.checkpoint import embedded_checkpoint, load_detector
from sparsevod_core.config import Config, override_pairs
from sparsevod_core.errors import ConfigError
from sparsevod_core.fast import Plan, computing_in, optimised, plan_for
from sparsevod_core.fast.plan import FRAMES_WORTH_COMPILING, Precision, batch_for, compiling_pays
from sparsevod_core.inference.device import resolve_device, resolve_precision
from sparsevod_core.inference.intake import Intake, Pixels, Staged
from sparsevod_core.inference.readout import packed, unpacked
from sparsevod_core.inference.supports import VideoSupports
from sparsevod_core.inference.targets import (
    Pictures,
    Target,
    batches,
    causal_targets,
    uniform_targets,
    window_targets,
)
from sparsevod_core.machine import describe_run
from sparsevod_core.model.detector import SparseVOD, top_detections
from sparsevod_core.model.support import SupportMemory
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category, Detections, FrameDetections
from sparsevod_core.video.footage import Footage
from sparsevod_core.video.overlap import collected, map_ahead
from sparsevod_core.video.reader import VideoReader

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

    Attributes:
        intake: the way of frames to the device, and how many batches are on it at once.

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
        batch = config.inference.batch
        if batch is None:
            batch = 1 if config.inference.support == "causal" else batch_for(self.device)
        self.batch = batch
        self.config = config.replace({"inference.precision": precision, "inference.batch": batch})
        self.detector = detector.to(self.device).eval()
        self._is_compiled = config.inference.compile == "on"
        self._num_expected = 0
        self.intake = Intake.of(self.device, self.config.data)

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
        config = checkpoint.config.replace(override_pairs(overrides))
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
        """Say, before its first frame, how long a video or data set is; None: nobody knows.

        With `inference.compile=auto` on a GPU the frames expected so far decide whether compiling
        pays.

        Returns:
            What was decided, as a line for the user; None where there is nothing to say.
        """
        setting = self.config.inference.compile
        if not compiling_pays(self.device):
            is_ignored = setting == "on" and self._num_expected == 0
            self._num_expected += num_frames or 1
            return (
                "compiling pays on a GPU only: --compile on changes nothing" if is_ignored else None
            )
        unknown = FRAMES_WORTH_COMPILING if num_frames is None else num_frames
        self._num_expected += unknown
        is_long = self._num_expected >= FRAMES_WORTH_COMPILING
        if setting != "auto" or not is_long or self._is_compiled:
            return None
        self._is_compiled = True
        for made in ("plan", "_model"):
            self.__dict__.pop(made, None)
        return "compiling the model first, as there are many frames (--compile off starts at once)"

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
        return self._start(self.intake.stage(frames).fill(), memory, clip=clip)()

    def video(self, path: Path | str) -> Iterator[FrameDetections]:
        """Every frame of a video file with its detections, in order, as they are computed.

        Support frames are chosen as `config.inference.support` says. Memory does not grow with the
        length of the video.

        Raises:
            VideoError: where the file breaks, after every frame before the break was given; or it
                cannot be opened.
        """
        with VideoReader(path) as reader:
            yield from self.frames(reader)

    def frames(
        self,
        video: Footage,
        *,
        clip: bool = True,
        known: Iterable[Detections] = (),
        is_live: bool = False,
    ) -> Iterator[FrameDetections]:
        """As `video`, of a video that is open already; `clip` as for `detect`.

        Args:
            known: what an earlier run found in the first frames: these do not go through the model.
                The others get the same supports, and go in the same batches, as they would without.
            is_live: a frame's detections are given before the next frame is asked for, as they are
                with `causal` supports; else, on a GPU, the next two batches are read before.
        """
        batches = self._batches(self._targets(video), iter(known))
        for _, found in self._detect_all(batches, clip, 0 if is_live else self._ahead):
            yield found

    def videos(
        self, videos: Iterable[Footage], *, clip: bool = True
    ) -> Iterator[tuple[int, FrameDetections]]:
        """As `frames`, of several videos one after the other; with each frame its video's number.

        On a GPU the next video is begun while the last batches of one are computed.
        """
        batches = chain.from_iterable(
            self._batches(self._targets(video), iter(()), number)
            for number, video in enumerate(videos)
        )
        yield from self._detect_all(batches, clip, self._ahead)

    @property
    def _ahead(self) -> int:
        is_causal = self.config.inference.support == "causal"
        return 0 if is_causal else self.intake.ahead

    def _targets(self, video: Footage) -> tuple[Iterator[Target], Pictures]:
        """The frames of a video with their supports, and where the pictures of these come."""
        settings, count = self.config.inference, self.num_supports
        pictures: Pictures = {}
        if settings.support == "uniform" or count == 0:
            return uniform_targets(video, count, pictures), pictures
        if settings.support == "window":
            return window_targets(video, count, settings.window_stride, pictures), pictures
        return causal_targets(video, count, pictures), pictures

    def _batches(
        self,
        targets: tuple[Iterator[Target], Pictures],
        known: Iterator[Detections],
        video: int = 0,
    ) -> Iterator[_Batch]:
        """The targets of a video in batches, not yet on their way to the device."""
        supports = VideoSupports(targets[1], lambda one: self._remember([one]), _joined)
        for batch in batches(targets[0], self.batch):
            found = list(islice(known, len(batch)))
            if len(found) < len(batch):
                found = []  # a batch that is known in part goes through the model whole
            images = [target.frame.image for target in batch]
            staged = None if found else self.intake.stage(images)
            yield _Batch(video, batch, supports, found, staged)

    def _detect_all(
        self, batches: Iterable[_Batch], clip: bool, ahead: int
    ) -> Iterator[tuple[int, FrameDetections]]:
        """All in order; `ahead` later batches are launched, and as many staged, before one is read.

        So the device has its next batch when it is done with one, whatever the host does meanwhile.
        """
        filled = map_ahead(_Batch.fill, batches, threads=1, depth=ahead)
        begun = (self._begin(batch, clip) for batch in filled)
        for frames in collected(begun, ahead):
            yield from frames

    def _begin(self, batch: _Batch, clip: bool) -> Callable[[], list[tuple[int, FrameDetections]]]:
        """Launch a batch; what comes back waits for it."""
        if batch.staged is None:
            read = batch.known.copy
        else:
            memory = batch.supports.memory_of(batch.targets)
            read = self._start(batch.staged, memory, clip=clip)
        batch.supports.drop_behind(batch.targets)
        video, frames = batch.video, [target.frame for target in batch.targets]
        return lambda: [
            (video, FrameDetections(frame, found))
            for frame, found in zip(frames, read(), strict=True)
        ]

    def _start(
        self, staged: Staged, memory: SupportMemory | None, *, clip: bool
    ) -> Callable[[], list[Detections]]:
        """Launch `detect` for frames that are filled in; what comes back waits for it."""
        with self.computing():
            images, sizes = staged.load()
            # One by one where nothing may depend on how many frames come together.
            at_once = 1 if self.plan.one_by_one else len(images)
            parts = zip(images.split(at_once), sizes.split(at_once), strict=True)
            outputs = [self._model.detect(self._model.encode(*part), memory) for part in parts]
            found = torch.cat([packed(*top_detections(output)) for output in outputs])
            read = self.intake.transfers.down(found)
        resized, sources = staged.sizes, [frame.shape[:2] for frame in staged.frames]
        return lambda: unpacked(read(), resized, sources, clip=clip)

    def _remember(self, frames: Sequence[Pixels]) -> SupportMemory:
        with self.computing():
            return self._model.remember(self._model.encode(*self.as_seen(frames)))

    @property
    def run(self) -> dict[str, str | int]:
        """What results depend on beside the settings; see `describe_run`."""
        return describe_run(str(self.device), self.precision)

    @property
    def precision(self) -> Precision:
        """In which maps and RoI features are computed."""
        return cast(Precision, self.config.inference.precision)  # `auto` was resolved

    @cached_property
    def plan(self) -> Plan:
        """How the detector computes here."""
        settings = self.config.inference
        if not settings.fast:
            return Plan(precision=self.precision)
        return plan_for(self.device, self.precision, compiled=self._is_compiled)

    @cached_property
    def _model(self) -> Any:
        """What computes, a `SparseVOD` or a `RecordedDetector`; made at the first frame, as it
        copies all weights."""
        return optimised(self.detector, self.plan) if self.config.inference.fast else self.detector

    @contextmanager
    def computing(self) -> Iterator[None]:
        """The precision in which the detector computes, as a context."""
        settings = self.config.inference
        is_under_autocast = settings.precision == "bf16" and not settings.fast
        with (
            torch.inference_mode(),
            computing_in(self.precision),
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
        return self.intake.stage(frames).fill().load()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Targets that go through the model together.

    Attributes:
        video: number of their video.
        supports: of that video.
        known: what is known of all of them already; empty: nothing.
        staged: their pictures; None where all is known.
    """

    video: int
    targets: list[Target]
    supports: VideoSupports[SupportMemory]
    known: list[Detections]
    staged: Staged | None

    def fill(self) -> _Batch:
        """See `Staged.fill`."""
        if self.staged is not None:
            self.staged.fill()
        return self


def _joined(memories: Sequence[SupportMemory]) -> SupportMemory | None:
    """One memory of all their support frames, in order."""
    if len(memories) < 2:
        return memories[0] if memories else None
    return SupportMemory.joined(memories)
