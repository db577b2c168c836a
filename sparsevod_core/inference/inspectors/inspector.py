"""What an inspector tells of a target frame, before it is put in pixels and arrays for figures.

Values are of one target frame. Boxes are in pixels of the detector's input. T is the number of
stages, N that of the target's proposals.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparsevod_core.figures.stage_view import StageNames

OWN = -1  # number of the target frame where the numbers of support frames stand

Inputs = dict[nn.Module, list[tuple[Any, ...]]]
"""Arguments of each call of a module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A target frame that went through a detector.

    Attributes:
        number: Number of the frame.
        supports: Numbers of its support frames, in the order of the memory.
        global_supports: Numbers of its global support frames (MEGA).
        encoded: Its encoding.
        memory: Memory of the support frames; None: there are none.
        state: State of an ordered detector before this frame.
        output: The detector's output.
    """

    number: int
    supports: list[int]
    global_supports: list[int]
    encoded: Any
    memory: Any
    state: Any
    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Proposals, and the boxes of every stage with the score and label of the best class."""

    proposals_xyxy: Float[Tensor, "N 4"]
    boxes_xyxy: Float[Tensor, "T N 4"]
    scores: Float[Tensor, "T N"]
    labels: Int[Tensor, "T N"]
    proposal_scores: Float[Tensor, " N"] | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """Origin of the keys that proposals attend to.

    Attributes:
        frames: Number of the frame of each key; `OWN`: the target frame.
        rows: Number of the proposal in its frame.
    """

    frames: Int[Tensor, " keys"]
    rows: Int[Tensor, " keys"]

    @classmethod
    def of(cls, frames: Sequence[int], num_rows: int) -> Keys:
        """Return the keys of frames with `num_rows` proposals each, frame after frame."""
        numbers = torch.tensor(frames, dtype=torch.long)
        return cls(numbers.repeat_interleave(num_rows), torch.arange(num_rows).repeat(len(numbers)))

    @classmethod
    def joined(cls, parts: Sequence[Keys]) -> Keys:
        """Return the keys of several lists, one after another."""
        return cls(
            torch.cat([part.frames for part in parts]), torch.cat([part.rows for part in parts])
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Weights of one layer.

    Attributes:
        name, stage: See `LayerAttention`.
        weights: Weight of each key for each of the first proposals, averaged over heads. Later
            proposals are not asked for.
        keys: Origin of the keys.
        is_map: Whether a key is an entire map of a frame, not a proposal.
        points: (x, y) of the most similar place on each support frame for each RoI bin.
        point_weights: Weight of each support frame for each RoI bin.
    """

    name: str
    stage: int
    weights: Float[Tensor, "N keys"]
    keys: Keys
    is_map: bool = False
    points: Float[Tensor, "N S bins 2"] | None = None
    point_weights: Float[Tensor, "N S bins"] | None = None


class Inspector(ABC):
    """What can be shown of one family of detectors, for one video.

    The layers of attention are computed again from the inputs of some modules, which are recorded
    while the target frame goes through the detector.
    """

    @property
    @abstractmethod
    def names(self) -> StageNames:
        """Names of the stages."""

    @property
    def watched(self) -> Sequence[nn.Module]:
        """Modules whose inputs `layers` needs."""
        return ()

    @abstractmethod
    def stages(self, step: Step) -> Stages:
        """Return the boxes of every stage."""

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        """Return the attention to support frames, in the order of computation.

        Args:
            step: Target frame with a memory.
            inputs: What the watched modules got for this target frame.
            stages: Result of `stages` for it.
        """
        return []

    def support_boxes(self, encoded: Any) -> Float[Tensor, "T n 4"]:
        """Return the boxes of a support frame's proposals, as the layers of each stage see them."""
        raise NotImplementedError

    def follow(self, step: Step) -> None:  # noqa: B027 (most detectors keep nothing)
        """Note what an ordered detector keeps of a target frame, after `layers`."""


@contextmanager
def recording(modules: Sequence[nn.Module]) -> Iterator[Inputs]:
    """Record the inputs of modules while the block runs; results do not change."""
    inputs: Inputs = {module: [] for module in modules}
    hooks = [
        module.register_forward_pre_hook(lambda module, args: inputs[module].append(args))
        for module in modules
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def points_of(
    positions: Int[Tensor, "S Q"], num_proposals: int, width: int, stride: int
) -> Float[Tensor, "N S bins 2"]:
    """Return the centers (x, y) of map positions, which are line times width plus column.

    Args:
        positions: Position on each support map for the RoI bins of all proposals in turn.
        num_proposals: N.
        width: Number of positions per line.
        stride: Pixels per position.
    """
    place = positions.unflatten(1, (num_proposals, -1)).movedim(0, 1)  # [N, S, bins]
    return torch.stack([place % width, place // width], dim=-1) * stride + stride / 2
