"""Compiled Triton kernels compared with plain PyTorch in fp64, also for the sizes of R50."""

from __future__ import annotations

import pytest
import torch
from small_model import ON_A_GPU

from sparsevod_core.kernels.frame_attention import attend_frames
from sparsevod_core.kernels.similarity import Keys
from sparsevod_core.kernels.weighted_rows import gathered

pytest.importorskip("triton", reason="Triton comes with PyTorch's builds for GPUs on Linux")

pytestmark = ON_A_GPU
DTYPES = [torch.float32, torch.bfloat16]
SIZES = {"small": (24, 3, 50, 70), "odd": (40, 1, 33, 257), "r50": (256, 6, 4900, 2432)}
"""Channels, support frames, RoI bins, positions of a map."""


def near(dtype: torch.dtype) -> dict[str, float]:
    return {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", generator=torch.Generator("cuda").manual_seed(0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_most_similar_positions(dtype, size, top_k) -> None:
    from sparsevod_core.kernels.triton_similarity import TritonKeys

    channels, supports, count, length = size
    rows = drawn(1, supports, length, channels).to(dtype)
    queries = drawn(1, count, channels).flip(1).to(dtype)
    valid = torch.ones(1, length, dtype=torch.bool, device="cuda")
    valid[:, length // 2 :: 3] = False
    keys = TritonKeys.of(rows, valid)
    positions, cosines = keys.top(queries, top_k)
    assert valid[0][positions.flatten().long()].all()
    assert (positions.sort(-1).values.diff(dim=-1) != 0).all()  # no position twice
    exact = (
        torch.nn.functional.normalize(queries.double(), dim=-1)[:, None]
        @ keys.directions.double().transpose(2, 3)
    ).masked_fill(~valid[:, None, None], float("-inf"))
    right = exact.topk(top_k, dim=-1).values
    of_positions = exact.gather(-1, positions.long()).sort(-1, descending=True).values
    error = 1e-5 if dtype == torch.float32 else 5e-3  # queries keep their dtype
    assert (right - of_positions).abs().max() < error
    torch.testing.assert_close(
        cosines.double(), exact.gather(-1, positions.long()), atol=error, rtol=0
    )


def test_in_fp32_ties_are_decided_as_they_are_by_plain_pytorch() -> None:
    from sparsevod_core.kernels.triton_similarity import TritonKeys

    rows = drawn(1, 2, 40, 32).repeat(1, 1, 5, 1)  # every position occurs five times
    queries = drawn(1, 70, 32).flip(1)
    valid = torch.ones(1, 200, dtype=torch.bool, device="cuda")
    for top_k in (1, 2, 4):
        plain, _ = Keys.of(rows, valid).top(queries, top_k)
        found, _ = TritonKeys.of(rows, valid).top(queries, top_k)
        assert torch.equal(found.long().sort(-1).values, plain.long().sort(-1).values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "m", "count"), [(24, 5, 13), (256, 16, 4900), (1, 1, 1)])
def test_weighted_rows_and_their_gradients(dtype, channels, m, count) -> None:
    from sparsevod_core.kernels.triton_weighted_rows import triton_weighted_rows

    rows = drawn(500, channels).to(dtype).requires_grad_()
    index = torch.randint(0, 500, (count, m), device="cuda")
    weights = drawn(count, m).softmax(-1).requires_grad_()
    wide_rows, wide_weights = (one.detach().double().requires_grad_() for one in (rows, weights))
    found, right = triton_weighted_rows(rows, index, weights), None
    right = (wide_rows[index] * wide_weights[..., None]).sum(1)
    torch.testing.assert_close(found.double(), right, **near(dtype))
    torch.testing.assert_close(found, gathered(rows, index, weights), **near(dtype))
    grad = drawn(count, channels)
    ours = torch.autograd.grad(found, (rows, weights), grad.to(dtype))
    theirs = torch.autograd.grad(right, (wide_rows, wide_weights), grad.to(dtype).double())
    for one, other in zip(ours, theirs, strict=True):
        share = (one.double() - other).norm() / other.norm()
        assert share < (1e-5 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("channels", "blocks", "supports", "count"), [(24, 4, 3, 9), (12, 3, 1, 5), (256, 4, 6, 4900)]
)
def test_attention_over_the_frames(dtype, channels, blocks, supports, count) -> None:
    from sparsevod_core.kernels.triton_frame_attention import triton_attend_frames

    own, others = drawn(1, count, channels), drawn(1, supports, count, channels)
    given = [one.to(dtype) for one in (own, others, own.flip(1), others.flip(1))]
    found = triton_attend_frames(*given, blocks)
    right = attend_frames(*(one.double() for one in given), blocks)
    torch.testing.assert_close(found.double(), right, **near(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("residual", ["none", "same", "half"])
@pytest.mark.parametrize("shape", [(2, 24, 6, 10), (1, 256, 152, 256)])
def test_one_pass_after_a_convolution(dtype, relu, residual, shape) -> None:
    from sparsevod_core.kernels.triton_bias_act import bias_act

    layout = {"memory_format": torch.channels_last}
    maps, bias = drawn(*shape).to(dtype).contiguous(**layout), drawn(shape[1])
    batch, channels, height, width = shape
    added = None
    right = maps.double() + bias.double()[:, None, None]
    if residual == "same":
        added = drawn(*shape).flip(0, 1).to(dtype).contiguous(**layout)
        right = right + added.double()
    if residual == "half":
        added = drawn(batch, channels, height // 2, width // 2).to(dtype).contiguous(**layout)
        right = right + torch.nn.functional.interpolate(added.double(), scale_factor=2)
    right = right.relu() if relu else right
    torch.testing.assert_close(bias_act(maps, bias, added, relu).double(), right, **near(dtype))
