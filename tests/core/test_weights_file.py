"""Weights files of strangers: no more memory than their size, and nothing but finite weights."""

from __future__ import annotations

import io
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsevod_core.checkpoint import load_detector
from sparsevod_core.embedded import embedded_checkpoint
from sparsevod_core.errors import CheckpointError
from sparsevod_core.weights_file import read_weights, require_finite


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert "\n" not in caught.value.message
    return caught.value.message


def saved(folder: Path, contents: Any) -> Path:
    torch.save(contents, folder / "a.pth")
    return folder / "a.pth"


def rewritten(path: Path, kind: int, change: Callable[[str, bytes], bytes]) -> None:
    records = {}
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))


def test_compressed_records_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.zeros(1)})
    large = bytes(2**28)
    rewritten(path, zipfile.ZIP_DEFLATED, lambda name, data: large if "data/0" in name else data)
    del large
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(path) == f"{path}: not a PyTorch file: its records are compressed or overlap"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_overlapping_records(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.zeros(1000)})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = archive.start_dir
    at = content.index(b"PK\x01\x02", entry)
    content[at + 24 : at + 28] = (10**9).to_bytes(4, "little")
    path.write_bytes(content)
    assert "compressed or overlap" in refusal(path)


@pytest.mark.parametrize(
    ("numel", "size"), [(10**9, 10**9), (4, 10**9), (10**6, 10**6), (2**60, 2**60)]
)
def test_a_tensor_that_states_more_than_the_file_has(numel: int, size: int, tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.zeros(4), "b": torch.zeros(10)})

    def enlarged(name: str, content: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return content
        # The numbers of elements of the storage and of the tensor: K\x04, as one-byte integers.
        assert content.count(b"K\x04") == 2
        stated = [b"\x8a\x08" + number.to_bytes(8, "little") for number in (numel, size)]
        return content.replace(b"K\x04", stated[0], 1).replace(b"K\x04", stated[1], 1)

    rewritten(path, zipfile.ZIP_STORED, lambda name, content: content)
    read_weights(path)  # an archive that was only rewritten is right
    rewritten(path, zipfile.ZIP_STORED, enlarged)
    assert refusal(path).startswith(f"{path}: cannot read weights: ")


def test_a_view_that_repeats_one_number(tmp_path: Path) -> None:
    assert "much larger than the file: a" in refusal(
        saved(tmp_path, {"a": torch.zeros(1).expand(10**11)})
    )


@pytest.mark.parametrize(
    "value",
    [
        torch.eye(3).to_sparse(),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(2, device="meta"),
        torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "complex", "meta", "quantized"],
)
def test_only_dense_tensors_of_numbers(value: Tensor, tmp_path: Path) -> None:
    with torch.no_grad():
        message = refusal(saved(tmp_path, {"model": {"x.weight": value}}))
    assert message.startswith(f"{tmp_path / 'a.pth'}: expected ")
    assert message.endswith(": x.weight")


def test_deep_nesting(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": 1})
    deep = b"\x80\x02" + b"]" * 30_000 + b"a" * 29_999 + b"."
    rewritten(path, zipfile.ZIP_STORED, lambda name, data: deep if "data.pkl" in name else data)
    assert "nested" in refusal(path)
    path.write_bytes(pickle.dumps([1], 2) + b"\0" * 100)
    refusal(path)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    assert "expected a file, got a named pipe" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38, -1e12])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_must_be_finite(value: float, kind: torch.dtype) -> None:
    weights = {
        "a": torch.zeros(3),
        "empty": torch.zeros(0),
        "b": torch.tensor([0, value], dtype=kind),
    }
    with pytest.raises(CheckpointError, match=r"f\.pth: the weights are not finite: b contains"):
        require_finite("f.pth", weights)


def test_no_detector_from_weights_that_are_not_finite(tmp_path: Path) -> None:
    contents = torch.load(embedded_checkpoint(), weights_only=True)
    contents["model"]["proposals.features"][0, 0] = float("nan")
    path = saved(tmp_path, contents)
    with pytest.raises(CheckpointError, match=r"the weights are not finite: proposals\.features"):
        load_detector(path)


def test_damaged_files_raise_no_other_error(tmp_path: Path) -> None:
    import random

    buffer = io.BytesIO()
    torch.save({"format": "sparsevod/1", "x": [torch.zeros(2), {"y": (1, "z")}]}, buffer)
    whole, path = buffer.getvalue(), tmp_path / "a.pth"
    for seed in range(200):
        chance, content = random.Random(seed), bytearray(whole)
        for _ in range(chance.choice([1, 3])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            read_weights(path)
        except CheckpointError as error:
            assert "\n" not in error.message
