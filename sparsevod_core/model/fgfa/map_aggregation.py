"""Mean of maps over frames, weighted by similarity to the target (FGFA, Eq. 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

NORM_EPS = 1e-6  # a vector of zeros has a cosine of 0 with every vector


class MapAggregation(nn.Module):
    """Mean of maps, weighted at each position by the softmax of the cosines of their embeddings.

    One 3x3 convolution embeds all maps. The cosine of an embedding is the one with the target's
    embedding at the same position. The maps themselves are averaged (Zhu et al., ICCV 2017;
    MMTracking's form).
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]

    def forward(
        self,
        targets: Float[Tensor, "B C h w"],
        chunks: Iterable[Float[Tensor, "B _ C h w"]],
        *,
        includes_targets: bool,
    ) -> Float[Tensor, "B C h w"]:
        """Return the weighted mean of all maps in `chunks`.

        Args:
            targets: maps of the target frames.
            chunks: maps of other frames, warped to the targets, some at a time. In inference one
                chunk is held at a time.
            includes_targets: if True, the targets' maps are averaged too.
        """
        embedded = self.embed(targets)
        weighted_sum = weight_sum = targets.new_zeros(())
        if includes_targets:
            weights = similarity(embedded, embedded)
            weighted_sum, weight_sum = weights * targets, weights
        for maps in chunks:
            weights = similarity(
                self.embed(maps.flatten(0, 1)).view_as(maps), embedded[:, None]
            )  # [B, s, 1, h, w]
            weighted_sum = weighted_sum + (weights * maps).sum(1)
            weight_sum = weight_sum + weights.sum(1)
        return (weighted_sum / weight_sum).to(targets.dtype)


def similarity(
    embedded: Float[Tensor, "*n C h w"], targets: Float[Tensor, "*#n C h w"]
) -> Float[Tensor, "*n 1 h w"]:
    """Return e to the power of the cosine per position, in fp32: the weight before division.

    Cosines are bounded, so that the softmax over frames needs no maximum, and frames can be added
    one after the other.
    """
    wide = torch.promote_types(embedded.dtype, torch.float32)
    cosines = F.cosine_similarity(embedded.to(wide), targets.to(wide), dim=-3, eps=NORM_EPS)
    return cosines.exp().unsqueeze(-3)
