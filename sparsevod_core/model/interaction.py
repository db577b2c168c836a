"""Instance interaction: each proposal's feature generates the two layers applied to its own RoI.

This is the paper's Instance Interactive Head (IIH), the dynamic convolution of Sparse R-CNN.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class InstanceInteraction(nn.Module):
    """Two proposal-conditioned linear layers over RoI features, projected to one vector per RoI."""

    def __init__(self, *, channels: int, dynamic_dim: int, roi_size: int) -> None:
        super().__init__()
        self.channels = channels
        self.dynamic_dim = dynamic_dim
        self.dynamic_layers = nn.Linear(channels, 2 * channels * dynamic_dim)
        self.norm_in = nn.LayerNorm(dynamic_dim)
        self.norm_out = nn.LayerNorm(channels)
        self.output = nn.Linear(channels * roi_size**2, channels)
        self.norm = nn.LayerNorm(channels)
        self.relu = nn.ReLU()

    def forward(
        self, features: Float[Tensor, "n C"], roi_features: Float[Tensor, "n C P P"]
    ) -> Float[Tensor, "n C"]:
        """Return the object feature of each proposal."""
        layers = self.dynamic_layers(features)  # [n, 2 C D]
        first, second = layers.split(self.channels * self.dynamic_dim, dim=-1)
        x = roi_features.flatten(2).transpose(1, 2)  # [n, P P, C]
        x = x @ first.view(-1, self.channels, self.dynamic_dim)
        x = self.relu(self.norm_in(x))
        x = x @ second.view(-1, self.dynamic_dim, self.channels)
        x = self.relu(self.norm_out(x))
        return self.relu(self.norm(self.output(x.flatten(1))))
