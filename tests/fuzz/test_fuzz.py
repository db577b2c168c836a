"""Every reader of files from others answers mutated files with a result or with one clear error.

`make fuzz` runs ten times as many inputs as the test suite. The inputs depend only on the seed, so
a failure can be repeated; the offending file is kept beside the message.
"""

from __future__ import annotations

import os
import resource
import signal
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from fuzz_targets import TARGETS, Target

from sparsevod_core.errors import SparseVodError
from sparsevod_core.prepare.formats import FORMATS

SCALE = int(os.environ.get("SPARSEVOD_FUZZ_SCALE", "1"))
SEED = int(os.environ.get("SPARSEVOD_FUZZ_SEED", "0"))
MAX_SECONDS = 20
"""Time for one input; most take milliseconds. This is a test for hangs, not a benchmark."""
MAX_GROWTH_KIB = 3_000_000
"""Growth of the largest memory of this process over all inputs of a target: a few frames of as many
pixels as allowed."""


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_mutated_file_is_read_or_refused(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = target.write(tmp_path)
    original = file.read_bytes()
    target.read(tmp_path)  # the file is valid: without this, nothing would be tested
    at_first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(target.num_inputs * SCALE):
        random = Random(zlib.crc32(f"{target.name} {SEED} {number}".encode()))
        content = target.mutate(original, random)
        file.write_bytes(content)
        try:
            with _time_limit():
                target.read(tmp_path)
        except SparseVodError as error:
            assert "\n" not in error.message, error.message
            assert error.message
        except BaseException as error:
            kept = tmp_path / f"input_{number}{file.suffix}"
            kept.write_bytes(content)
            raise AssertionError(f"{target.name}, input {number}: {error!r} from {kept}") from error
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_first
    assert growth < MAX_GROWTH_KIB


class _TooSlowError(BaseException):
    pass


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooSlowError(f"took more than {MAX_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(MAX_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_every_reader_of_files_from_others_has_a_target() -> None:
    names = {target.name.split("-")[0] for target in TARGETS}
    assert names >= {
        *FORMATS,
        *("annotations", "imagenet", "degradations"),
        *("config", "data.yaml", "metrics", "journal", "predictions", "evaluation", "checkpoint"),
        *("video", "image", "classes", "list"),
    }
