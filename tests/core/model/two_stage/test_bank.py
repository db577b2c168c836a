"""MAMBA's bank: reading, writing, replacement, and draws."""

from __future__ import annotations

import torch

from sparsevod_core.model.two_stage.bank import Bank, seeded_draw


def numbered(first, count):
    rows = torch.arange(first, first + count).float()[:, None].expand(-1, 3)
    return rows, -rows


def backwards(count):
    return torch.arange(count - 1, -1, -1)


def test_a_small_bank_is_read_whole_and_a_large_one_in_part():
    bank = Bank(*numbered(0, 5))
    key, value = bank.read(6, backwards)
    assert key[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    key, value = bank.read(3, backwards)
    assert key[0, :, 0].tolist() == [4, 3, 2]
    assert torch.equal(value, -key)


def test_rows_are_appended_until_the_bank_is_full_and_then_replace_others():
    first = Bank(*numbered(0, 3))
    second = first.written(*numbered(10, 2), max_rows=4, draw=backwards)
    assert second.key[:, 0].tolist() == [0, 1, 2, 10, 11]  # above the limit, as in the reference
    third = second.written(*numbered(20, 2), max_rows=4, draw=backwards)
    assert third.key[:, 0].tolist() == [11, 10, 2, 20, 21]
    assert torch.equal(third.value, -third.key)
    assert first.key[:, 0].tolist() == [0, 1, 2] and len(second) == 5


def test_draws_depend_on_seed_and_target_only():
    state = torch.get_rng_state()
    one, same = seeded_draw(3, 7), seeded_draw(3, 7)
    first = one(50)
    assert torch.equal(first, same(50))
    assert not torch.equal(first, one(50))  # each layer draws for itself
    assert not torch.equal(first, seeded_draw(3, 8)(50))
    assert not torch.equal(first, seeded_draw(4, 7)(50))
    assert sorted(first.tolist()) == list(range(50))
    assert torch.equal(state, torch.get_rng_state())
