"""Errors: one base class, exit codes, and pickling."""

from __future__ import annotations

import pickle

import pytest

from sparsevod_core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    SparseVodError,
    VideoError,
)


@pytest.mark.parametrize("kind", [ConfigError, DataError, VideoError, CheckpointError])
def test_every_error_is_caught_as_the_one_base(kind: type[SparseVodError]) -> None:
    with pytest.raises(SparseVodError) as caught:
        raise kind("a.json: no frames", hint="run sparsevod prepare-vid")
    assert caught.value.message == str(caught.value) == "a.json: no frames"
    assert caught.value.hint == "run sparsevod prepare-vid"


def test_only_wrong_use_exits_with_two() -> None:
    assert ConfigError.exit_code == 2
    assert {kind.exit_code for kind in (DataError, VideoError, CheckpointError)} == {1}


def test_an_error_crosses_a_process_border() -> None:
    # Loader workers send exceptions to the trainer by pickle.
    copy = pickle.loads(pickle.dumps(DataError("a.jpg: truncated", hint="fetch it again")))
    assert (type(copy), copy.message, copy.hint) == (
        DataError,
        "a.jpg: truncated",
        "fetch it again",
    )
