"""The fast detector against the plain one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sparsevod_core.benchmark.accuracy import stage_differences
from sparsevod_core.config import load_config
from sparsevod_core.fast import FastDetector, SupportBank, temporal_roi
from sparsevod_core.model.build import build_detector

SIZE = (60, 90)


def build(**changes):
    """Random weights, SPFA's output too: at its zero start it could not be seen."""
    torch.manual_seed(0)
    base = load_config("tiny").model
    config = dataclasses.replace(base, num_classes=4, num_proposals=6, **changes)
    detector = build_detector(config).eval()
    for stage in detector.stages:
        if stage.aggregation is not None:
            torch.nn.init.normal_(stage.aggregation.output.weight, std=0.05)
    return detector


def frames(count: int):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 64, 96), dtype=torch.uint8, generator=generator)
    images[:, :, SIZE[0] :, :] = 0
    images[..., SIZE[1] :] = 0
    return images, torch.tensor([SIZE] * count)


@torch.inference_mode()
def outputs(model, targets: int = 2, supports: int = 3):
    images, sizes = frames(targets + supports)
    memory = model.remember(images[targets:], SIZE) if supports else None
    return model.detect(images[:targets], sizes[:targets], memory)


VARIANTS = {
    "paper": {},
    "p5": {"support_level": "p5"},
    "one position": {"tfe_top_k": 1},
    "four positions": {"tfe_top_k": 4},
    "averages": {"tfe": "average", "spfa": "average"},
    "spfa alone": {"tfe": "off"},
    "tfe alone": {"spfa": "off"},
    "neither": {"tfe": "off", "spfa": "off"},
}


@pytest.mark.parametrize("supports", [3, 1, 0])
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_in_fp32_the_numbers_are_the_same(changes: dict, supports: int) -> None:
    detector = build(**changes)
    plain, fast = (
        outputs(detector, supports=supports),
        outputs(FastDetector(detector, torch.float32), supports=supports),
    )
    torch.testing.assert_close(fast.logits, plain.logits, atol=1e-4, rtol=0)
    # Boxes of hundreds of pixels, and what stage after stage makes of rounding.
    torch.testing.assert_close(fast.boxes_xyxy, plain.boxes_xyxy, atol=0.03, rtol=0)
    torch.testing.assert_close(fast.proposals_xyxy, plain.proposals_xyxy)


def test_maps_that_are_too_large_for_taps(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = build()
    with_taps = outputs(FastDetector(detector, torch.float32))
    monkeypatch.setattr(temporal_roi, "MOST_POSITIONS", 10)
    fast = FastDetector(detector, torch.float32)
    images, _ = frames(2)
    with torch.inference_mode():
        assert fast.remember(images, SIZE).maps.taps == ()
    torch.testing.assert_close(outputs(fast).logits, with_taps.logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("level", ["p2", "p5"])
def test_each_stage_is_close(level: str) -> None:
    detector = build(support_level=level)
    images, _ = frames(5)
    # Untrained weights move boxes by their own size, and attend to what rounding turns: a trained
    # model is within 0.06 and 1.4 % in bf16 (benchmarks/README.md).
    for dtype, logits, share in ((torch.float32, 1e-4, 1e-4), (torch.bfloat16, 0.2, 0.05)):
        fast = FastDetector(detector, dtype)
        for shared_maps in (True, False):
            stages = stage_differences(
                detector, fast, images[:2], images[2:], SIZE, shared_maps=shared_maps
            )
            assert len(stages) == 3
            for stage in stages:
                assert 0 < stage.logits < logits
                assert stage.boxes_share[0] < share


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"tfe": "off"}, {"spfa": "average"}], ids=str)
def test_banks_of_single_frames_make_one(dtype: torch.dtype, changes: dict) -> None:
    fast = FastDetector(build(**changes), dtype)
    images, sizes = frames(4)
    banks = [fast.remember(images[number : number + 1], SIZE) for number in (1, 2, 3)]
    joined = SupportBank.joined(banks)
    assert joined.num_supports == 3
    assert joined.nbytes == sum(bank.nbytes for bank in banks)
    together = fast.detect(images[:1], sizes[:1], fast.remember(images[1:], SIZE))
    apart = fast.detect(images[:1], sizes[:1], joined)
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(apart.logits, together.logits, atol=tolerance, rtol=0)


def test_the_trained_detector_can_still_be_trained() -> None:
    detector = build().train()
    FastDetector(detector, torch.float32)
    assert detector.training and detector.proposals.training
    assert detector.proposals.features.requires_grad
    assert all(parameter.dtype == torch.float32 for parameter in detector.parameters())


def test_later_changes_of_the_weights_do_not_matter() -> None:
    detector = build()
    fast = FastDetector(detector, torch.float32)
    before = outputs(fast)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(1)
    torch.testing.assert_close(outputs(fast).logits, before.logits)
