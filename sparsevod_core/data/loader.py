"""Batches of training clips of an epoch and rank, loaded by parallel processes in a fixed order."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset

from sparsevod_core.data.dataset import ClipDataset, TrainingSample, clip_generator
from sparsevod_core.data.transforms import pad_to_multiple
from sparsevod_core.errors import DataError, SparseVodError
from sparsevod_core.structures import Clip, Targets


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """A batch of B clips.

    Attributes:
        clip: Target and support frames, padded to the largest of the batch.
        targets: Boxes of each target frame.
        files: Sources of the frames of each clip, the target first.
    """

    clip: Clip
    targets: list[Targets]
    files: list[tuple[str, ...]]

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TrainingBatch:
        """Return the batch on `device`."""
        return TrainingBatch(
            self.clip.to(device, non_blocking=non_blocking),
            [targets.to(device, non_blocking=non_blocking) for targets in self.targets],
            self.files,
        )

    def pin_memory(self) -> TrainingBatch:
        """Return the batch in page-locked memory, from which copies to a GPU are asynchronous."""
        clip = replace(
            self.clip,
            images=self.clip.images.pin_memory(),
            supports=self.clip.supports.pin_memory(),
            image_sizes=self.clip.image_sizes.pin_memory(),
        )
        targets = [
            Targets(one.boxes_xyxy.pin_memory(), one.labels.pin_memory()) for one in self.targets
        ]
        return TrainingBatch(clip, targets, self.files)


def steps_per_epoch(num_samples: int, clips_per_gpu: int, world_size: int) -> int:
    """Return the number of steps per epoch; the last is filled up with repeated samples."""
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
    """Return the sample indices of each step of this rank.

    The clips of a step over all ranks are consecutive in the epoch's permutation of all samples, so
    they do not depend on how a batch is split into ranks and clips per GPU.
    """
    generator = clip_generator(seed, epoch, num_samples)  # no clip has this index
    order = torch.randperm(num_samples, generator=generator)
    steps = steps_per_epoch(num_samples, clips_per_gpu, world_size)
    wrapped = torch.arange(steps * world_size * clips_per_gpu) % num_samples
    return order[wrapped].view(steps, world_size, clips_per_gpu)[:, rank].tolist()


class TrainingLoader:
    """Batches of one epoch for one rank; they do not depend on `workers`.

    Args:
        clips_per_gpu: Number of clips in a batch.
        rank, world_size: Share of this process in every step.
        epoch: Epoch, counted from 0; determines the order and the randomness of clips.
        first_step: Number of steps to skip without loading them, to resume within an epoch.
        workers: Number of loader processes; 0: load in this process.
        seed: Seed for the order of clips.
        accumulate: Number of batches per step.
    """

    def __init__(
        self,
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
    ) -> None:
        steps = epoch_batches(
            len(dataset),
            clips_per_gpu=clips_per_gpu * accumulate,
            rank=rank,
            world_size=world_size,
            epoch=epoch,
            seed=seed,
        )[first_step:]
        self._loader: DataLoader[TrainingSample | SparseVodError] = DataLoader(
            _ErrorsAsValues(dataset, epoch),
            batch_sampler=[
                step[first : first + clips_per_gpu]
                for step in steps
                for first in range(0, len(step), clips_per_gpu)
            ],
            collate_fn=partial(collate, pad_multiple=dataset.pad_multiple),
            num_workers=workers,
            worker_init_fn=_begin_worker,
            # Forked processes share the annotations' memory; spawned ones would each get a copy.
            multiprocessing_context="fork" if workers else None,
            pin_memory=torch.cuda.is_available(),
            # By default the loader draws from the global generator, and a resumed run would differ.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Yield the batches.

        Raises:
            DataError, VideoError: a frame that is missing or corrupt, named.
        """
        with _fit_to_fork():
            batches = iter(self._loader)  # starts the workers
        for batch in batches:
            if isinstance(batch, SparseVodError):
                raise batch
            yield batch


@contextmanager
def naming_lost_workers() -> Iterator[None]:
    """Say what to do if a loader process dies. torch raises that wherever the main thread is.

    Raises:
        DataError: One died.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise DataError(
            f"a loader process died: {str(error).splitlines()[0]}",
            hint="the machine may be out of memory or shared memory (/dev/shm); use "
            "--set data.workers=1, or 0 to see the error itself",
        ) from error


class _ErrorsAsValues(Dataset[TrainingSample | SparseVodError]):
    """Returns errors as values: torch would re-raise them with a worker's traceback as message."""

    def __init__(self, dataset: ClipDataset, epoch: int) -> None:
        self._dataset = dataset
        self._epoch = epoch

    def __getitem__(self, index: int) -> TrainingSample | SparseVodError:
        try:
            return self._dataset[self._epoch, index]
        except SparseVodError as error:
            return error


def collate(
    samples: Sequence[TrainingSample | SparseVodError], pad_multiple: int
) -> TrainingBatch | SparseVodError:
    """Return a batch padded to the largest clip, or the first error among the samples."""
    clips: list[TrainingSample] = []
    for sample in samples:
        if isinstance(sample, SparseVodError):
            return sample
        clips.append(sample)
    images = [image for clip in clips for image in clip.images]
    padded, sizes = pad_to_multiple(images, pad_multiple)
    padded = padded.unflatten(0, (len(clips), -1))  # [B, F, 3, H, W]
    sizes = sizes.unflatten(0, (len(clips), -1))  # [B, F, 2]
    return TrainingBatch(
        Clip(
            padded[:, 0].contiguous(),
            padded[:, 1:].contiguous(),
            sizes[:, 0].contiguous(),
            clips[0].groups,
        ),
        [clip.targets for clip in clips],
        [clip.files for clip in clips],
    )


@contextmanager
def _fit_to_fork() -> Iterator[None]:
    """End threads before a fork: it does not copy them, and a worker would wait for them forever.

    Garbage collection ends those of unused decoders, and OpenCV's pool is reduced to one thread.
    Workers keep that setting, since there are many of them; torch limits its own threads itself.
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
    # The garbage collector would touch, and so copy, all of the parent's memory.
    gc.freeze()
    # Ctrl-C goes to the terminal's process group. The training process ends its loaders itself, and
    # needs them to finish the current step.
    os.setpgid(0, 0)
