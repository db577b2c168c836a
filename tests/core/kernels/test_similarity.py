"""The three similarity searches compared with exact cosines and with each other."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sparsevod_core.kernels.int8_similarity import MAX_POSITIONS, Int8Keys, int8_keys
from sparsevod_core.kernels.similarity import Keys

pytest.importorskip("triton", reason="Triton comes with PyTorch's builds for GPUs on Linux")

from sparsevod_core.kernels.triton_similarity import TritonKeys

KINDS = [Keys, TritonKeys, Int8Keys]


def cosines_of(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the cosines [1, S, Q, HW]."""
    return torch.einsum("vqc,vslc->vsql", F.normalize(queries, dim=-1), F.normalize(rows, dim=-1))


def all_valid(rows: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(rows), rows.shape[2], dtype=torch.bool)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "spread"), [(608, 1.0), (75, 3.0), (5, 1.0)])
def test_what_is_found_is_as_similar_as_the_best(kind, length: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(length)
    # Cubing lets a few channels dominate, as in trained maps, which is worse for integers.
    queries = torch.randn(1, 130, 64, generator=generator) ** spread
    rows = torch.randn(1, 3, length, 64, generator=generator) ** spread
    positions, found = kind.of(rows, all_valid(rows)).top(queries, 2)
    exact = cosines_of(queries, rows)
    best = exact.topk(2, dim=-1).values
    chosen, order = exact.gather(3, positions.long()).sort(dim=-1, descending=True)
    found = found.gather(3, order)
    tolerance = 0.01 if kind is Int8Keys else 1e-5
    torch.testing.assert_close(found, chosen, atol=tolerance, rtol=0)
    assert (best - chosen).max() < 2 * tolerance
    assert (positions[..., 0] != positions[..., 1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_lower_position(kind) -> None:
    rows = torch.tensor([1.0, 0.0]).repeat(1, 1, 90, 1)
    rows[0, 0, [17, 40, 70]] = torch.tensor([1.0, 2.0])
    rows[0, 0, 80] = torch.tensor([3.0, 6.0])  # the same direction
    positions, _ = kind.of(rows, all_valid(rows)).top(torch.tensor([[[2.0, 4.0]]]), 4)
    assert sorted(positions.flatten().tolist()) == [17, 40, 70, 80]


@pytest.mark.parametrize("kind", KINDS)
def test_positions_that_are_not_valid_are_never_chosen(kind) -> None:
    rows = torch.randn(1, 2, 40, 8, generator=torch.Generator().manual_seed(0))
    valid = torch.zeros(1, 40, dtype=torch.bool)
    valid[0, 33] = True
    positions, cosines = kind.of(rows, valid).top(rows[:, 0, 5:6].clone(), 2)
    assert positions[cosines > -math.inf].tolist() == [33, 33]
    assert (positions < 40).all() and (positions >= 0).all()  # not a padded position


@pytest.mark.parametrize("kind", KINDS)
def test_all_cosines_may_be_negative(kind) -> None:
    rows = -torch.rand(1, 1, 50, 6, generator=torch.Generator().manual_seed(1)) - 0.1
    queries = torch.ones(1, 1, 6)
    positions, cosines = kind.of(rows, all_valid(rows)).top(queries, 1)
    exact = cosines_of(queries, rows)
    assert cosines.item() < 0
    assert exact[0, 0, 0, positions.item()] >= exact.max() - 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_joined_keys_find_what_each_finds(kind) -> None:
    generator = torch.Generator().manual_seed(2)
    maps = [torch.randn(1, 1, 60, 16, generator=generator) * size for size in (1, 50, 0.1)]
    queries = torch.randn(1, 20, 16, generator=generator)
    first, *others = (kind.of(rows, all_valid(rows)) for rows in maps)
    joined = first.joined(others).top(queries, 2)
    for number, one in enumerate((first, *others)):
        for whole, part in zip(joined, one.top(queries, 2), strict=True):
            torch.testing.assert_close(whole[:, number], part[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("top_k", [1, 2, 3, 4])
@pytest.mark.parametrize(("supports", "length", "count"), [(3, 37, 70), (1, 130, 129), (2, 2, 5)])
def test_triton_chooses_what_pytorch_chooses(dtype, top_k, supports, length, count) -> None:
    """Ties, masked positions, fewer positions than k, and sizes that are no multiple of a block."""
    generator = torch.Generator().manual_seed(top_k)
    rows = torch.randn(2, supports, length, 24, generator=generator)
    rows[:, :, length // 4 : length // 2] = rows[:, :, length // 4 : length // 4 + 1]
    valid = torch.rand(2, length, generator=generator) > 0.3
    valid[:, 0] = True
    valid[1, 2:] = False
    queries = torch.randn(2, count, 24, generator=generator)
    queries[0, 3] = 0
    rows, queries = rows.to(dtype), queries.to(dtype)
    plain = Keys.of(rows, valid).top(queries, top_k)
    kernel = TritonKeys.of(rows, valid).top(queries, top_k)
    torch.testing.assert_close(kernel[1].sort().values, plain[1].sort().values, atol=1e-6, rtol=0)
    chosen = [
        positions.masked_fill(cosines.isinf(), -1).sort().values
        for positions, cosines in (kernel, plain)
    ]
    assert torch.equal(*chosen)


def test_integers_where_32_bits_are_enough() -> None:
    rows = torch.zeros(1, 1, MAX_POSITIONS + 1, 1)
    assert type(int8_keys(rows, all_valid(rows))) is Keys
    few = rows[:, :, :5]
    assert isinstance(int8_keys(few, all_valid(few)), Int8Keys)
    clips = few.expand(2, -1, -1, -1)  # of several videos
    assert type(int8_keys(clips, all_valid(clips))) is Keys
