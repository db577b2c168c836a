"""Triton kernels compared with plain PyTorch, in Triton's interpreter if there is no GPU."""

from __future__ import annotations

import pytest
import torch

from sparsevod_core.kernels.frame_attention import attend_frames
from sparsevod_core.kernels.weighted_rows import bagged, gathered

pytest.importorskip("triton", reason="Triton comes with PyTorch's builds for GPUs on Linux")

from sparsevod_core.kernels.triton_frame_attention import triton_attend_frames
from sparsevod_core.kernels.triton_weighted_rows import triton_weighted_rows

DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("other", [bagged, triton_weighted_rows], ids=["bags", "triton"])
@pytest.mark.parametrize(("channels", "m", "count"), [(24, 5, 13), (64, 16, 4), (1, 1, 1)])
def test_weighted_rows_and_their_gradients(dtype, other, channels, m, count) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(50, channels, generator=generator).to(dtype).requires_grad_()
    index = torch.randint(0, 50, (count, m), generator=generator)
    weights = torch.randn(count, m, generator=generator)
    weights[0, 0] = 0
    weights.requires_grad_()
    plain, found = gathered(rows, index, weights), other(rows, index, weights)
    assert found.dtype == dtype
    exact = (rows.double()[index] * weights.double()[..., None]).sum(1)
    # Triton's interpreter truncates to bf16, whereas a GPU rounds.
    near = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 1e-2, "rtol": 2**-7}
    torch.testing.assert_close(found.double(), exact, **near)
    grad = torch.randn(plain.shape, generator=generator).to(dtype)
    right = torch.autograd.grad(plain, (rows, weights), grad)
    for ours, reference in zip(
        torch.autograd.grad(found, (rows, weights), grad), right, strict=True
    ):
        wide = (
            {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
        )
        torch.testing.assert_close(ours, reference, **wide)


def test_no_rows_are_asked_for() -> None:
    rows = torch.randn(5, 8)
    nothing = torch.zeros(0, 3, dtype=torch.long)
    assert triton_weighted_rows(rows, nothing, torch.zeros(0, 3)).shape == (0, 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "blocks"), [(24, 4), (64, 1), (12, 3)])
@pytest.mark.parametrize("supports", [1, 6])
def test_attention_over_the_frames(dtype, channels, blocks, supports) -> None:
    generator = torch.Generator().manual_seed(1)

    def features(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, channels, generator=generator).to(dtype)

    given = (features(2, 9), features(2, supports, 9), features(2, 9), features(2, supports, 9))
    plain = attend_frames(*(one.float() for one in given), blocks)
    found = triton_attend_frames(*given, blocks)
    assert found.dtype == dtype
    near = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.float(), plain, atol=near, rtol=near)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_operators_are_what_torch_expects_of_one(dtype) -> None:
    """Schema, fake tensors and gradients, as `torch.compile` and `FakeTensorMode` need them."""
    rows = torch.randn(6, 16).to(dtype).requires_grad_()
    index, weights = torch.randint(0, 6, (4, 3)), torch.rand(4, 3, requires_grad=True)
    torch.library.opcheck(triton_weighted_rows, (rows, index, weights))
    frames = [torch.randn(1, 4, 16).to(dtype), torch.randn(1, 2, 4, 16).to(dtype)]
    torch.library.opcheck(triton_attend_frames, (*frames, *frames, 4))
