"""Operations per frame against formulas, and what is kept of a video."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sparsevod_core.benchmark.cost import frame_cost
from sparsevod_core.benchmark.kept import filled, keep, mib_of
from sparsevod_core.config import load_config
from sparsevod_core.model.build import build_detector

SIZE = (64, 96)
POSITIONS = 4 * 6
SUPPORTS = 3


def build(system, **changes):
    torch.manual_seed(0)
    config = load_config("tiny", system=system).model
    head = dataclasses.replace(config.faster_rcnn, **changes)
    return build_detector(dataclasses.replace(config, num_classes=4, faster_rcnn=head)).eval()


def image():
    return torch.randint(0, 256, (1, 3, *SIZE), dtype=torch.uint8), torch.tensor([SIZE])


def cost(detector, supports=SUPPORTS, global_supports=0):
    found = frame_cost(detector, *image(), supports, global_supports)
    published = 0 if found.published is None else found.published
    return round(found.kept * 1e9), round((published - found.kept) * 1e9)


def linear(rows, inputs, outputs):
    return 2 * rows * inputs * outputs


C, F, N, K = 64, 128, 48, 4  # channels, head width, proposals, classes of the tiny preset
RPN = linear(POSITIONS, 9 * C, C) + linear(POSITIONS, C, 12 * 5)
FC = linear(N, 49 * C, F)
KEYS_AND_VALUES = 4 * linear(N, F, F)  # at two layers


def test_selsa():
    detector = build("selsa")
    kept, again = cost(detector)
    # The reference runs RPN and head of the supports, and once more of the target.
    of_support = RPN + FC + linear(N, F, F) + KEYS_AND_VALUES
    assert again == SUPPORTS * of_support + RPN + FC
    # One more support frame costs its share of the attention only.
    more, _ = cost(detector, SUPPORTS + 1)
    assert more - kept == 2 * 2 * linear(N, F, N)
    alone = frame_cost(detector, *image(), 0)
    assert alone.published is None and alone.kept < kept / 1e9


def test_temporal_roi_align_as_published_embeds_all_frames():
    detector = build("troi", head_layers=2)
    _, again = cost(detector)
    of_support = RPN + FC + linear(N, F, F) + KEYS_AND_VALUES
    attention = detector.temporal_roi.aggregation
    embedding = (SUPPORTS + 2) * linear(N * 49, 9 * C, C)
    # Folded: the target's embedding, the transposed convolution, and products with all frames.
    places = N * 64
    folded = linear(N * 49, 9 * C, C) + linear(places, C, 9 * C)
    folded += attention.blocks * linear(places, 9 * C, SUPPORTS + 2)
    assert again == SUPPORTS * of_support + RPN + embedding - folded


def test_mamba_as_published_projects_the_rows_it_reads():
    detector = build("mamba")
    detector.bank_rows, detector.read_rows = 100, 40
    _, again = cost(detector)
    assert again == 4 * linear(40, F, F)


def test_fgfa_as_published_keeps_everything():
    assert cost(build("fgfa"))[1] == 0


def test_transvod_as_published_encodes_every_support_frame():
    detector = build("transvod")
    kept, again = cost(detector)
    assert again % SUPPORTS == 0 and again / SUPPORTS < kept


def test_mega_as_published_encodes_two_frames_and_half_of_the_target():
    detector = build("mega")
    kept, again = cost(detector, SUPPORTS, 2)
    assert kept / 2 < again < 4 * kept


@torch.inference_mode()
def test_a_filled_state_is_as_large_as_after_many_frames():
    images = torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8)
    for system in ("mamba", "mega"):
        detector = build(system)
        if system == "mamba":
            detector.bank_rows = 200
        sizes = torch.tensor([SIZE] * 4)
        memory = keep(detector, images, sizes, 3).memory
        target, state, first = detector.encode(images[:1], sizes[:1]), None, None
        for _ in range(30):
            _, state = detector.advance(target, memory, state)
            first = first or state
        assert mib_of(filled(detector, first)) == pytest.approx(mib_of(state), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "kept", "published"),
    [("selsa", 241, 688), ("transvod", 184, 2700), ("mamba", 232, 248), ("mega", 260, 730)],
)
def test_the_sizes_of_the_papers(system, kept, published):
    torch.manual_seed(0)
    config = load_config("r50", system=system)
    detector = build_detector(config.model).eval()
    frame = torch.randint(0, 256, (1, 3, 608, 1008), dtype=torch.uint8)
    found = frame_cost(detector, frame, torch.tensor([[600, 1000]]), config.inference.supports, 10)
    assert found.kept == pytest.approx(kept, rel=0.03)
    assert found.published == pytest.approx(published, rel=0.03)
