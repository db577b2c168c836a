"""Stages of MEGA's head: missing proposals count as none, with and without memory."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.model.mega.proposal_features import ProposalFeatures
from sparsevod_core.model.mega.stages import RelationHead


def relation_head(num_advanced: int) -> RelationHead:
    torch.manual_seed(0)
    head = RelationHead(
        roi_channels=8,
        channels=8,
        num_heads=2,
        num_stages=3,
        num_global=2,
        num_advanced=num_advanced,
        num_classes=3,
    )
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.double()


def rows(*shape: int) -> ProposalFeatures:
    corners = 100 * torch.rand(*shape, 4, dtype=torch.float64)
    boxes = torch.cat([corners[..., :2], corners[..., :2] + 1 + corners[..., 2:]], dim=-1)
    is_valid = torch.ones(shape, dtype=torch.bool)
    return ProposalFeatures(torch.randn(*shape, 8, dtype=torch.float64), boxes, is_valid)


def filled_up(frames: ProposalFeatures, count: int) -> ProposalFeatures:
    """Return frames `[B, S, N]` with `count` more rows that are no proposals."""
    more = rows(*frames.is_valid.shape[:2], count)
    more.is_valid[:] = False
    more.boxes_xyxy[:] = 0
    pairs = zip(frames.tensors, more.tensors, strict=True)
    return ProposalFeatures(*(torch.cat(pair, dim=2) for pair in pairs))


@pytest.mark.parametrize(("real", "advanced"), [(4, 3), (2, 2)])
@torch.no_grad()
def test_filled_up_frames_equal_smaller_ones(real, advanced):
    torch.manual_seed(1)
    key, local, anywhere, past = rows(2, 5), rows(2, 3, real), rows(2, 2, real), rows(2, 2, real)
    features = []
    # Three rows are advanced; with only two proposals in a frame, this must equal a head of two.
    for count, extra in ((advanced, 0), (3, 6 - real)):
        head = relation_head(count)
        frames = [filled_up(one, extra) if extra else one for one in (local, anywhere, past)]
        memory = head.project(head.remember(frames[2], frames[1]))
        features.append(head.relate(key, frames[0], frames[1], memory)[0])
    torch.testing.assert_close(features[0], features[1], rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_queries_do_not_see_each_other_but_through_the_frames():
    torch.manual_seed(1)
    head, local, anywhere = relation_head(3), rows(1, 3, 4), rows(1, 2, 4)
    key = rows(1, 5)
    one = ProposalFeatures(*(tensor[:, 2:3] for tensor in key.tensors))
    alone = head.relate(one, local, anywhere, None)[0]
    torch.testing.assert_close(alone, head.relate(key, local, anywhere, None)[0][:, 2:3])


@torch.no_grad()
def test_what_a_stage_remembers_has_seen_the_stage_before():
    torch.manual_seed(1)
    head, local, anywhere = relation_head(3), rows(1, 3, 4), rows(1, 2, 4)
    past = head.project(head.remember(rows(1, 2, 4), anywhere))
    _, without = head.relate(rows(1, 5), local, anywhere, None)
    _, with_past = head.relate(rows(1, 5), local, anywhere, past)
    assert [stage.is_valid.shape for stage in without] == [(1, 3, 4), (1, 3, 3), (1, 3, 3)]
    changes = [
        not torch.allclose(*(stage.features for stage in pair))
        for pair in zip(without, with_past, strict=True)
    ]
    assert changes == [False, True, True]
