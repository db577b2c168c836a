"""What all detectors of `model/` have in common: frames in, detections out, memories between.

A frame is encoded without knowing its use. What targets need of a support frame is computed from
its encoding once and kept as a memory. Then any number of target frames use that memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from sparsevod_core.structures import Clip, Targets

Images = UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
Found = tuple[Float[Tensor, "B M 4"], Float[Tensor, "B M"], Int[Tensor, "B M"]]
"""Boxes in pixels of the resized frame, scores and labels, best first. A frame with fewer than M
detections has zero boxes with score 0 at the end."""


class VideoDetector(nn.Module):
    """Base class of the detectors.

    Encodings, memories, states and outputs are values of the detector's own types; callers only
    pass them on. A memory has `tensors` (all tensors it holds), `nbytes` and `num_supports`. An
    encoding has `nbytes` if the detector `keeps_encodings`.

    Attributes:
        is_ordered: Whether the target frames of a video must be processed one by one and in order,
            by `advance`, because each leaves something for the next. Otherwise, `detect` processes
            any of them, in any order and number.
        keeps_encodings: Whether a target frame that is also a support frame is worth encoding only
            once. Encodings then stay in memory while the frame may still be a target.
        recompute_stages: See `SparseVOD`; other detectors have no stages.
        seed: Seed of what `advance` draws at random.
    """

    is_ordered: ClassVar[bool] = False
    keeps_encodings: ClassVar[bool] = False
    recompute_stages: bool = False
    seed: int = 0

    @property
    def uses_supports(self) -> bool:
        """Whether detections depend on support frames."""
        raise NotImplementedError

    def encode(self, images: Images, image_sizes: Int[Tensor, "B 2"]) -> Any:
        """Return the encodings of frames, which do not depend on their use.

        Args:
            images: RGB 0..255, padded right and below.
            image_sizes: Unpadded (height, width) of each frame in pixels.
        """
        raise NotImplementedError

    def remember(self, supports: Any, videos: int = 1) -> Any:
        """Return the memory of the support frames of V videos: V = B clips in training, else 1.

        Args:
            supports: Encodings of the S support frames of the first video, then of the next.
        """
        raise NotImplementedError

    def join(self, memories: Sequence[Any], global_memories: Sequence[Any] = ()) -> Any:
        """Return one memory of the support frames of several memories of one video; None for none.

        Args:
            memories: Memories of support frames, in order.
            global_memories: Memories of the global support frames, which only MEGA has.
        """
        raise NotImplementedError

    def detect(self, targets: Any, memory: Any | None) -> Any:
        """Return the output for target frames in any order.

        Args:
            targets: Encodings of one frame of each video of the memory, or of any number of frames
                of one video.
            memory: Support frames; None: each frame is processed on its own.
        """
        raise NotImplementedError

    def advance(self, target: Any, memory: Any | None, state: Any | None) -> tuple[Any, Any]:
        """Return the output for the next target frame of a video, and the state after it.

        Args:
            target: Encoding of one frame.
            memory: Support frames of this target.
            state: State after the frame before; None at the first frame of a video. It is a value:
                nothing in it changes.
        """
        return self.detect(target, memory), None

    def top(self, output: Any) -> Found:
        """Return the detections of each target frame."""
        raise NotImplementedError

    def freeze_frame_detector(self) -> None:
        """Freeze all weights but those of the temporal layers, for systems trained in two parts."""
        raise NotImplementedError

    def forward(self, clip: Clip, targets: Sequence[Targets]) -> Any:
        """Return what the loss of this detector needs, for training.

        Args:
            clip: Target frames, each with its own support frames.
            targets: Ground truth of the target frames.
        """
        raise NotImplementedError
