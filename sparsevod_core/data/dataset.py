"""Training clips: a target frame with its boxes and random support frames, augmented at random."""

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
from sparsevod_core.data.sampling import (
    anywhere_supports,
    mega_training_supports,
    training_supports,
)
from sparsevod_core.data.transforms import ClipAugmentation
from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.structures import Targets


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """A training clip of F frames.

    Attributes:
        images: RGB pixels of the target frame, then of its supports.
        targets: Boxes of the target frame.
        files: Source of each frame, named in errors.
        groups: See `Clip`.
    """

    images: UInt8[Tensor, "F 3 h w"]
    targets: Targets
    files: tuple[str, ...]
    groups: tuple[int, ...] = ()


class ClipDataset(Dataset[TrainingSample]):
    """A clip for each target frame, with or without boxes.

    Args:
        config: Sizes, augmentation and supports.
        seed: Seed that determines a clip together with the epoch and its index. So a clip is the
            same in any process and after any other clips.

    Raises:
        DataError: no frame is a training target.
    """

    def __init__(self, videos: VideoSet, config: DataConfig, seed: int) -> None:
        self._videos = videos
        self._config = config
        self._seed = seed
        self._target_frames = videos.target_frames()
        self._reader = FrameReader(videos, threads=1)  # each loader process has one
        self._augmentation = ClipAugmentation(
            short_side=config.short_side,
            long_side=config.long_side,
            flip=config.flip,
            crop=config.crop,
            colour=config.colour,
            resize=config.resize,
        )
        if not len(self._target_frames):
            raise DataError(
                f"{videos.annotations_path}: no frame to train on: every image has "
                "'is_vid_train_frame': false"
            )

    @property
    def pad_multiple(self) -> int:
        """Number of pixels to whose multiples batches are padded."""
        return self._config.pad_multiple

    def __len__(self) -> int:
        return len(self._target_frames)

    def __getitem__(self, key: tuple[int, int]) -> TrainingSample:
        """Return the clip of `(epoch, index)`.

        Raises:
            DataError, VideoError: a frame that is missing or corrupt, named.
        """
        epoch, index = key
        generator = clip_generator(self._seed, epoch, index)
        target = int(self._target_frames[index])
        video = self._videos.video_frames(self._videos.video_of(target))
        supports, groups = self._supports(target - video.start, len(video), generator)
        frames = [target, *(video[position] for position in supports)]
        boxes_xyxy, labels = self._boxes(target)
        images, boxes_xyxy, stays = self._augmentation(
            self._reader.read_many(frames), boxes_xyxy, generator
        )
        files = tuple(self._videos.frame_name(frame) for frame in frames)
        return TrainingSample(images, Targets(boxes_xyxy[stays], labels[stays]), files, groups)

    def _supports(
        self, target: int, num_frames: int, generator: torch.Generator
    ) -> tuple[list[int], tuple[int, ...]]:
        """Return the support frames of a target, and the numbers of those in each group."""
        config = self._config
        if config.supports == 0:
            return [], ()
        if config.support_choice == "anywhere":
            return anywhere_supports(target, num_frames, config.supports, generator), ()
        if config.support_choice == "mega":
            groups = mega_training_supports(
                target,
                num_frames,
                reach=config.support_range,
                num_local=config.supports,
                num_memory=config.supports + 1,
                num_global=config.supports,
                generator=generator,
            )
            return [frame for group in groups for frame in group], tuple(map(len, groups))
        supports = training_supports(
            target, num_frames, config.supports, config.support_range, generator
        )
        return supports, ()

    def _boxes(self, frame: int) -> tuple[Tensor, Tensor]:
        """Return boxes [M, 4] clipped to the frame, and labels [M]; no crowds, no empty boxes."""
        height, width = self._videos.frame_size(frame)
        annotated = self._videos.boxes(frame)
        boxes_xyxy = annotated.boxes_xyxy.clip(0, np.array([width, height] * 2, np.float32))
        has_area = (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all(axis=1)
        keep = has_area & ~annotated.is_crowd
        return torch.from_numpy(boxes_xyxy[keep]), torch.from_numpy(annotated.labels[keep])


def clip_settings(config: Config) -> DataConfig:
    """Return the data settings, without supports if the model uses none.

    Raises:
        ConfigError: the system cannot be trained with these support frames.
    """
    data, is_mega = config.data, config.model.system == "mega"
    if not config.model.uses_supports:
        return replace(data, supports=0)
    if is_mega and data.support_choice != "mega":
        raise ConfigError(
            f"data.support_choice={data.support_choice}: expected mega for model.system=mega",
            hint="add --set data.support_choice=mega",
        )
    if data.supports == 0 and (is_mega or config.train.trained == "temporal"):
        raise ConfigError(
            "data.supports=0: the layers to be trained need support frames",
            hint="add --set data.supports=2",
        )
    return data


def clip_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """Return a generator that depends on each bit of these three numbers, and on nothing else."""
    words = np.random.SeedSequence([seed % 2**64, epoch, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]))
