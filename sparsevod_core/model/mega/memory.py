"""What MEGA keeps of support frames, and its memory of frames that have left the local window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sparsevod_core.model.mega.proposal_features import ProposalFeatures
from sparsevod_core.model.mega.relation import Keys


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """Proposals of the support frames of V videos.

    Attributes:
        local: Frames around the target `[V, S, N]`, oldest first.
        global_frames: Frames from the entire video, in any order; None: the local ones stand in.
    """

    local: ProposalFeatures
    global_frames: ProposalFeatures | None = None

    @classmethod
    def joined(
        cls, local: Sequence[FrameMemory], global_memories: Sequence[FrameMemory]
    ) -> FrameMemory:
        """Return one memory of the local frames of several, and of the global frames of others."""
        parts = [memory.local for memory in global_memories]
        return cls(
            ProposalFeatures.joined([memory.local for memory in local]),
            ProposalFeatures.joined(parts) if parts else None,
        )

    @property
    def anywhere(self) -> ProposalFeatures:
        """The global frames, or what stands in for them."""
        return self.local if self.global_frames is None else self.global_frames

    @property
    def num_supports(self) -> int:
        """Number of support frames of each video."""
        groups = (self.local, self.global_frames)
        return sum(group.is_valid.shape[1] for group in groups if group is not None)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        others = [] if self.global_frames is None else self.global_frames.tensors
        return [*self.local.tensors, *others]

    @property
    def nbytes(self) -> int:
        """Total size in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class RecursiveMemory:
    """What each stage remembers of the frames that have left the local window.

    A frame's proposals had seen the memory themselves when they were remembered: the memory reaches
    further back than the frames that it holds.

    Attributes:
        stages: for each stage the proposals of the last frames, oldest first.
    """

    stages: tuple[Keys, ...]

    @classmethod
    def after(
        cls, state: RecursiveMemory | None, frame: Sequence[Keys], num_frames: int
    ) -> RecursiveMemory:
        """Return the memory after one more frame, limited to the last `num_frames` frames.

        Args:
            state: the memory so far, which stays as it is; None: empty.
            frame: what each stage reads of the frame.
        """
        if state is None:
            return cls(tuple(frame))
        pairs = zip(state.stages, frame, strict=True)
        return cls(
            tuple(
                Keys.joined([past, new]).last(num_frames * new.is_valid.shape[1])
                for past, new in pairs
            )
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors held."""
        return [tensor for stage in self.stages for tensor in stage.tensors]
