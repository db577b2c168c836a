"""Predictor: the detector with resizing, support frames and source coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sparsevod_core.checkpoint import embedded_checkpoint, load_detector
from sparsevod_core.checkpoint.digest import model_digest
from sparsevod_core.config import Config, override_pairs
from sparsevod_core.errors import ConfigError
from sparsevod_core.fast import Plan, computing_in, optimized, plan_for
from sparsevod_core.fast.plan import FRAMES_WORTH_COMPILING, Precision, batch_for, compiling_pays
from sparsevod_core.inference.device import resolve_device, resolve_precision
from sparsevod_core.inference.intake import InputBatch, Intake, Pixels, as_frame
from sparsevod_core.inference.readout import packed, unpacked
from sparsevod_core.inference.support_frames import (
    Images,
    SupportedFrame,
    SupportPlan,
    VideoSupports,
    batches,
    supported_frames,
)
from sparsevod_core.machine import describe_run
from sparsevod_core.model.video_detector import VideoDetector
from sparsevod_core.reporting import Reporter
from sparsevod_core.structures import Category, Detections, FrameDetections
from sparsevod_core.video.opening import Footage, open_file
from sparsevod_core.video.overlap import collected, map_ahead

_SUPPORTS_AT_ONCE = 8  # bounds the memory that many support frames take in the backbone


class Predictor:
    """A detector ready for use: frames of any size in, boxes in their pixels out.

    Detect in a video; support frames are chosen from it automatically:

        from sparsevod_core import Predictor

        predictor = Predictor.from_checkpoint()  # the bundled model, or "runs/r50/.../best.pth"
        for frame in predictor.video("car.mp4"):
            for detection in frame.above(0.3):
                print(frame.index, detection.class_name, detection.score, detection.box_xyxy)

    Detect in images of one scene and size, each with all of them as support frames:

        memory = predictor.remember(images)
        for detections in predictor.detect(images, memory):
            print(detections)  # Detections(2: car 0.91 at (10.0, 20.0, 50.0, 40.0); ...)

    A frame is RGB pixels of type uint8: a numpy array [H, W, 3], or a tensor [3, H, W] as
    torchvision decodes it. Boxes are (x1, y1, x2, y2) in pixels of the frame, scores are 0 to 1,
    and labels are positions in `categories`. `sparsevod_core.structures` documents `Detections` and
    `FrameDetections`; `sparsevod_core.inference.convert` passes them on to torchvision, COCO tools
    and supervision.

    Args:
        detector: Detector; it is moved to the device and set to evaluation mode. Its weights are
            copied at the first detection; later changes have no effect.
        config: Config; `inference` and the sizes in `data` are used.
        categories: The model's classes, `categories[label]`.
        device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.
        checkpoint: Path of the file that the weights come from, for the record.

    Attributes:
        detector: Detector as it was trained.
        config: Config with precision and batch size resolved.
        categories: The model's classes, `categories[label]`, each with `id` and `name`.
        device: Device that runs the model.
        batch: Number of frames of a video that go through the model together.
        checkpoint: Path of the file that the weights come from, None if unknown.
        intake: Resizes frames and copies them to the device.
        supports: Choice of the support frames of a video.

    Raises:
        ConfigError: The device does not exist, or `categories` do not fit the detector.
    """

    def __init__(
        self,
        detector: VideoDetector,
        config: Config,
        categories: Sequence[Category],
        *,
        device: str = "auto",
        checkpoint: Path | None = None,
    ) -> None:
        if len(categories) != config.model.num_classes:
            raise ConfigError(
                f"expected {config.model.num_classes} categories, one per class of the detector, "
                f"got {len(categories)}"
            )
        self.categories = tuple(categories)
        self.checkpoint = checkpoint
        self.device = resolve_device(device)
        precision = resolve_precision(config.inference.precision, self.device)
        self.supports = SupportPlan.of(config)
        batch = config.inference.batch
        if batch is None:
            batch = batch_for(self.device) if self.supports.is_shared else 1
        if detector.is_ordered:
            batch = 1
        self.batch = batch
        self.config = config.replace({"inference.precision": precision, "inference.batch": batch})
        self.detector = detector.to(self.device).eval()
        self.detector.seed = config.seed
        self._is_compiled = config.inference.compile == "on"
        self._num_expected = 0
        self.intake = Intake.for_device(self.device, self.config.data)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str | None = None,
        *,
        device: str = "auto",
        overrides: Sequence[str] = (),
        reporter: Reporter | None = None,
    ) -> Predictor:
        """Load the detector of a checkpoint: ours, or one of another project.

        Args:
            path: Path of the file, or the name of published weights, such as `selsa-r50-vid`; None:
                the model bundled with the package.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            overrides: Settings that replace the checkpoint's, such as `inference.supports=2`.
            reporter: Receives a description of a bundled or foreign model, and the progress of a
                download.

        Raises:
            CheckpointError: The file is missing, truncated, unsafe, or of another model.
            ConfigError: The device does not exist, or a setting cannot be used.
        """
        target = resolve_device(device)
        detector, checkpoint = load_detector(path, device=target, reporter=reporter)
        config = checkpoint.config.replace(override_pairs(overrides))
        file = embedded_checkpoint() if path is None else Path(path)
        if config.model != checkpoint.config.model:
            raise ConfigError(
                f"{file}: the settings under `model` of a trained model cannot be changed"
            )
        return cls(detector, config, checkpoint.categories, device=str(target), checkpoint=file)

    def video(self, path: Path | str) -> Iterator[FrameDetections]:
        """Yield every frame of a video file with its detections, in order, while it is decoded.

        Support frames are chosen as `config.inference.support` says. Memory use does not depend on
        the length of the video.

        Args:
            path: A file in any container and codec that FFmpeg decodes.

        Returns:
            For each frame `FrameDetections`: `frame.image` [H, W, 3] uint8 RGB, `index` from 0,
            `time_s` in seconds, and detections with `boxes_xyxy` [M, 4] float32 in pixels, clipped
            to the frame, `scores` [M] float32, `labels` [M] int64, `class_names`; highest score
            first. There is no score threshold: M is about the number of proposals; `above(score)`
            selects.

        Raises:
            VideoError: The file cannot be opened, or it breaks off after the frames yielded so far.
        """
        with open_file(path) as reader:
            yield from self.frames(reader)

    def frames(
        self,
        video: Footage,
        *,
        clip: bool = True,
        resumed: Iterable[Detections] = (),
        is_live: bool = False,
    ) -> Iterator[FrameDetections]:
        """Yield what `video` does, for a video that is open already.

        Args:
            video: A `VideoReader`, `ImageFolder` or `LiveStream`, or any object with their
                `num_frames`, `frames_at` and `__iter__`.
            clip: See `detect`.
            resumed: Detections of the first frames from an earlier run. These frames do not go
                through the model. The others get the same batches and support frames as without it.
            is_live: If True, a frame is yielded before the next one is read. This is always so
                with `causal` support frames; otherwise a GPU reads two batches ahead.
        """
        batches = self._batches(video, iter(resumed))
        for _, found in self._detect_batches(batches, clip, 0 if is_live else self._ahead):
            yield found

    def videos(
        self, videos: Iterable[Footage], *, clip: bool = True
    ) -> Iterator[tuple[int, FrameDetections]]:
        """Yield what `frames` does for several videos in turn, each frame with its video's number.

        A GPU starts the next video while the last batches of one are computed.
        """
        batches = chain.from_iterable(
            self._batches(video, iter(()), number) for number, video in enumerate(videos)
        )
        yield from self._detect_batches(batches, clip, self._ahead)

    def remember(
        self, frames: Sequence[Pixels], global_frames: Sequence[Pixels] = ()
    ) -> Any | None:
        """Return the detector's memory of support frames, for `detect` and `advance`.

        None if there are no frames, or the detector does not use support frames.

        Args:
            frames: Frames [H, W, 3] or [3, H, W] of one video and size.
            global_frames: MEGA's frames from the entire video; none: `frames`.

        Raises:
            DataError: Something that is not a frame.
        """
        if not frames or self.num_supports == 0:
            return None
        parts = [self._remember_all(some) for some in (frames, global_frames)]
        return self.detector.join(*parts)

    def detect(
        self, frames: Sequence[Pixels], memory: Any | None, *, clip: bool = True
    ) -> list[Detections]:
        """Return the detections of each frame, in its pixels, highest score first.

        Args:
            frames: Target frames [H, W, 3] or [3, H, W] of one video, of any sizes.
            memory: Memory of the video's support frames, from `remember`; None: detect in each
                frame on its own.
            clip: If True, clip boxes to the frame and drop those that are then empty.

        Raises:
            DataError: Something that is not a frame.
            ConfigError: The detector needs the frames of a video in order, see `advance`.
            CheckpointError: The weights give scores that are not finite.
        """
        if self.detector.is_ordered and memory is not None:
            raise ConfigError(
                f"{self.config.model.system} detects in the frames of a video in order",
                hint="use `advance` instead of `detect`",
            )
        if not frames:
            return []
        return self._start(self.intake.batch(frames).fill(), memory, clip=clip)()

    def advance(
        self, frames: Sequence[Pixels], memory: Any | None, *, clip: bool = True
    ) -> tuple[list[Detections], Any | None]:
        """Return the detections of the next frames of a video, and the memory after them.

        Any detector can be used in this way. MAMBA and MEGA need it, as they learn from each frame
        for the next ones.

        Args:
            frames: The next frames [H, W, 3] or [3, H, W] of the video, in order.
            memory: At the start of a video, the memory of its support frames from `remember`; then
                what the last call returned.
            clip: See `detect`.

        Raises:
            DataError: Something that is not a frame.
            CheckpointError: The weights give scores that are not finite.
        """
        running = memory if isinstance(memory, RunningMemory) else RunningMemory(memory)
        found = []
        for frame in frames:
            with self.computing():
                output, state = self._model.advance(
                    self._model.encode(*self.as_seen([frame])), running.supports, running.state
                )
                values = packed(*self.detector.top(output)).cpu()
            running = replace(running, state=state)
            size = as_frame(frame).shape[:2]
            seen = [self.intake.resized_size(*size)]
            found += unpacked(values, seen, [size], self.categories, clip=clip)
        return found, running

    def encode_frame(self, frame: Pixels) -> Any:
        """Return the detector's encoding of one frame."""
        with self.computing():
            return self._model.encode(*self.as_seen([frame]))

    def remember_frame(self, encoded: Any) -> Any:
        """Return the detector's memory of an encoded frame, to be joined with others."""
        with self.computing():
            return self._model.remember(encoded)

    def video_supports(self, video: Footage, images: Images) -> VideoSupports[Any]:
        """Return the memories of a video's support frames, none yet; see `VideoSupports`."""
        return VideoSupports(
            images,
            read=video.frames_at,
            encode=self.encode_frame,
            remember=self.remember_frame,
            join=self.detector.join,
            keeps_encodings=self.detector.keeps_encodings and self.batch == 1,
            kept_bytes=self.supports.kept_bytes,
        )

    @property
    def num_supports(self) -> int:
        """Number of support frames of each target frame; 0 for a detector that uses none."""
        if not self.detector.uses_supports:
            return 0
        return self.supports.supports + self.supports.global_supports

    def plain(self) -> Predictor:
        """Return a predictor that runs the detector layer by layer as trained, for inspection."""
        config = self.config.replace({"inference.fast": False})
        return Predictor(
            self.detector,
            config,
            self.categories,
            device=str(self.device),
            checkpoint=self.checkpoint,
        )

    def expect(self, num_frames: int | None) -> str | None:
        """Announce the length of a video or data set before its first frame; None if unknown.

        With `inference.compile=auto` on a GPU, the number of frames announced so far decides
        whether the model is compiled.

        Returns:
            A message for the user about the decision, or None.
        """
        setting = self.config.inference.compile
        if not compiling_pays(self.device):
            is_ignored = setting == "on" and self._num_expected == 0
            self._num_expected += num_frames or 1
            return (
                "ignoring --compile on: the model is compiled on GPUs only" if is_ignored else None
            )
        unknown = FRAMES_WORTH_COMPILING if num_frames is None else num_frames
        self._num_expected += unknown
        is_long = self._num_expected >= FRAMES_WORTH_COMPILING
        if setting != "auto" or not is_long or self._is_compiled:
            return None
        self._is_compiled = True
        for made in ("plan", "_model"):
            self.__dict__.pop(made, None)
        return "compiling the model, as there are many frames (--compile off starts at once)"

    @property
    def run(self) -> dict[str, Any]:
        """Version, device, precision, threads, seed, all settings and a digest of the model.

        To be recorded with results.
        """
        run = describe_run(str(self.device), self.precision, self.config.flat())
        return {**run, "model": self.model_digest}

    @property
    def frame_settings(self) -> dict[str, Any]:
        """The settings that decide what the model sees of a frame."""
        data = self.config.data
        return {
            "short_side": data.short_side,
            "long_side": data.long_side,
            "resize": data.resize,
            "pad_multiple": data.pad_multiple,
        }

    @cached_property
    def model_digest(self) -> str:
        """Text that identifies weights, architecture and classes, whatever file they come from."""
        classes = [[category.id, category.name] for category in self.categories]
        described = {"model": self.config.to_dict()["model"], "classes": classes}
        return model_digest(self.detector.state_dict(), described)

    @property
    def precision(self) -> Precision:
        """Precision of feature maps and RoI features."""
        return cast(Precision, self.config.inference.precision)  # `auto` was resolved

    @cached_property
    def plan(self) -> Plan:
        """How the detector computes on this device."""
        settings = self.config.inference
        if not settings.fast:
            return Plan(precision=self.precision)
        return plan_for(self.device, self.precision, compiled=self._is_compiled)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Set inference mode and precision for calls of `detector`."""
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
        """Return frames as the model gets them: resized, padded, on the device.

        Returns:
            The batch, and (height, width) of each frame in it without padding.

        Raises:
            DataError: Something that is not a frame.
        """
        return self.intake.batch(frames).fill().load()

    @property
    def _ahead(self) -> int:
        is_steady = self.supports.mode in ("uniform", "window") and not self.detector.is_ordered
        return self.intake.ahead if is_steady else 0

    @cached_property
    def _model(self) -> Any:
        """Model that computes: the detector, or an optimized copy.

        It is made at the first frame, because it copies all weights.
        """
        return optimized(self.detector, self.plan) if self.config.inference.fast else self.detector

    def _batches(
        self, video: Footage, resumed: Iterator[Detections], number: int = 0
    ) -> Iterator[_Batch]:
        """Yield the frames of a video in batches that are not filled yet."""
        images: Images = {}
        supports = self.video_supports(video, images)
        plan = self.supports if self.detector.uses_supports else SupportPlan.none()
        frames = supported_frames(video, plan, images)
        for targets in batches(frames, self.batch):
            found = list(islice(resumed, len(targets)))
            if len(found) < len(targets):
                found = []  # a batch that is resumed in part goes through the model in full
            # An ordered detector goes through resumed frames again, to arrive at the same state.
            is_skipped = found and not self.detector.is_ordered
            inputs = None if is_skipped else self.intake.batch([t.frame.image for t in targets])
            found = [replace(one, categories=self.categories) for one in found]
            yield _Batch(number, targets, supports, found, inputs)

    def _detect_batches(
        self, batches: Iterable[_Batch], clip: bool, ahead: int
    ) -> Iterator[tuple[int, FrameDetections]]:
        """Yield all frames in order.

        Before a batch is read, `ahead` later batches are launched and as many filled, so that the
        device has its next batch when it finishes one, whatever the host does meanwhile.
        """
        filled = map_ahead(_Batch.fill, batches, threads=1, depth=ahead)
        launched = (self._launch(batch, clip) for batch in filled)
        for frames in collected(launched, ahead):
            yield from frames

    def _launch(self, batch: _Batch, clip: bool) -> Callable[[], list[tuple[int, FrameDetections]]]:
        """Launch a batch; the returned function waits for its results."""
        read = batch.resumed.copy
        if batch.inputs is not None:
            memory = batch.supports.memory_of(batch.targets)
            start = self._start(batch.inputs, memory, clip=clip, batch=batch)
            read = start if not batch.resumed else read
        batch.supports.drop_images(batch.targets)
        video, frames = batch.video, [target.frame for target in batch.targets]
        return lambda: [
            (video, FrameDetections(frame, found))
            for frame, found in zip(frames, read(), strict=True)
        ]

    def _start(
        self, inputs: InputBatch, memory: Any | None, *, clip: bool, batch: _Batch | None = None
    ) -> Callable[[], list[Detections]]:
        """Launch the model on a filled batch; the returned function waits for its detections.

        Args:
            batch: The batch of a video that the inputs belong to, if there is one.
        """
        with self.computing():
            outputs = [
                self._output(encoded, memory, batch) for encoded in self._encoded(inputs, batch)
            ]
            found = torch.cat([packed(*self.detector.top(output)) for output in outputs])
            read = self.intake.transfers.down(found)
        resized, sources = inputs.sizes, [frame.shape[:2] for frame in inputs.frames]
        return lambda: unpacked(read(), resized, sources, self.categories, clip=clip)

    def _encoded(self, inputs: InputBatch, batch: _Batch | None) -> Iterator[Any]:
        """Yield the encodings of a batch, in the groups in which targets are detected."""
        if batch is not None and len(batch.targets) == 1:
            kept = batch.supports.encoding_of(batch.targets[0])
            if kept is not None:
                yield kept
                return
        images, sizes = inputs.load()
        # One by one if results must not depend on how many frames come together.
        at_once = 1 if self.plan.one_by_one or self.detector.is_ordered else len(images)
        for part in zip(images.split(at_once), sizes.split(at_once), strict=True):
            yield self._model.encode(*part)

    def _output(self, encoded: Any, memory: Any | None, batch: _Batch | None) -> Any:
        if batch is None or not self.detector.is_ordered:
            return self._model.detect(encoded, memory)
        output, batch.supports.state = self._model.advance(encoded, memory, batch.supports.state)
        return output

    def _remember_all(self, frames: Sequence[Pixels]) -> list[Any]:
        """Return memories of frames, a few frames in each."""
        memories = []
        for first in range(0, len(frames), _SUPPORTS_AT_ONCE):
            with self.computing():
                encoded = self._model.encode(
                    *self.as_seen(frames[first : first + _SUPPORTS_AT_ONCE])
                )
                memories.append(self._model.remember(encoded))
        return memories


@dataclass(frozen=True, slots=True)
class RunningMemory:
    """Memory of a video that is detected frame by frame with `Predictor.advance`.

    Attributes:
        supports: Memory of the support frames.
        state: What the detector has kept of the frames so far.
    """

    supports: Any | None
    state: Any | None = None


@dataclass(frozen=True, slots=True)
class _Batch:
    """Target frames that go through the model together.

    Attributes:
        video: Number of their video.
        targets: The frames.
        supports: Support frames of that video.
        resumed: Detections from an earlier run, for all frames or none.
        inputs: Their pixels, None if the batch is resumed.
    """

    video: int
    targets: list[SupportedFrame]
    supports: VideoSupports[Any]
    resumed: list[Detections]
    inputs: InputBatch | None

    def fill(self) -> _Batch:
        """Fill the inputs, see `InputBatch.fill`."""
        if self.inputs is not None:
            self.inputs.fill()
        return self
