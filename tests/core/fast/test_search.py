"""The search for similar positions against cosines computed one by one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sparsevod_core.fast import search
from sparsevod_core.fast.search import ExactKeys, QuantisedKeys, lengths_of

KINDS = [ExactKeys, QuantisedKeys]


def cosines_of(queries: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """[Q, S, L]."""
    return torch.einsum("qc,slc->qsl", F.normalize(queries, dim=-1), F.normalize(rows, dim=-1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("length", "spread"), [(608, 1.0), (75, 3.0), (5, 1.0)])
def test_what_is_found_is_as_similar_as_the_best(kind, length: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(length)
    # Cubed: a few channels stand out, as in trained maps; worse for integers than even ones.
    queries = torch.randn(300, 64, generator=generator) ** spread
    rows = torch.randn(3, length, 64, generator=generator) ** spread
    keys = kind.of(rows, torch.ones(length, dtype=torch.bool))
    positions, found = keys.top(queries, lengths_of(queries), 2)
    exact = cosines_of(queries, rows)
    best = exact.topk(2, dim=-1).values
    chosen = exact.gather(2, positions)
    tolerance = 1e-5 if kind is ExactKeys else 0.01
    torch.testing.assert_close(found, chosen, atol=tolerance, rtol=0)
    assert (best - chosen).max() < 2 * tolerance
    assert (positions[..., 0] != positions[..., 1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_exact_ties_go_to_the_lower_position(kind) -> None:
    rows = torch.tensor([1.0, 0.0]).repeat(1, 90, 1)
    rows[0, [17, 40, 70]] = torch.tensor([1.0, 2.0])
    rows[0, 80] = torch.tensor([3.0, 6.0])  # the same direction
    keys = kind.of(rows, torch.ones(90, dtype=torch.bool))
    queries = torch.tensor([[2.0, 4.0]])
    positions, _ = keys.top(queries, lengths_of(queries), 4)
    assert positions.tolist() == [[[17, 40, 70, 80]]]


@pytest.mark.parametrize("kind", KINDS)
def test_positions_that_are_not_valid_are_never_chosen(kind) -> None:
    rows = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(0))
    queries = rows[0, 5:6].clone()
    valid = torch.zeros(40, dtype=torch.bool)
    valid[33] = True
    positions, cosines = kind.of(rows, valid).top(queries, lengths_of(queries), 2)
    assert positions[0, :, 0].tolist() == [33, 33]
    assert (cosines[0, :, 1] == -math.inf).all()
    assert (positions < 40).all() and (positions >= 0).all()  # there is nothing behind


@pytest.mark.parametrize("kind", KINDS)
def test_all_cosines_may_be_negative(kind) -> None:
    rows = -torch.rand(1, 50, 6, generator=torch.Generator().manual_seed(1)) - 0.1
    queries = torch.ones(1, 6)
    positions, cosines = kind.of(rows, torch.ones(50, dtype=torch.bool)).top(
        queries, lengths_of(queries), 1
    )
    exact = cosines_of(queries, rows)
    assert cosines.item() < 0
    assert exact[0, 0, positions.item()] >= exact.max() - 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_joined_keys_find_what_each_finds(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EXACT_AT_ONCE", "QUANTISED_AT_ONCE"):
        monkeypatch.setattr(search, name, 500)  # several chunks
    generator = torch.Generator().manual_seed(2)
    maps = [torch.randn(1, 60, 16, generator=generator) * size for size in (1, 50, 0.1)]
    queries = torch.randn(20, 16, generator=generator)
    keys = [kind.of(rows, torch.ones(60, dtype=torch.bool)) for rows in maps]
    joined = kind.joined(keys).top(queries, lengths_of(queries), 2)
    for number, one in enumerate(keys):
        for whole, part in zip(joined, one.top(queries, lengths_of(queries), 2), strict=True):
            torch.testing.assert_close(whole[:, number], part[:, 0])


def test_integers_are_for_processors_that_have_the_instructions() -> None:
    assert not search.can_quantise(torch.device("cuda"), 608)
    assert not search.can_quantise(torch.device("cpu"), 200_000)  # no room for the position
