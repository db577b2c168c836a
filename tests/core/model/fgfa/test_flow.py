"""FlowNetSimple, beyond the parity fixture."""

from __future__ import annotations

import torch

from sparsevod_core.model.fgfa.flow import FlowNetSimple, halved


def test_padding_has_no_influence():
    torch.manual_seed(0)
    images, sizes = torch.rand(2, 3, 32, 48) * 255, torch.tensor([[20, 41], [32, 48]])
    dirty, clean = images.clone(), images.clone()
    clean[0, :, 20:] = 0
    clean[0, :, :, 41:] = 0
    assert torch.equal(halved(dirty, sizes), halved(clean, sizes))
    assert halved(dirty, sizes).shape == (2, 3, 16, 24)
    assert not halved(dirty, sizes)[0, :, 10:].any()


def test_bytes_and_floats_give_the_same():
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    sizes = torch.tensor([[16, 16]])
    assert torch.equal(halved(images, sizes), halved(images.float(), sizes))


def test_training_starts_with_no_motion_and_reaches_every_layer():
    torch.manual_seed(0)
    network = FlowNetSimple(width=2)
    frames = torch.rand(2, 2, 3, 56, 72)  # sizes that are odd at the coarse levels
    flow = network(frames[0], frames[1])
    assert flow.shape == (2, 2, 14, 18)
    assert not flow.any()

    torch.nn.init.normal_(network.predict_flow.weight)
    network(frames[0], frames[1]).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
