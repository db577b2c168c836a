"""MAMBA (Sun et al., AAAI 2021): SELSA whose keys come from a bank of all frames seen so far.

This is the released version (https://github.com/guanxiongsun/vfe.pytorch), with the memory of
instances only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from sparsevod_core.model.two_stage.bank import Bank, Draw, seeded_draw
from sparsevod_core.model.two_stage.detections import BoxHeadOutput
from sparsevod_core.model.two_stage.faster_rcnn import EncodedFrames
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.selsa_memory import SelsaMemory


@dataclass(frozen=True, slots=True)
class MambaState:
    """State after some target frames of a video.

    Attributes:
        banks: bank of each layer of the box head.
        num_targets: number of target frames so far.
    """

    banks: tuple[Bank, ...]
    num_targets: int


class Mamba(Selsa):
    """SELSA with a bank. The first target frame of a video fills it with the support frames.

    Args:
        bank_rows: number of proposals from which on new ones replace old ones.
        read_rows: largest number of proposals that a target attends to.
        parts: see `Selsa`. Each target writes its `num_support_proposals` best proposals.

    Attributes:
        draws: returns the random draw of a target, given `seed` and its number in the video.
    """

    is_ordered: ClassVar[bool] = True

    def __init__(self, *, bank_rows: int, read_rows: int, **parts: Any) -> None:
        super().__init__(**parts)
        self.bank_rows = bank_rows
        self.read_rows = read_rows
        self.draws: Callable[[int, int], Draw] = seeded_draw

    def advance(
        self, target: EncodedFrames, memory: SelsaMemory | None, state: MambaState | None
    ) -> tuple[BoxHeadOutput, MambaState]:
        features = self.head.embed(self.pool(target))
        if state is None:
            keys = self.with_own(memory, features, target)
            valid = keys.is_valid[0]
            banks = [Bank(key[0, valid], value[0, valid]) for key, value in keys.layers]
            return self.output(target, self.head(features, keys)), MambaState(tuple(banks), 1)

        draw = self.draws(self.seed, state.num_targets)
        written = target.best(self.num_support_proposals).proposals.valid[0].nonzero()[:, 0]
        banks = []
        for number, bank in enumerate(state.banks):
            aggregation = self.head.aggregations[number]
            features = self.head.before_aggregation(number, features)
            features = features + aggregation.attend(features, *bank.read(self.read_rows, draw))
            key, value = aggregation.project(features[:, written])
            banks.append(bank.written(key[0], value[0], self.bank_rows, draw))
        state = MambaState(tuple(banks), state.num_targets + 1)
        return self.output(target, self.head.predict(features)), state
