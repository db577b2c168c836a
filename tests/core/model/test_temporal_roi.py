"""TFE: what the fixtures do not pin."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sparsevod_core.model import temporal_roi
from sparsevod_core.model.temporal_roi import (
    TemporalAttention,
    TemporalMean,
    TemporalRoIFeatures,
    most_similar_features,
)


def all_valid(maps):
    return torch.ones(maps.shape[0], *maps.shape[-2:], dtype=torch.bool)


def test_most_similar_matches_a_plain_loop():
    torch.manual_seed(0)
    queries, maps = torch.randn(1, 5, 8), torch.randn(1, 3, 8, 4, 6)
    ours = most_similar_features(queries, maps, all_valid(maps), 2)
    for s in range(3):
        rows = maps[0, s].flatten(1).T
        for q in range(5):
            cosines = F.cosine_similarity(queries[0, q][None], rows)
            best = cosines.argsort(descending=True)[:2]
            weights = cosines[best].softmax(0)
            torch.testing.assert_close(ours[0, s, q], weights @ rows[best])


def test_chunks_change_nothing(monkeypatch):
    torch.manual_seed(1)
    queries, maps = torch.randn(2, 40, 8), torch.randn(2, 2, 8, 4, 6)
    whole = most_similar_features(queries, maps, all_valid(maps), 2)
    monkeypatch.setattr(temporal_roi, "SIMILARITY_CHUNK", 7 * 2 * 2 * 24)
    torch.testing.assert_close(most_similar_features(queries, maps, all_valid(maps), 2), whole)


def test_exact_ties_go_to_the_lower_index():
    maps = torch.zeros(1, 1, 2, 1, 4)
    maps[0, 0, :, 0, :] = torch.tensor([[0.0, 3, 1, 1], [1, 0, 0, 0]])  # positions 1, 2, 3 tie
    query = torch.tensor([[[1.0, 0.0]]])
    similar = most_similar_features(query, maps, all_valid(maps), 2)
    torch.testing.assert_close(similar[0, 0, 0], torch.tensor([2.0, 0.0]))  # mean of 3 and 1
    one = most_similar_features(query, maps, all_valid(maps), 1)
    torch.testing.assert_close(one[0, 0, 0], torch.tensor([3.0, 0.0]))


def test_masked_positions_are_never_chosen():
    torch.manual_seed(2)
    maps = torch.randn(1, 2, 8, 3, 5)
    valid = all_valid(maps)
    valid[0, :, 3:] = False
    queries = maps[0, 0, :, :, 4].T[None]  # each equals a masked position
    masked = most_similar_features(queries, maps, valid, 2)
    cropped = maps[..., :3].contiguous()
    torch.testing.assert_close(
        masked, most_similar_features(queries, cropped, all_valid(cropped), 2)
    )


def test_fewer_positions_than_top_k():
    maps = torch.randn(1, 1, 4, 2, 2)
    valid = torch.tensor([[[True, False], [False, False]]])
    similar = most_similar_features(torch.randn(1, 3, 4), maps, valid, 3)
    torch.testing.assert_close(similar[0, 0], maps[0, 0, :, 0, 0].expand(3, 4))


def test_zero_bin_gives_zeros_and_finite_gradients():
    queries = torch.randn(1, 4, 8)
    queries[0, 1] = 0
    queries.requires_grad_()
    maps = torch.randn(1, 2, 8, 3, 3)
    maps[0, 0, :, 0, 0] = 0
    maps.requires_grad_()
    similar = most_similar_features(queries, maps, all_valid(maps), 9)
    assert (similar[0, :, 1] == 0).all()
    similar.square().sum().backward()
    assert queries.grad.isfinite().all()
    assert maps.grad.isfinite().all()


def test_gradients_are_those_of_the_definition():
    torch.manual_seed(3)
    queries = torch.randn(1, 3, 4, dtype=torch.double, requires_grad=True)
    maps = torch.randn(1, 2, 4, 2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, m: most_similar_features(q, m, all_valid(m), 2), (queries, maps)
    )


def test_one_memory_serves_many_targets():
    torch.manual_seed(4)
    tfe = TemporalRoIFeatures(top_k=2, aggregation=TemporalAttention(channels=8, blocks=4))
    rois, maps = torch.randn(3, 2, 8, 7, 7), torch.randn(1, 2, 8, 4, 5)
    together = tfe(rois, maps, all_valid(maps))
    alone = torch.cat([tfe(roi[None], maps, all_valid(maps)) for roi in rois])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("aggregation", [TemporalMean(), TemporalAttention(channels=8, blocks=4)])
def test_supports_equal_to_the_target_change_nothing(aggregation):
    rois = torch.randn(1, 2, 8, 7, 7)
    similar = rois[:, None].expand(-1, 3, -1, -1, -1, -1)
    torch.testing.assert_close(aggregation(rois, similar), rois)
