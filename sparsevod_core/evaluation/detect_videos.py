"""Runs a detector over the listed frames of annotated videos, one support memory per video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import groupby
from typing import Protocol

import numpy as np

from sparsevod_core.config import Config, InferenceConfig
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.data.sampling import CausalSampler, uniform_supports, window_supports
from sparsevod_core.model.support import SupportMemory, concatenate
from sparsevod_core.structures import Category, Detections


class VideoDetector(Protocol):
    """What is evaluated; `sparsevod_core.inference.Predictor` is one."""

    @property
    def config(self) -> Config: ...

    @property
    def categories(self) -> Sequence[Category]: ...

    @property
    def num_supports(self) -> int:
        """Support frames per target: as configured, 0 where the model looks at none."""

    def remember(self, frames: Sequence[np.ndarray]) -> SupportMemory | None:
        """The memory of support frames, RGB [H, W, 3] uint8; None without frames."""

    def detect(
        self, frames: Sequence[np.ndarray], memory: SupportMemory | None, *, clip: bool = True
    ) -> list[Detections]:
        """Detections of each target frame in its own pixels, best first."""


def detect_videos(
    predictor: VideoDetector, videos: VideoSet, chosen: Sequence[int], *, clip: bool = True
) -> Iterator[tuple[int, Detections]]:
    """Position in `videos` and detections of every frame of the chosen videos, in order."""
    with closing(FrameReader(videos)) as reader:
        for video in chosen:
            yield from _detect_video(predictor, reader, videos.video_frames(video), clip)


def _detect_video(
    predictor: VideoDetector, reader: FrameReader, frames: range, clip: bool
) -> Iterator[tuple[int, Detections]]:
    inference = predictor.config.inference
    supports_of = _supports(len(frames), predictor.num_supports, inference)
    one_pass = _VideoPass(predictor, reader, frames, supports_of)
    # A run of targets that look at the same supports shares one memory and fills batches.
    for _, run in groupby(range(len(frames)), key=supports_of.__getitem__):
        targets = list(run)
        memory = one_pass.memory(targets[0])
        for start in range(0, len(targets), inference.batch):
            batch = targets[start : start + inference.batch]
            found = predictor.detect(one_pass.images(batch), memory, clip=clip)
            yield from zip([frames[target] for target in batch], found, strict=True)


def _supports(num_frames: int, count: int, inference: InferenceConfig) -> list[list[int]]:
    """The supports of every target of a video; targets and supports count its frames from 0."""
    targets = range(num_frames)
    if inference.support == "uniform":
        return [uniform_supports(num_frames, count)] * num_frames
    if inference.support == "window":
        stride = inference.window_stride
        return [window_supports(target, num_frames, count, stride) for target in targets]
    sampler = CausalSampler(count)
    supports_of = []
    for target in targets:
        supports_of.append(sampler.supports())
        sampler.add(target)
    return supports_of


class _VideoPass:
    """One pass over a video: every support frame goes through the model once and stays in use.

    Supports ahead of the target are decoded once too: their pictures wait for their turn as target.
    So a window moves through a video file in one direction, without seeking back.
    """

    def __init__(
        self,
        predictor: VideoDetector,
        reader: FrameReader,
        frames: range,
        supports_of: list[list[int]],
    ) -> None:
        self._predictor = predictor
        self._reader = reader
        self._frames = frames
        self._supports_of = supports_of
        self._last_target = {
            support: target for target, supports in enumerate(supports_of) for support in supports
        }
        self._memories: dict[int, SupportMemory] = {}
        self._ahead: dict[int, np.ndarray] = {}

    def memory(self, target: int) -> SupportMemory | None:
        """The memory of a target's supports; None where it has none."""
        supports = self._supports_of[target]
        new = [support for support in dict.fromkeys(supports) if support not in self._memories]
        if new:
            images = self._reader.read_many([self._frames[support] for support in new])
            self._ahead |= {s: image for s, image in zip(new, images, strict=True) if s >= target}
            together = self._predictor.remember(images)
            assert together is not None, "a model with supports remembers them"
            self._memories |= {support: together.select([i]) for i, support in enumerate(new)}
        chosen = [self._memories[support] for support in supports]
        self._memories = {s: m for s, m in self._memories.items() if self._last_target[s] > target}
        return concatenate(chosen) if chosen else None

    def images(self, targets: Sequence[int]) -> list[np.ndarray]:
        """The pictures of target frames, each asked for once."""
        missing = [target for target in targets if target not in self._ahead]
        read = self._reader.read_many([self._frames[target] for target in missing])
        self._ahead |= dict(zip(missing, read, strict=True))
        return [self._ahead.pop(target) for target in targets]
