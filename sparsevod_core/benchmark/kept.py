"""What a detector keeps of a video between frames: support memory, state and encodings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.mega.memory import RecursiveMemory
from sparsevod_core.model.mega.relation import Keys
from sparsevod_core.model.two_stage.bank import Bank
from sparsevod_core.model.two_stage.mamba import Mamba, MambaState
from sparsevod_core.model.video_detector import Images, VideoDetector


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a video while its target frames are processed.

    Attributes:
        memory: joined memory of the support frames; None if there are none.
        state: state after many target frames; None for a detector that leaves none.
        encodings: encodings of support frames that may be targets, too, if they are worth it.
    """

    memory: Any | None = None
    state: Any | None = None
    encodings: tuple[Any, ...] = ()


def keep(
    model: VideoDetector,
    supports: Images,
    sizes: Int[Tensor, "S 2"],
    num_local: int,
) -> Kept:
    """Encode and remember support frames one by one, as in a video, without any target frame.

    Args:
        model: the detector.
        supports: padded frames.
        sizes: their unpadded (height, width) in pixels.
        num_local: number of the frames that are not global.
    """
    memories, encodings = [], []
    for part in range(len(supports)):
        encoded = model.encode(supports[part : part + 1], sizes[part : part + 1])
        memories.append(model.remember(encoded))
        if model.keeps_encodings:
            encodings.append(encoded)
    memory = model.join(memories[:num_local], memories[num_local:])
    return Kept(memory, None, tuple(encodings[:num_local]))


def filled(detector: VideoDetector, state: Any) -> Any:
    """Return a state as large as after many frames, made from that after the first one."""
    if isinstance(state, MambaState) and isinstance(detector, Mamba):
        banks = tuple(_repeated(bank, detector.bank_rows) for bank in state.banks)
        return MambaState(banks, state.num_targets)
    if isinstance(state, RecursiveMemory) and isinstance(detector, MEGA):
        frames = detector.memory_frames
        return RecursiveMemory(tuple(Keys.joined([keys] * frames) for keys in state.stages))
    return state


def _repeated(bank: Bank, num_rows: int) -> Bank:
    rows = torch.arange(num_rows, device=bank.key.device) % max(len(bank), 1)
    return Bank(bank.key[rows], bank.value[rows])


def mib_of(*values: Any) -> float:
    """Return the size of all tensors in values, which may be dataclasses, lists or tuples."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for value in values
        for tensor in _tensors_in(value)
    }
    return sum(storages.values()) / 2**20


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors_in(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors_in(part)
