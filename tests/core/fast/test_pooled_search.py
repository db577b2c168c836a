"""Search by pooled scores compared with the search for the pooled features themselves."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.fast import pooled_search
from sparsevod_core.fast.pooled_search import PooledBins
from sparsevod_core.kernels.similarity import Keys
from sparsevod_core.model.pyramid import WholePyramid
from sparsevod_core.model.roi_align import PyramidRoIAlign
from sparsevod_core.model.temporal_roi import bins_of

BOXES = torch.tensor(
    [[3.0, 5, 40, 60], [0, 0, 96, 80], [20, 20, 20, 20], [50, 10, 52, 12], [-90, -90, -40, -40]]
)
VALID = torch.ones(2, 5, 6, dtype=torch.bool)
VALID[0, :, 4:] = VALID[0, 4:] = False  # the image ends before the map


def searched(valid: torch.Tensor, top_k: int) -> tuple[tuple[torch.Tensor, ...], ...]:
    """Return positions and cosines of both searches in maps of 5 by 6 positions."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(4, 16, 5, 6, generator=generator)
    roi_align = PyramidRoIAlign(strides=[16])
    rois = WholePyramid([maps[:1]], torch.tensor([[80, 96]]), roi_align).pool(BOXES[None])
    bins = bins_of(rois, 1)
    keys = Keys.of(maps[1:].permute(0, 2, 3, 1).flatten(1, 2)[None], valid.flatten()[None])
    pooled = PooledBins.of(maps[0], BOXES, roi_align, bins[0])
    return keys.top(bins, top_k), pooled.top(keys, top_k)


@pytest.mark.parametrize("max_scores", [500, 2**20])
@pytest.mark.parametrize("top_k", [1, 2, 30])
@pytest.mark.parametrize("valid", VALID, ids=["padded", "whole"])
def test_positions_and_cosines_are_the_same(
    valid: torch.Tensor, top_k: int, max_scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled_search, "MAX_SCORES", max_scores)
    plain, fast = searched(valid, top_k)
    assert plain[0].shape == fast[0].shape == (1, 3, len(BOXES) * 49, top_k)
    assert not fast[1][:, :, -49:].any()  # no cosines: the last box is outside the map
    (positions, cosines), (pooled, pooled_cosines) = (
        [part[:, :, :-49] for part in found] for found in (plain, fast)
    )
    torch.testing.assert_close(pooled_cosines, cosines, atol=1e-5, rtol=0)
    is_found = ~cosines.isinf()
    assert is_found.all() == (top_k < 30 or bool(valid.all()))
    assert torch.equal(pooled[is_found], positions[is_found])
    assert valid.flatten()[pooled[is_found]].all()
