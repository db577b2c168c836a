"""Box head of Faster R-CNN: fully connected layers, each with an aggregation of other proposals."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.model.proposal_aggregation import AttentionAggregation
from sparsevod_core.model.two_stage.selsa_memory import SelsaMemory

ClassesAndBoxes = tuple[Float[Tensor, "B N classes"], Float[Tensor, "B N deltas"]]


class BoxHead(nn.Module):
    """Fully connected layers (FCs), then class logits and box deltas of each class.

    With aggregations, it is the head of SELSA (Wu et al., ICCV 2019): after each FC, and before its
    ReLU, the proposals receive what an aggregation finds in the proposals of other frames.

    Args:
        roi_channels: number of values of a RoI: channels times bins.
        channels: number of output channels of each FC.
        num_fcs: number of FCs.
        aggregations: one for each FC, or none at all.
        num_classes: K, without the background, which is the last of the K + 1 logits.
    """

    aggregations: Sequence[AttentionAggregation]

    def __init__(
        self,
        *,
        roi_channels: int,
        channels: int,
        num_fcs: int,
        aggregations: Sequence[AttentionAggregation],
        num_classes: int,
    ) -> None:
        super().__init__()
        widths = [roi_channels, *[channels] * (num_fcs - 1)]
        fcs = [nn.Linear(width, channels) for width in widths]
        self.fcs = nn.ModuleList(fcs)
        self.aggregations = nn.ModuleList(aggregations)  # type: ignore[assignment]
        self.class_logits = nn.Linear(channels, num_classes + 1)
        self.box_deltas = nn.Linear(channels, 4 * num_classes)
        for fc in fcs:
            nn.init.xavier_uniform_(fc.weight)
        nn.init.normal_(self.class_logits.weight, std=0.01)
        nn.init.normal_(self.box_deltas.weight, std=0.001)
        for layer in (*fcs, self.class_logits, self.box_deltas):
            nn.init.zeros_(layer.bias)

    def forward(
        self, embedded: Float[Tensor, "B N F"], memory: SelsaMemory | None
    ) -> ClassesAndBoxes:
        """Return class logits [B, N, K + 1] and box deltas [B, N, 4 K], class by class.

        Args:
            embedded: proposals after `embed`.
            memory: proposals to attend to; None for a head without aggregations.
        """
        features = embedded
        for number in range(len(self.fcs)):
            features = self.before_aggregation(number, features)
            if memory is not None:
                keys = memory.layers[number]
                attended = self.aggregations[number].attend(features, *keys, memory.mask)
                features = features + attended
        return self.predict(features)

    def embed(self, roi_features: Float[Tensor, "B N C P P"]) -> Float[Tensor, "B N F"]:
        """Return the result of the first FC, before its ReLU; the most expensive part by far."""
        return self.fcs[0](roi_features.flatten(2))

    def before_aggregation(
        self, number: int, features: Float[Tensor, "B N F"]
    ) -> Float[Tensor, "B N F"]:
        """Return the result of an FC, given that of the FC before it; of the first, `embedded`."""
        return features if number == 0 else self.fcs[number](features.relu())

    def project(
        self, embedded: Float[Tensor, "B N F"]
    ) -> tuple[tuple[Float[Tensor, "B N F"], Float[Tensor, "B N F"]], ...]:
        """Return keys and values of support proposals at each FC; nothing is aggregated in them."""
        projected, features = [], embedded
        for number, aggregation in enumerate(self.aggregations):
            features = self.before_aggregation(number, features)
            key, value = aggregation.project(features)
            projected.append((key, value))
        return tuple(projected)

    def predict(self, features: Float[Tensor, "B N F"]) -> ClassesAndBoxes:
        """Return class logits and box deltas, given the result of the last FC before its ReLU."""
        features = features.relu()
        return self.class_logits(features), self.box_deltas(features)
