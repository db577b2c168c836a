"""The choice of support queries, and their memory."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsevod_core.model.transvod.temporal_queries import QueryMemory, best_entries


def memory_of(scores: list[list[list[float]]]) -> QueryMemory:
    """Return the memory of one video whose n-th query has the feature n."""
    table = torch.tensor(scores)[None]  # [1, S, N, K]
    queries = torch.arange(float(table[..., 0].numel())).view(*table.shape[:3], 1)
    return QueryMemory(queries, table)


def test_the_best_queries_of_all_frames_are_chosen_together() -> None:
    memory = memory_of([[[0.9, 0.1], [0.2, 0.3]], [[0.8, 0.7], [0.1, 0.6]]])
    assert memory.best(4).flatten().tolist() == [0, 2, 2, 3]  # query 2 for both of its classes


def test_equal_scores_are_chosen_in_order() -> None:
    memory = memory_of([[[0.5, 0.5], [0.25, 0.25]], [[0.5, 0.25], [0.25, 0.5]]])
    assert memory.best(5).flatten().tolist() == [0, 0, 2, 3, 1]


def test_fewer_entries_than_asked_for_are_all_chosen() -> None:
    assert memory_of([[[0.5, 0.25]]]).best(80).shape == (1, 2, 1)


@given(
    scores=st.lists(st.sampled_from([0.0, 1e-30, 0.25, 0.5, 1.0]), min_size=1, max_size=40),
    count=st.integers(0, 45),
)
def test_best_entries_equal_a_stable_sort(scores: list[float], count: int) -> None:
    expected = torch.tensor([scores]).sort(dim=1, descending=True, stable=True)
    best, index = best_entries(torch.tensor([scores]), count)
    assert index.tolist() == expected.indices[:, :count].tolist()
    assert best.tolist() == expected.values[:, :count].tolist()


def test_the_memory_holds_queries_and_scores_only() -> None:
    memory = QueryMemory(torch.zeros(1, 3, 300, 256), torch.zeros(1, 3, 300, 30))
    assert memory.num_supports == 3
    assert memory.nbytes == 3 * 300 * (256 + 30) * 4
