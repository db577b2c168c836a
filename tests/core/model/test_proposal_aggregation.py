"""SPFA: attention by hand, the target's own keys, and the mean variant."""

from __future__ import annotations

import torch

from sparsevod_core.model.proposal_aggregation import AttentionAggregation, MeanAggregation


def test_attention_matches_equation_1():
    torch.manual_seed(0)
    spfa = AttentionAggregation(channels=8, num_heads=2)
    target, support = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    proposals = torch.cat([support, target], dim=1)  # the target's own proposals are keys too
    q, k, v = spfa.query(target)[0], spfa.key(proposals)[0], spfa.value(proposals)[0]
    heads = []
    for h in (slice(0, 4), slice(4, 8)):
        heads.append((q[:, h] @ k[:, h].T / 4**0.5).softmax(-1) @ v[:, h])
    expected = target + spfa.output(torch.cat(heads, dim=-1))
    kept = [of_supports[:, None] for of_supports in spfa.project(support)]
    torch.testing.assert_close(spfa(target, kept), expected)


def test_selsa_attends_to_given_keys_only_and_leaves_masked_ones_out():
    torch.manual_seed(0)
    aggregation = AttentionAggregation(channels=8, num_heads=2)
    target, support = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    key, value = aggregation.project(support)
    is_valid = torch.arange(5) < torch.tensor([[5], [2]])
    out = aggregation.attend(target, key, value, is_valid[:, None, None])
    whole = aggregation.attend(target[:1], key[:1], value[:1])
    part = aggregation.attend(target[1:], key[1:, :2], value[1:, :2])
    torch.testing.assert_close(out, torch.cat([whole, part]))

    q, k, v = aggregation.query(target[0]), key[0], value[0]
    halves = slice(0, 4), slice(4, 8)
    heads = [(q[:, h] @ k[:, h].T / 4**0.5).softmax(-1) @ v[:, h] for h in halves]
    torch.testing.assert_close(out[0], aggregation.output(torch.cat(heads, dim=-1)))


def test_without_supports_it_still_attends_to_the_target():
    spfa = AttentionAggregation(channels=8, num_heads=2)
    target = torch.randn(2, 3, 8)
    out = spfa(target, None)
    assert out.isfinite().all()
    assert not torch.allclose(out, target)


def test_mean_gives_every_proposal_the_same_addition():
    spfa = MeanAggregation(channels=8)
    target, support = torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    added = spfa(target, [spfa.value(support)[:, None]]) - target
    expected = spfa.output(spfa.value(torch.cat([support, target], 1)).mean(1))
    torch.testing.assert_close(added, expected[:, None].expand(1, 3, 8))
