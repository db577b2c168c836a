"""MEGA: relations to the proposals of local, remembered and global frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from sparsevod_core.inference.inspectors.inspector import OWN, Inputs, Keys, Layer, Stages, Step
from sparsevod_core.inference.inspectors.two_stage import HEAD, TwoStageInspector
from sparsevod_core.model.mega.boxes import to_pixels
from sparsevod_core.model.mega.detector import MEGA, EncodedFrames


class MEGAInspector(TwoStageInspector):
    """Stages of MEGA, with the weights of each relation module."""

    def __init__(self, detector: MEGA) -> None:
        super().__init__(detector)
        self._detector = detector
        self._past: list[int] = []  # frames in the recursive memory, oldest first

    @property
    def watched(self) -> Sequence[nn.Module]:
        return [*self._detector.head.global_relations, *self._detector.head.local_relations]

    def layers(self, step: Step, inputs: Inputs, stages: Stages) -> list[Layer]:
        memory, head = step.memory, self._detector.head
        # The window contains the target. Without global frames, it stands for them.
        local = [OWN if number == step.number else number for number in step.supports]
        anywhere = step.global_supports if memory.global_frames is not None else local
        read = {"Local": [*local, *self._past], "Global": anywhere}
        first, *last = (("Global", relation) for relation in head.global_relations)
        layers = []
        seen: Counter[str] = Counter()
        for name, relation in [first, *(("Local", one) for one in head.local_relations), *last]:
            ((queries, others),) = inputs[relation]
            weights = relation.weights(queries, others)[0, : len(stages.proposals_xyxy)]
            keys = Keys.of(read[name], weights.shape[1] // len(read[name]))
            seen[name] += 1
            layers.append(Layer(name=f"{name}{seen[name]}", stage=HEAD, weights=weights, keys=keys))
        return layers

    def follow(self, step: Step) -> None:
        if step.memory is not None:
            self._past = [*self._past, step.supports[0]][-self._detector.memory_frames :]

    def support_boxes(self, encoded: EncodedFrames) -> Float[Tensor, "T n 4"]:
        boxes = encoded.proposals.boxes[:, : self._detector.num_support_proposals]
        return to_pixels(boxes).expand(len(self.names.stages), -1, -1)

    def in_image(self, boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
        return to_pixels(boxes_xyxy)
