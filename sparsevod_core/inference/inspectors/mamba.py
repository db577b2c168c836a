"""MAMBA: attention to the proposals that were drawn from the bank, with their origin."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sparsevod_core.inference.inspectors.inspector import Inputs, Keys, Layer, Stages, Step
from sparsevod_core.inference.inspectors.selsa import SelsaInspector
from sparsevod_core.model.two_stage.bank import Bank
from sparsevod_core.model.two_stage.mamba import Mamba

ROWS = 2**20  # more than a frame has proposals


class MambaInspector(SelsaInspector):
    """Stages of MAMBA.

    A bank does not say where its rows come from. So each one is followed by a bank of origins, on
    which the same draws are made.
    """

    _detector: Mamba

    def __init__(self, detector: Mamba) -> None:
        super().__init__(detector)
        self._origins: list[Float[Tensor, " rows"]] = []  # frame times ROWS plus proposal

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        if step.state is None:
            return super().layers(step, inputs, stages)
        layers = []
        for number, (index, _) in enumerate(self._draws(step)):
            aggregation = self._detector.head.aggregations[number]
            origins = self._origins[number][index].long()
            keys = Keys(origins // ROWS, origins % ROWS)
            key = step.state.banks[number].key[None, index.to(step.state.banks[number].key.device)]
            layers.append(self.fc(number, aggregation, inputs, stages, key, None, keys))
        return layers

    def follow(self, step: Step) -> None:
        if step.state is not None:
            self._origins = [origins for _, origins in self._draws(step)]
            return
        own = step.encoded.best(self._detector.num_support_proposals).proposals.valid
        valid, frames = own, [step.number]
        if step.memory is not None:
            valid = torch.cat([step.memory.is_valid, own], dim=1)
            frames = [*step.supports, step.number]
        keys = Keys.of(frames, own.shape[1])
        origins = (keys.frames * ROWS + keys.rows)[valid[0].cpu()].double()
        self._origins = [origins for _ in self._detector.head.aggregations]

    def _draws(self, step: Step) -> list[tuple[Tensor, Tensor]]:
        """Return which rows of each bank are read, and the origins of the bank after the step."""
        assert step.state is not None
        draw = self._detector.draws(self._detector.seed, step.state.num_targets)
        written = step.encoded.best(self._detector.num_support_proposals).proposals.valid[0]
        rows = written.nonzero().double().cpu()  # [n, 1]
        new = step.number * ROWS + rows
        drawn = []
        for origins in self._origins:
            places = torch.arange(len(origins), dtype=torch.double)[:, None]
            index, _ = Bank(places, origins[:, None]).read(self._detector.read_rows, draw)
            bank = Bank(origins[:, None], origins[:, None])
            after = bank.written(new, new, self._detector.bank_rows, draw)
            drawn.append((index[0, :, 0].long(), after.key[:, 0]))
        return drawn
