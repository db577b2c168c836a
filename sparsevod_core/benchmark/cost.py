"""Operations of a detector per target frame: with memory kept, and as reference code runs it.

The reference implementations recompute for every target what could be kept of other frames. Both
costs are counted in runs of parts of the plain detector, 2 operations per multiply-add of
convolutions, matrix products and attention.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sparsevod_core.benchmark.kept import filled
from sparsevod_core.model.fgfa.detector import FGFA
from sparsevod_core.model.mega.detector import MEGA
from sparsevod_core.model.mega.relation import RelationModule
from sparsevod_core.model.temporal_roi import TemporalAttention
from sparsevod_core.model.transvod.detector import TransVOD
from sparsevod_core.model.two_stage.mamba import Mamba
from sparsevod_core.model.two_stage.selsa import Selsa
from sparsevod_core.model.two_stage.troi import Troi
from sparsevod_core.model.video_detector import Images, VideoDetector

GIGA = 1e9


@dataclass(frozen=True, slots=True)
class FrameCost:
    """Operations per target frame in GFLOP.

    Attributes:
        kept: with everything kept that does not depend on the target.
        published: as the published reference implementation runs it; None if there is none, or if
            the detector uses no other frames.
    """

    kept: float
    published: float | None


@torch.inference_mode()
def frame_cost(
    detector: VideoDetector,
    image: Images,
    image_size: Int[Tensor, "1 2"],
    supports: int,
    global_supports: int = 0,
) -> FrameCost:
    """Count the operations of a plain detector for one frame, after many others.

    All frames of the video are the same one, so that few have to be computed.

    Args:
        detector: as trained, in fp32.
        image: one padded frame.
        image_size: its unpadded (height, width) in pixels.
        supports: S.
        global_supports: number of global support frames (MEGA).
    """
    # The counter fails in inference mode if a parameter with gradients is an argument of a layer.
    detector = copy.deepcopy(detector).requires_grad_(False)
    encoding, encoded = _count(lambda: detector.encode(image, image_size))
    memory, remembering, state = None, 0.0, None
    if supports and detector.uses_supports:
        remembering, one = _count(lambda: detector.remember(encoded))
        memory = detector.join([one] * supports, [one] * global_supports)
        if detector.is_ordered:
            state = filled(detector, detector.advance(encoded, memory, None)[1])
    with _relations_as_written(detector) as extra:
        detecting, _ = _count(lambda: detector.advance(encoded, memory, state))
    kept = encoding + detecting
    if memory is None:
        return FrameCost(kept, None)
    if isinstance(detector, Mamba):
        again = _projected_bank(detector, state)
    elif isinstance(detector, Selsa):
        proposing, _ = _count(lambda: detector.propose(encoded.maps, image_size))
        # The target is one more support frame.
        again = supports * (proposing + remembering) + proposing
        if isinstance(detector, Troi):
            again += _convolved_supports(detector, supports + 1)
        else:
            rois = detector.pool(encoded)
            again += _count(lambda: detector.head.embed(rois))[0]
    elif isinstance(detector, MEGA):
        again = _local_and_global_frame(detector, encoding, image, image_size) + sum(extra)
    elif isinstance(detector, TransVOD):
        again = supports * (encoding + remembering)
    elif isinstance(detector, FGFA):
        again = 0.0
    else:
        return FrameCost(kept, None)
    return FrameCost(kept, kept + again)


def _convolved_supports(detector: Troi, frames: int) -> float:
    """Return what it costs more to embed all similar features than to fold the embedding."""
    attention = copy.deepcopy(detector.temporal_roi.aggregation).to("meta")
    assert isinstance(attention, TemporalAttention)
    channels = attention.embed.in_channels
    size = detector.roi_align.output_size
    num_bins = detector.num_proposals * size**2
    bins = torch.empty(1, num_bins, channels, device="meta")
    similar = torch.empty(1, frames, num_bins, channels, device="meta")
    embedded, _ = _count(lambda: [attention.embedded(rows, size) for rows in (bins, similar)])
    folded, _ = _count(lambda: attention(bins, similar, size))
    return embedded - folded


def _projected_bank(detector: Mamba, state: Any) -> float:
    """Return the cost of the keys and values of the rows that a target reads."""
    total = 0.0
    for aggregation, bank in zip(detector.head.aggregations, state.banks, strict=True):
        rows = bank.key[None, : detector.read_rows]
        total += _count(partial(aggregation.project, rows))[0]
    return total


def _local_and_global_frame(
    detector: MEGA, encoding: float, image: Images, image_size: Int[Tensor, "1 2"]
) -> float:
    """Return the cost of what MEGA's repository computes of a target beyond our encoding.

    A new local and a new global frame are encoded with their best proposals only, and the target's
    RPN and last stage run again.
    """
    trunk, _ = _count(lambda: detector.backbone(detector.normalize(image, image_size)))
    values = detector.head.fcs[0].in_features
    embedded = [
        2.0 * count * values * detector.head.fcs[0].out_features / GIGA
        for count in (detector.num_support_proposals, detector.num_proposals)
    ]
    of_support = encoding + embedded[0] - embedded[1]
    return 2 * of_support - trunk


@contextmanager
def _relations_as_written(detector: VideoDetector) -> Iterator[list[float]]:
    """Yield how much more each of MEGA's relations costs if values are averaged unprojected.

    The reference averages the features with the weights of every head, and projects the results.
    """
    extra: list[float] = []

    def after(module: RelationModule, inputs: Any, output: Tensor) -> None:
        _, others = inputs
        queries, channels = output.shape[-2:]
        keys = others.keys.shape[-2]
        averaged = 2.0 * queries * keys * channels * (module.num_heads - 1)
        projected = 2.0 * (queries - keys) * channels**2
        extra.append((averaged + projected) / GIGA)

    relations = [part for part in detector.modules() if isinstance(part, RelationModule)]
    handles = [part.register_forward_hook(after) for part in relations]
    try:
        yield extra
    finally:
        for handle in handles:
            handle.remove()


def _count(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the GFLOP of a call, and its result."""
    mapping = {torch.ops.aten.baddbmm_: _baddbmm_flop}  # the counter knows it out of place only
    has_fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its operator is not counted
    try:
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            result = run()
    finally:
        torch.backends.mha.set_fastpath_enabled(has_fast_path)
    return counter.get_total_flops() / GIGA, result


def _baddbmm_flop(added: Sequence[int], left: Sequence[int], right: Sequence[int], **_: Any) -> int:
    """Return the operations of products of matrices of these shapes."""
    batch, rows, inner = left
    return 2 * batch * rows * inner * right[-1]
