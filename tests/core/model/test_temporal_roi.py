"""TFE: similarity search, aggregation and memory, beyond the parity fixtures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from sparsevod_core.kernels import GATHER
from sparsevod_core.kernels.similarity import Keys
from sparsevod_core.model.folded_attention import FoldedTemporalAttention
from sparsevod_core.model.support import SupportMaps
from sparsevod_core.model.temporal_roi import (
    TemporalAttention,
    TemporalMean,
    TemporalRoIFeatures,
)


def all_valid(maps):
    return torch.ones(maps.shape[0], *maps.shape[-2:], dtype=torch.bool)


def support_maps(maps, valid=None, **keys):
    """Return the support maps of maps [V, S, C, H, W]."""
    valid = all_valid(maps) if valid is None else valid
    rows = maps.flatten(3).transpose(2, 3)
    return SupportMaps(rows, Keys.of(rows, valid.flatten(1), **keys), maps.shape[-1])


def most_similar_features(queries, maps, valid, top_k, **keys):
    """Return the similar features [V, S, Q, C] of queries [V, Q, C]."""
    tfe = TemporalRoIFeatures(top_k=top_k, aggregation=TemporalMean(), kernels=GATHER)
    return tfe.similar(queries, support_maps(maps, valid, **keys))


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


def test_chunks_change_nothing():
    torch.manual_seed(1)
    queries, maps = torch.randn(2, 40, 8), torch.randn(2, 2, 8, 4, 6)
    whole = most_similar_features(queries, maps, all_valid(maps), 2)
    in_parts = most_similar_features(queries, maps, all_valid(maps), 2, max_scores=7 * 32)
    assert torch.equal(in_parts, whole)


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
    together = tfe(rois, support_maps(maps))
    alone = torch.cat([tfe(roi[None], support_maps(maps)) for roi in rois])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("aggregation", [TemporalMean(), TemporalAttention(channels=8, blocks=4)])
def test_supports_equal_to_the_target_change_nothing(aggregation):
    bins = torch.randn(1, 2 * 49, 8)
    similar = bins[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(aggregation(bins, similar, 7), bins)


def test_cosines_closer_than_the_arithmetic_count_as_equal():
    """The positions hold scaled copies of one feature, so their cosines differ by rounding only."""
    torch.manual_seed(5)
    feature = torch.randn(32)
    maps = torch.stack([feature * (1 + 0.37 * place) for place in range(40)], dim=-1)
    maps = maps.view(1, 1, 32, 5, 8)
    queries = torch.cat([feature[None], feature + 0.3 * torch.randn(200, 32)])[None]
    positions, _ = support_maps(maps).keys.top(queries, 2)
    assert (positions.sort().values == torch.tensor([0, 1])).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_choice_does_not_depend_on_how_many_bins_are_searched(threads):
    """Uniform regions of a frame have many equal positions."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(6)
        maps = torch.randn(1, 2, 16, 1, 6).repeat_interleave(20, dim=4)
        queries = torch.randn(1, 333, 16)
        keys = support_maps(maps).keys
        together, _ = keys.top(queries, 3)
        for count in (1, 2, 7, 64, 100):
            separate = [keys.top(part, 3)[0] for part in queries.split(count, dim=1)]
            assert torch.equal(torch.cat(separate, dim=2), together)
        shifted = torch.empty(333 * 16 + 1)[1:].view(1, 333, 16).copy_(queries)  # other alignment
        assert torch.equal(keys.top(shifted, 3)[0], together)
    finally:
        torch.set_num_threads(before)


def test_joined_maps_are_those_of_all_frames():
    torch.manual_seed(7)
    maps = torch.randn(1, 3, 8, 4, 5)
    whole = support_maps(maps)
    first, *others = (support_maps(maps[:, [number]]) for number in range(3))
    joined = first.joined(others)
    for one, other in zip(joined.tensors, whole.tensors, strict=True):
        assert torch.equal(one, other)
    assert dataclasses.replace(joined, keys=whole.keys).width == whole.width


@torch.no_grad()
@pytest.mark.parametrize(("videos", "supports", "size"), [(2, 3, 7), (1, 1, 4), (1, 0, 7)])
def test_the_folded_attention_is_the_attention(videos, supports, size):
    torch.manual_seed(0)
    plain = TemporalAttention(channels=8, blocks=2)
    folded = FoldedTemporalAttention(channels=8, blocks=2)
    folded.load_state_dict(plain.state_dict())
    num_bins = 3 * size**2
    bins = torch.randn(videos, num_bins, 8)
    similar = torch.randn(videos, supports, num_bins, 8)
    expected = plain(bins, similar, size)
    torch.testing.assert_close(folded(bins, similar, size), expected, atol=1e-5, rtol=1e-5)
    if supports:
        assert (expected - bins).abs().max() > 0.1
