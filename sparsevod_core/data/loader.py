"""Batches of training clips for one epoch and rank, made by parallel processes in a fixed order."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from sparsevod_core.data.dataset import ClipDataset, TrainingSample, clip_generator
from sparsevod_core.data.transforms import pad_to_multiple
from sparsevod_core.errors import DataError, SparseVodError
from sparsevod_core.structures import Clip, Targets


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """B clips of one step of one rank.

    Attributes:
        clip: targets and supports, padded to the largest of the batch.
        targets: boxes of each target frame, B of them.
        files: where the frames of each clip come from, the target's first.
    """

    clip: Clip
    targets: list[Targets]
    files: list[tuple[str, ...]]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TrainingBatch:
        """The same batch on `device`."""
        return TrainingBatch(
            self.clip.to(device, non_blocking=non_blocking),
            [targets.to(device, non_blocking=non_blocking) for targets in self.targets],
            self.files,
        )

    def pin_memory(self) -> TrainingBatch:
        """The same batch in page-locked memory, from which copies to a GPU need no wait."""
        clip = Clip(
            self.clip.images.pin_memory(),
            self.clip.supports.pin_memory(),
            self.clip.image_sizes.pin_memory(),
        )
        targets = [
            Targets(one.boxes_xyxy.pin_memory(), one.labels.pin_memory()) for one in self.targets
        ]
        return TrainingBatch(clip, targets, self.files)


def steps_per_epoch(num_samples: int, clips_per_gpu: int, world_size: int) -> int:
    """Steps in which every sample is seen, and a few twice to fill the last step."""
    return -(-num_samples // (clips_per_gpu * world_size))


def epoch_batches(
    num_samples: int,
    *,
    clips_per_gpu: int,
    rank: int,
    world_size: int,
    epoch: int,
    seed: int,
) -> list[list[int]]:
    """Sample indices of every step of this rank, from the epoch's permutation of all samples.

    The clips of a step over all ranks are a run of the permutation: the same ones however a global
    batch is split into ranks and clips per GPU.
    """
    generator = clip_generator(seed, epoch, num_samples)  # no clip has this index
    order = torch.randperm(num_samples, generator=generator)
    steps = steps_per_epoch(num_samples, clips_per_gpu, world_size)
    wrapped = torch.arange(steps * world_size * clips_per_gpu) % num_samples
    return order[wrapped].view(steps, world_size, clips_per_gpu)[:, rank].tolist()


class TrainingLoader:
    """The batches of one epoch from `first_step` on; made by `training_loader`."""

    def __init__(self, loader: DataLoader[TrainingSample | SparseVodError], num_steps: int) -> None:
        self._loader = loader
        self._num_steps = num_steps

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[TrainingBatch]:
        """
        Raises:
            DataError, VideoError: a frame that is missing or broken, named.
        """
        try:
            with _fit_to_fork():
                batches = iter(self._loader)  # starts the workers
            for batch in batches:
                if isinstance(batch, SparseVodError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise DataError(
                f"a process that loads clips died: {str(error).splitlines()[0]}",
                hint="the machine may be out of memory or of shared memory (/dev/shm); try "
                "--set data.workers=1, or 0 to see its own error",
            ) from error


def training_loader(
    dataset: ClipDataset,
    *,
    clips_per_gpu: int,
    rank: int,
    world_size: int,
    epoch: int,
    first_step: int = 0,
    workers: int,
    seed: int,
    accumulate: int = 1,
) -> TrainingLoader:
    """Batches of `epoch` for one rank; equal for equal arguments at any number of `workers`.

    Args:
        dataset: the clips.
        clips_per_gpu: clips in a batch.
        rank, world_size: this process's share of every step.
        epoch: counted from 0; gives the order of clips and their randomness.
        first_step: steps to leave out, unloaded, to go on in the middle of an epoch.
        workers: processes that load clips ahead; 0: load in this process.
        seed: for the order of clips.
        accumulate: batches that make up a step, one after the other.
    """
    steps = epoch_batches(
        len(dataset),
        clips_per_gpu=clips_per_gpu * accumulate,
        rank=rank,
        world_size=world_size,
        epoch=epoch,
        seed=seed,
    )[first_step:]
    batches = [
        step[first : first + clips_per_gpu]
        for step in steps
        for first in range(0, len(step), clips_per_gpu)
    ]
    loader = DataLoader(
        _ErrorsAsValues(dataset, epoch),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_begin_worker,
        # Forked processes share the annotations' memory; others would each get a copy.
        multiprocessing_context="fork" if workers else None,
        pin_memory=torch.cuda.is_available(),
        # Else the loader would draw from the global generator, and a resumed run differ.
        generator=torch.Generator(),
    )
    return TrainingLoader(loader, len(batches))


class _ErrorsAsValues(Dataset[TrainingSample | SparseVodError]):
    """Hands errors on as values: torch would re-raise them with a worker's traceback as message."""

    def __init__(self, dataset: ClipDataset, epoch: int) -> None:
        self._dataset = dataset
        self._epoch = epoch

    def __getitem__(self, index: int) -> TrainingSample | SparseVodError:
        try:
            return self._dataset[self._epoch, index]
        except SparseVodError as error:
            return error


def collate(samples: Sequence[TrainingSample | SparseVodError]) -> TrainingBatch | SparseVodError:
    """One batch, padded to the largest clip; the first error instead, where there is one."""
    clips: list[TrainingSample] = []
    for sample in samples:
        if isinstance(sample, SparseVodError):
            return sample
        clips.append(sample)
    padded, sizes = pad_to_multiple([image for clip in clips for image in clip.images])
    padded = padded.unflatten(0, (len(clips), -1))  # [B, F, 3, H, W]
    sizes = sizes.unflatten(0, (len(clips), -1))  # [B, F, 2]
    return TrainingBatch(
        Clip(padded[:, 0].contiguous(), padded[:, 1:].contiguous(), sizes[:, 0].contiguous()),
        [clip.targets for clip in clips],
        [clip.files for clip in clips],
    )


@contextmanager
def _fit_to_fork() -> Iterator[None]:
    """A fork copies no threads, and what ends them would wait for them for ever in a worker.

    So garbage that holds a decoder and OpenCV's pool of threads go first. Workers keep the setting
    of one thread, there being many of them; torch limits its own in them itself.
    """
    import cv2

    gc.collect()
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _begin_worker(_worker: int) -> None:
    # The collector would touch, and so copy, all of the parent's memory.
    gc.freeze()
    # Ctrl-C goes to the terminal's process group. The training process ends its loaders itself,
    # and needs them for the step it is in.
    os.setpgid(0, 0)
