"""Encoder and decoder: padding, and the boxes before training."""

from __future__ import annotations

import torch

from sparsevod_core.model.transvod.image_map import ImageMap, positions_inside
from sparsevod_core.model.transvod.transformer import (
    DecoderLayer,
    DeformableDecoder,
    DeformableEncoder,
    EncoderLayer,
)

SIZES = {"channels": 16, "num_heads": 4, "num_points": 2, "ffn_dim": 24, "dropout": 0.0}


def transformer() -> tuple[DeformableEncoder, DeformableDecoder]:
    torch.manual_seed(0)
    encoder = DeformableEncoder(layers=[EncoderLayer(**SIZES) for _ in range(2)], channels=16)
    decoder = DeformableDecoder(
        layers=[DecoderLayer(**SIZES) for _ in range(3)], channels=16, num_queries=5, num_classes=3
    )
    return encoder.eval(), decoder.eval()


def randomize(decoder: DeformableDecoder) -> None:
    """Let all layers move the boxes."""
    for branch in decoder.box_branches:
        torch.nn.init.normal_(branch[-1].weight, std=0.1)


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    encoder, decoder = transformer()
    randomize(decoder)
    maps = torch.randn(1, 4, 5, 16)
    padded = torch.randn(1, 6, 9, 16)
    padded[:, :4, :5] = maps
    inside = torch.zeros(1, 6, 9, dtype=torch.bool)
    inside[:, :4, :5] = True

    alone = encoder(ImageMap(maps.flatten(1, 2), torch.ones(1, 4, 5, dtype=torch.bool)))
    in_batch = encoder(ImageMap(padded.flatten(1, 2), inside))
    torch.testing.assert_close(in_batch.rows[inside.flatten(1)][None], alone.rows)

    expected, decoded = decoder(alone), decoder(in_batch)
    torch.testing.assert_close(decoded.queries, expected.queries)
    torch.testing.assert_close(decoded.logits, expected.logits)
    torch.testing.assert_close(decoded.boxes_cxcywh, expected.boxes_cxcywh)


@torch.no_grad()
def test_before_training_small_boxes_stay_at_the_first_points() -> None:
    encoder, decoder = transformer()
    decoded = decoder(encoder(ImageMap(torch.randn(1, 20, 16), torch.ones(1, 4, 5).bool())))
    expected = torch.cat([decoded.points, torch.full((1, 5, 2), -2.0).sigmoid()], dim=-1)
    torch.testing.assert_close(decoded.boxes_cxcywh, expected.expand(3, -1, -1, -1))
    assert decoded.logits.sigmoid().mean() < 0.05


def test_between_layers_gradients_flow_through_queries_only() -> None:
    encoder, decoder = transformer()
    randomize(decoder)
    decoded = decoder(encoder(ImageMap(torch.randn(1, 20, 16), torch.ones(1, 4, 5).bool())))
    decoded.boxes_cxcywh[-1].sum().backward()
    assert decoder.box_branches[0][-1].weight.grad.abs().sum() == 0
    assert decoder.layers[0].ffn[0].weight.grad.abs().sum() > 0


def test_a_position_belongs_to_the_image_if_its_pixel_does() -> None:
    inside = positions_inside(torch.tensor([[33, 64], [64, 17]]), (64, 64), (4, 4))
    assert inside.any(2).sum(1).tolist() == [3, 4]  # lines from pixels 0, 16, 32 and 48
    assert inside.any(1).sum(1).tolist() == [4, 2]
