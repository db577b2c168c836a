"""Weights files of strangers: no more memory than their size, and nothing but finite weights."""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsevod_core import weights_file
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


@pytest.mark.parametrize("is_old_format", [False, True])
def test_damaged_files_raise_no_other_error(is_old_format: bool, tmp_path: Path) -> None:
    import random

    contents = {"x": [torch.zeros(2), {"y": (1, "z")}], "rate": np.float64(0.1)}
    buffer = io.BytesIO()
    torch.save(contents, buffer, _use_new_zipfile_serialization=not is_old_format)
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


# --- the format of torch before 1.6 ---------------------------------------------------------------


def old_format(contents: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(contents, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_the_old_format(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    state = OrderedDict(a=shared[2:], b=shared.view(2, 3).t(), c=torch.ones(2).half())
    state["n"], state["empty"] = torch.tensor(7), torch.zeros(0, 3)
    contents = {"meta": {"CLASSES": ("a", "b"), "epoch": 7, "config": "x = 1"}, "state_dict": state}
    path = tmp_path / "a.pth"
    path.write_bytes(old_format(contents))
    read = read_weights(path)
    assert read["meta"] == contents["meta"]
    assert list(read["state_dict"]) == list(state)
    for name, value in state.items():
        assert torch.equal(read["state_dict"][name], value)
        assert read["state_dict"][name].dtype == value.dtype


@pytest.mark.parametrize("number", [-1, 5, 10**6, 10**9, 2**34, 2**60])
@pytest.mark.parametrize("what", ["storage", "tensor", "both", "content"])
def test_the_old_format_states_more_than_it_has(number: int, what: str, tmp_path: Path) -> None:
    content = old_format({"a": torch.zeros(4), "b": torch.zeros(10)})
    stated = b"\x8a\x08" + struct.pack("<q", number)
    storage = content.index(b"K\x04", content.index(b"storage"))
    tensor = content.index(b"K\x04", storage + 2)
    size = content.rindex(struct.pack("<q", 10))
    changes = {
        "storage": [(storage, 2, stated)],
        "tensor": [(tensor, 2, stated)],
        "both": [(tensor, 2, stated), (storage, 2, stated)],
        "content": [(size, 8, struct.pack("<q", number))],
    }
    for at, length, new in changes[what]:
        content = content[:at] + new + content[at + length :]
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(path) == f"{path}: truncated or corrupt"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_the_old_format_repeats_a_storage(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(old_format({"a": torch.zeros(1).expand(10**11)}))
    assert "much larger than the file: a" in refusal(path)
    path.write_bytes(old_format({"a": torch.eye(3).to_sparse()}))
    assert "expected dense tensors" in refusal(path)


def test_names_of_the_old_format_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_file, "MAX_PICKLE_BYTES", 10_000)
    path = tmp_path / "a.pth"
    path.write_bytes(old_format({"a": torch.zeros(100_000)}))  # tensors are not names
    assert read_weights(path)["a"].shape == (100_000,)
    for many in ("x" * 10_000, list(range(10_000))):
        path.write_bytes(old_format({"a": torch.zeros(1), "b": many}))
        assert "truncated or corrupt" in refusal(path)


# --- numpy's scalars ------------------------------------------------------------------------------


@pytest.mark.parametrize("is_old_format", [False, True])
@pytest.mark.parametrize("module", ["numpy._core", "numpy.core"])
def test_numpy_scalars_become_pythons(module: str, is_old_format: bool, tmp_path: Path) -> None:
    values = [np.float64(0.1), np.float32(0.5), np.int64(-3), np.uint8(200), np.bool_(True)]
    values += [np.str_("aé"), np.float16(2), np.dtype("f8")]
    path = saved(tmp_path, {"meta": {"values": values}})
    if is_old_format:
        path.write_bytes(old_format({"meta": {"values": values}}))
        as_text = b"numpy._core.multiarray", f"{module}.multiarray".encode()
        path.write_bytes(path.read_bytes().replace(*as_text))
    else:
        name = f"{module}.multiarray".encode()
        rewritten(
            path,
            zipfile.ZIP_STORED,
            lambda _, data: data.replace(b"numpy._core.multiarray", name),
        )
    *read, kind = read_weights(path)["meta"]["values"]
    assert read == [value.item() for value in values[:-1]]
    assert {type(value) for value in read} == {float, int, bool, str}
    assert kind == "f8"


class _Reduced:
    """Object that is pickled as the call of a function of numpy."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


SCALAR = np.float64(0).__reduce__()[0]


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3),
        np.array([None]),
        np.datetime64("2020-01-01"),
        np.complex128(1),
        np.zeros(1, "i4,f8")[0],
        np.random.default_rng(0),
        _Reduced(SCALAR, np.dtype("V1000000000")),
        _Reduced(SCALAR, np.dtype("f8"), b"short"),
        _Reduced(SCALAR, np.dtype("O"), [1]),
        _Reduced(SCALAR, "f8", bytes(8)),
        _Reduced(np.load, "a.npy"),
    ],
    ids=range(11),
)
def test_nothing_else_of_numpy_is_made(value: Any, tmp_path: Path) -> None:
    path = saved(tmp_path, {"meta": {"value": value}})
    message = refusal(path)
    assert "besides weights" in message or "numpy scalar" in message or "cannot read" in message
    path.write_bytes(old_format({"meta": {"value": value}}))
    refusal(path)


def test_the_allowed_names_are_forgotten(tmp_path: Path) -> None:
    path = saved(tmp_path, {"rate": np.float64(0.1)})
    before = set(torch.serialization.get_safe_globals())
    read_weights(path)
    assert set(torch.serialization.get_safe_globals()) == before
