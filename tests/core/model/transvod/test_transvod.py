"""TransVOD as a whole: padding, batches, memories, and training in two stages."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from sparsevod_core.config import LossConfig
from sparsevod_core.losses.criterion import SetCriterion
from sparsevod_core.model.backbone import ResNetStages, group_norm, tiny_parts
from sparsevod_core.model.dilated_backbone import dilate
from sparsevod_core.model.transvod.assembly import assemble
from sparsevod_core.model.transvod.detector import TransVOD
from sparsevod_core.structures import Clip, Targets

SIZE = (60, 90)


def small_transvod(*, temporal: bool = True, dropout: float = 0.0) -> TransVOD:
    torch.manual_seed(0)
    stem, stages, widths = tiny_parts(group_norm, widths=(8, 8, 16, 16))
    dilate(stages[-1], first_block=1)
    return assemble(
        backbone=ResNetStages(
            stem=stem, stages=stages, frozen_stages=0, freeze_norms=False, read_stages=(3,)
        ),
        map_channels=widths[-1],
        num_groups=4,
        channels=16,
        num_heads=4,
        num_points=2,
        ffn_dim=24,
        dropout=dropout,
        num_encoder_layers=1,
        num_decoder_layers=2,
        num_queries=6,
        num_classes=3,
        rows_per_support=(4, 3, 2) if temporal else (),
        released_points=False,
        num_detections=7,
    )


def random_clip(batch: int = 2, supports: int = 3, padded: tuple[int, int] = (64, 96)) -> Clip:
    """Return frames of the same pixels for every padded size; the padding holds garbage."""
    generator = torch.Generator().manual_seed(0)

    def frames(*shape: int) -> torch.Tensor:
        images = torch.full((*shape, 3, *padded), 77, dtype=torch.uint8)
        images[..., : SIZE[0], : SIZE[1]] = torch.randint(
            0, 256, (*shape, 3, *SIZE), dtype=torch.uint8, generator=generator
        )
        return images

    return Clip(frames(batch), frames(batch, supports), torch.tensor([SIZE] * batch))


TARGETS = [
    Targets(torch.tensor([[5.0, 5, 40, 30], [30, 20, 80, 55]]), torch.tensor([0, 2])),
    Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
]


def encode(detector: TransVOD, images: torch.Tensor):
    return detector.encode(images, torch.tensor([SIZE] * len(images)))


@pytest.fixture(scope="module")
def detector() -> TransVOD:
    detector = small_transvod().eval()
    branches = [*detector.decoder.box_branches, detector.temporal.box_branch]
    for branch in branches:  # which start at zero: boxes would not depend on the queries
        torch.nn.init.normal_(branch[-1].weight, std=0.1)
    return detector


@torch.no_grad()
def test_padding_changes_nothing(detector: TransVOD) -> None:
    outputs = [detector(random_clip(padded=size), []) for size in ((64, 96), (96, 128), SIZE)]
    for output in outputs[1:]:
        assert_close(output.logits, outputs[0].logits, rtol=0, atol=0)
        assert_close(output.boxes_xyxy, outputs[0].boxes_xyxy, rtol=0, atol=0)


@torch.no_grad()
def test_memory_gives_what_the_clip_gives(detector: TransVOD) -> None:
    clip = random_clip()
    whole = detector(clip, [])
    for index in range(2):
        memory = detector.remember(encode(detector, clip.supports[index]))
        one = detector.detect(encode(detector, clip.images[index : index + 1]), memory)
        assert_close(one.logits[:, 0], whole.logits[:, index])
        assert_close(one.boxes_xyxy[:, 0], whole.boxes_xyxy[:, index])


@torch.no_grad()
def test_targets_of_a_batch_are_independent(detector: TransVOD) -> None:
    clip = random_clip(batch=4)
    memory = detector.remember(encode(detector, clip.supports[0]))
    together = detector.detect(encode(detector, clip.images), memory)
    for index in range(4):
        alone = detector.detect(encode(detector, clip.images[index : index + 1]), memory)
        assert_close(alone.logits[:, 0], together.logits[:, index])
        assert_close(alone.boxes_xyxy[:, 0], together.boxes_xyxy[:, index])


@torch.no_grad()
def test_joined_memories_are_that_of_all_frames(detector: TransVOD) -> None:
    frames = random_clip().supports[0]
    target = encode(detector, random_clip().images[:1])
    whole = detector.remember(encode(detector, frames))
    joined = detector.join([detector.remember(encode(detector, frame[None])) for frame in frames])
    assert joined.num_supports == whole.num_supports == 3
    assert joined.nbytes == whole.nbytes
    assert_close(detector.detect(target, joined).logits, detector.detect(target, whole).logits)
    assert detector.join([]) is None


@torch.no_grad()
def test_the_supports_matter_but_not_their_order(detector: TransVOD) -> None:
    frames = random_clip().supports[0]
    target = encode(detector, random_clip().images[:1])
    outputs = [
        detector.detect(target, detector.remember(encode(detector, some))).logits
        for some in (frames, frames.flip(0), frames[:2])
    ]
    assert_close(outputs[1], outputs[0])
    assert (outputs[2] - outputs[0]).abs().max() > 1e-3


@torch.no_grad()
def test_without_memory_the_frame_detector_decides(detector: TransVOD) -> None:
    encoded = encode(detector, random_clip().images)
    assert detector.detect(encoded, None) is encoded.output
    assert encoded.output.logits.shape == (2, 2, 6, 3)  # both decoder layers
    assert not small_transvod(temporal=False).uses_supports


@torch.no_grad()
def test_detections_are_the_best_pairs(detector: TransVOD) -> None:
    output = detector(random_clip(), [])
    boxes, scores, labels = detector.top(output)
    assert boxes.shape == (2, 7, 4) and labels.shape == (2, 7)
    every = output.logits[-1].sigmoid().flatten(1)
    assert_close(scores, every.sort(dim=1, descending=True).values[:, :7])
    query = (output.boxes_xyxy[-1, 0] == boxes[0, 0]).all(-1).nonzero().item()
    assert output.logits[-1, 0, query, labels[0, 0]].sigmoid() == scores[0, 0]


@torch.no_grad()
def test_boxes_are_shares_of_the_unpadded_image(detector: TransVOD) -> None:
    encoded = encode(detector, random_clip().images)
    center = encoded.output.boxes_xyxy[-1].unflatten(-1, (2, 2)).mean(-2)
    assert_close(center, encoded.boxes_cxcywh[..., :2] * torch.tensor([90.0, 60.0]))


def loss_of(detector: TransVOD) -> torch.Tensor:
    output = detector.train()(random_clip(), TARGETS)
    return SetCriterion(LossConfig())(output, TARGETS, num_boxes=1.0).total


def test_stage_one_trains_the_frame_detector_at_every_layer() -> None:
    detector = small_transvod(temporal=False)
    output = detector(random_clip(), TARGETS)
    assert len(output.logits) == 2
    loss_of(detector).backward()
    without = [name for name, weight in detector.named_parameters() if weight.grad is None]
    assert without == []


def test_stage_two_trains_the_temporal_part_only() -> None:
    detector = small_transvod()
    detector.freeze_frame_detector()
    assert len(detector(random_clip(), TARGETS).logits) == 1
    loss_of(detector).backward()
    trained = {name for name, weight in detector.named_parameters() if weight.grad is not None}
    assert trained == {name for name, _ in detector.named_parameters() if "temporal" in name}
    assert detector.temporal.query_layers[0].support_attention.in_proj_weight.grad.abs().sum() > 0


def test_dropout_stays_on_in_the_frozen_frame_detector() -> None:
    detector = small_transvod(dropout=0.5)
    detector.freeze_frame_detector()
    first, second = (encode(detector.train(), random_clip().images).queries for _ in range(2))
    assert not first.requires_grad
    assert (first - second).abs().max() > 0.1


def test_the_temporal_part_starts_with_the_boxes_of_the_frame_detector() -> None:
    detector = small_transvod().eval()
    clip = random_clip()
    output = detector(clip, [])
    assert_close(output.boxes_xyxy[0], output.proposals_xyxy)
    assert_close(output.proposals_xyxy, encode(detector, clip.images).output.boxes_xyxy[-1])


def test_a_few_steps_of_each_stage_lower_the_loss() -> None:
    for temporal in (False, True):
        detector = small_transvod(temporal=temporal)
        if temporal:
            detector.freeze_frame_detector()
        weights = [weight for weight in detector.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=2e-3)
        losses = []
        for _ in range(12):
            loss = loss_of(detector) / (1 if temporal else 2)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.9 * losses[0]
