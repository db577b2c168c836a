"""MEGA's head: fully connected layers with relation modules between them (paper, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.model.mega.proposal_features import ProposalFeatures
from sparsevod_core.model.mega.relation import Keys, RelationModule


class RelationHead(nn.Module):
    """RoI features to class logits and box deltas, by way of global, local and past frames.

    Each stage relates the proposals of the key frame, and the advanced (best) ones of the local
    frames, to the local frames and to what is remembered of earlier ones.

    Args:
        roi_channels: number of values of a flattened RoI feature.
        channels: C, number of channels of the proposals.
        num_heads: number of attention heads.
        num_stages: number of fully connected layers, each followed by a local relation module.
        num_global: number of global relation modules: the first before the stages, the others after
            them. 0: no relations at all; the detector then sees single frames.
        num_advanced: number of proposals of each local frame that pass through the stages.
        num_classes: K, without background.
    """

    fcs: Sequence[nn.Linear]
    local_relations: Sequence[RelationModule]
    global_relations: Sequence[RelationModule]

    def __init__(
        self,
        *,
        roi_channels: int,
        channels: int,
        num_heads: int,
        num_stages: int,
        num_global: int,
        num_advanced: int,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.num_advanced = num_advanced

        def relations(count: int, with_geometry: bool) -> nn.ModuleList:
            return nn.ModuleList(
                RelationModule(channels=channels, num_heads=num_heads, with_geometry=with_geometry)
                for _ in range(count)
            )

        self.fcs = nn.ModuleList(  # type: ignore[assignment]
            nn.Linear(channels if i else roi_channels, channels) for i in range(num_stages)
        )
        self.local_relations = relations(num_stages if num_global else 0, True)  # type: ignore[assignment]
        self.global_relations = relations(num_global, False)  # type: ignore[assignment]
        self.class_logits = nn.Linear(channels, num_classes + 1)  # background last
        self.box_deltas = nn.Linear(channels, 4 * num_classes)
        self._initialize()

    @property
    def has_relations(self) -> bool:
        """Whether proposals are related to those of other frames."""
        return bool(self.global_relations)

    def embed(self, roi_features: Float[Tensor, "*n values"]) -> Float[Tensor, "*n C"]:
        """Return the features of proposals, which depend on no other frame."""
        return F.relu(self.fcs[0](roi_features))

    def forward(self, features: Float[Tensor, "*n C"]) -> Float[Tensor, "*n C"]:
        """Return the features of proposals after all layers, without any relation."""
        for fc in self.fcs[1:]:
            features = F.relu(fc(features))
        return features

    def relate(
        self,
        key: ProposalFeatures,
        local: ProposalFeatures,
        global_frames: ProposalFeatures,
        past: Sequence[Keys] | None,
    ) -> tuple[Float[Tensor, "B N C"], list[ProposalFeatures]]:
        """Return the key frame's features after all stages, and the local frames' before each.

        Args:
            key: embedded proposals `[B, N]` of the key frame; N may be 0.
            local: embedded proposals `[B, S, n]` of the local frames.
            global_frames: embedded proposals `[B, S', n']` of the global frames.
            past: what each stage remembers; None: nothing.

        Returns:
            The features, and for each stage the proposals `[B, S, n]` of the local frames that
            are keys there: all before the first stage, the advanced ones before the others.
        """
        count = key.features.shape[1]
        all_frames = ProposalFeatures.joined([key, local.flat()])
        first, *last = self.global_relations
        global_keys = first.project(global_frames.flat())
        features = all_frames.features + first(all_frames, global_keys)
        key = key.with_features(features[:, :count])
        frames = local.with_features(features[:, count:].unflatten(1, local.is_valid.shape[1:]))

        before = []
        for i, relation in enumerate(self.local_relations):
            before.append(frames)
            others = relation.project(frames.flat())
            if past is not None:
                others = Keys.joined([others, past[i]])
            if i + 1 == len(self.local_relations):
                key = key.with_features(key.features + relation(key, others))
                break
            advanced = frames.best(self.num_advanced)
            queries = ProposalFeatures.joined([key, advanced.flat()])
            features = F.relu(self.fcs[i + 1](queries.features + relation(queries, others)))
            key = key.with_features(features[:, :count])
            shape = advanced.is_valid.shape[1:]
            frames = advanced.with_features(features[:, count:].unflatten(1, shape))

        for relation in last:
            others = relation.project(global_frames.flat())
            key = key.with_features(key.features + relation(key, others))
        return key.features, before

    def predict(
        self, features: Float[Tensor, "B N C"]
    ) -> tuple[Float[Tensor, "B N classes"], Float[Tensor, "B N deltas"]]:
        """Return K + 1 class logits, the background last, and 4 K box deltas, class by class."""
        return self.class_logits(features), self.box_deltas(features)

    def remember(
        self, frames: ProposalFeatures, global_frames: ProposalFeatures
    ) -> list[ProposalFeatures]:
        """Return what a clip remembers of embedded proposals `[B, S, n]` of earlier frames."""
        nobody = ProposalFeatures(*(tensor[:, :0] for tensor in frames.flat().tensors))
        return self.relate(nobody, frames, global_frames, None)[1]

    def project(self, before: Sequence[ProposalFeatures]) -> list[Keys]:
        """Return what the stages read of frames `[B, S, n]`, given their proposals before each."""
        pairs = zip(self.local_relations, before, strict=True)
        return [relation.project(proposals.flat()) for relation, proposals in pairs]

    def _initialize(self) -> None:
        """Initialize as the reference (github.com/Scalsol/mega.pytorch) does."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)
        for relation in (*self.local_relations, *self.global_relations):
            nn.init.normal_(relation.value.weight, std=0.01)
            nn.init.normal_(relation.key_bias, std=0.01)
            if relation.geometry is not None:
                nn.init.normal_(relation.geometry.weight.weight, std=0.01)
        nn.init.normal_(self.class_logits.weight, std=0.01)
        nn.init.normal_(self.box_deltas.weight, std=0.001)
