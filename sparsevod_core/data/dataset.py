"""Training clips: a target frame, its supports and its boxes, chosen and augmented at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from sparsevod_core.config import Config, DataConfig
from sparsevod_core.data.frames import FrameReader
from sparsevod_core.data.records import VideoSet
from sparsevod_core.data.sampling import training_supports
from sparsevod_core.data.transforms import ClipAugmentation
from sparsevod_core.errors import DataError
from sparsevod_core.structures import Targets


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """One training clip of F frames.

    Attributes:
        images: RGB; the target, then its supports.
        targets: boxes of the target frame.
        files: where each frame comes from, named in errors.
    """

    images: UInt8[Tensor, "F 3 h w"]
    targets: Targets
    files: tuple[str, ...]


class ClipDataset(Dataset[TrainingSample]):
    """One clip for each frame to train on; frames without boxes are included.

    Args:
        videos: annotated videos.
        config: sizes, flip and supports.
        seed: with the epoch and the index of a clip, the only source of its randomness: a clip is
            the same in whichever process, and after whatever clips, it is made.

    Raises:
        DataError: no frame is marked for training.
    """

    def __init__(self, videos: VideoSet, config: DataConfig, seed: int) -> None:
        self._videos = videos
        self._config = config
        self._seed = seed
        self._target_frames = videos.target_frames()
        self._reader = FrameReader(videos, threads=1)  # every loader process has one
        self._augmentation = ClipAugmentation(
            short_side=config.short_side,
            long_side=config.long_side,
            flip=config.flip,
            crop=config.crop,
            colour=config.colour,
        )
        if not len(self._target_frames):
            raise DataError(
                f"{videos.annotations_path}: no frame to train on: every image has "
                "'is_vid_train_frame': false"
            )

    def __len__(self) -> int:
        return len(self._target_frames)

    def __getitem__(self, key: tuple[int, int]) -> TrainingSample:
        """The clip of `(epoch, index)`.

        Raises:
            DataError: a frame that is missing or broken, named.
            VideoError: the same of a video file.
        """
        epoch, index = key
        generator = clip_generator(self._seed, epoch, index)
        target = int(self._target_frames[index])
        frames = [target, *self._supports(target, generator)]
        boxes_xyxy, labels = self._boxes(target)
        images, boxes_xyxy, stays = self._augmentation(
            self._reader.read_many(frames), boxes_xyxy, generator
        )
        files = tuple(self._videos.frame_name(frame) for frame in frames)
        return TrainingSample(images, Targets(boxes_xyxy[stays], labels[stays]), files)

    def _supports(self, target: int, generator: torch.Generator) -> list[int]:
        frames = self._videos.video_frames(self._videos.video_of(target))
        positions = training_supports(
            target - frames.start,
            len(frames),
            self._config.supports,
            self._config.support_range,
            generator,
        )
        return [frames[position] for position in positions]

    def _boxes(self, frame: int) -> tuple[Tensor, Tensor]:
        """Boxes [M, 4] inside the frame and labels [M]; no crowds, no boxes without area."""
        height, width = self._videos.frame_size(frame)
        annotated = self._videos.boxes(frame)
        boxes_xyxy = annotated.boxes_xyxy.clip(0, np.array([width, height] * 2, np.float32))
        has_area = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
        keep = has_area & ~annotated.is_crowd
        return torch.from_numpy(boxes_xyxy[keep]), torch.from_numpy(annotated.labels[keep])


def clip_settings(config: Config) -> DataConfig:
    """A detector with neither TFE nor SPFA looks at no support frame: none is loaded."""
    if config.model.tfe == config.model.spfa == "off":
        return replace(config.data, supports=0)
    return config.data


def clip_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """A generator that depends on these three numbers only, and on each of their bits."""
    words = np.random.SeedSequence([seed % 2**64, epoch, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]))
