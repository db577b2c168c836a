"""Downloads of published weights from a server that fails in every way, into the cache."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import weights_server

from sparsevod_core.errors import CheckpointError, ConfigError, DataError
from sparsevod_core.weights import download
from sparsevod_core.weights.cache import cache_folder, fetch
from sparsevod_core.weights.registry import BASE_URL, PUBLISHED, PublishedWeights

CONTENT = b"PK\x03\x04" + bytes(range(251)) * 20_000  # 5 MB
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
WEIGHTS = PublishedWeights("tiny", f"mmtracking/tiny-{DIGITS}.pth", "SELSA", "r50", "VID", 30)
NO_DIGITS = PublishedWeights("flow", "mmtracking/flow.pth", "FlowNetSimple", None, "Chairs")


class Said:
    """Reporter that keeps messages, warnings and the largest progress."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progresses: list[list[int | None]] = []

    def progress(self, label: str, total: int | None, unit: str = "frames") -> Any:
        from contextlib import nullcontext

        done: list[int | None] = [0, total]
        self.progresses.append(done)

        class Task:
            def advance(self, steps: int = 1, note: str = "") -> None:
                done[0] += steps  # type: ignore[operator]

        return nullcontext(Task())

    def message(self, text: str) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.lines.append(f"warning: {text}")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[weights_server.WeightsServer]:
    with weights_server.running() as state:
        state.files = {f"/{one.path}": CONTENT for one in (WEIGHTS, NO_DIGITS)}
        monkeypatch.setenv("SPARSEVOD_WEIGHTS_URL", state.url)
        monkeypatch.setattr(download, "PAUSES_S", (0.01, 0.01))
        monkeypatch.setattr(download, "ENOUGH_BYTES", 2**18)
        yield state


def refusal(folder: Path, weights: PublishedWeights = WEIGHTS) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        fetch(weights, folder)
    assert "\n" not in caught.value.message
    return caught.value


def only_file(folder: Path, weights: PublishedWeights = WEIGHTS) -> None:
    assert [path.name for path in folder.iterdir()] == [weights.file_name]
    assert (folder / weights.file_name).read_bytes() == CONTENT


def test_it_is_downloaded_once_and_described(server: Any, tmp_path: Path) -> None:
    said = Said()
    for _ in range(2):
        assert fetch(WEIGHTS, tmp_path / "new", said) == tmp_path / "new" / WEIGHTS.file_name
    only_file(tmp_path / "new")
    assert len(server.requests) == 1
    what, where = said.lines
    assert "SELSA with r50 by MMTracking" in what and "30 classes" in what and "Apache-2.0" in what
    assert server.url in where and str(tmp_path) in where
    assert said.progresses == [[5, 5]]  # MiB, rounded up


def test_the_folder_and_address_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hub" / "checkpoints"
    monkeypatch.setenv("SPARSEVOD_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("SPARSEVOD_WEIGHTS_URL", f"file://{tmp_path}/")
    with pytest.raises(ConfigError, match="SPARSEVOD_WEIGHTS_URL=file:"):
        fetch(WEIGHTS)


def test_a_cut_connection_is_continued(server: Any, tmp_path: Path) -> None:
    server.answers = [2_000_000, 1_500_000, 0]
    said = Said()
    fetch(WEIGHTS, tmp_path, said)
    only_file(tmp_path)
    assert server.ranges() == [None, "bytes=2000000-", "bytes=3500000-", "bytes=3500000-"]
    assert [headers.get("If-Range") for _, headers in server.requests] == [None, *['"1"'] * 3]
    assert "broke off after 2.0 MB" in said.lines[2]
    assert said.progresses[-1] == [5, 5]


@pytest.mark.parametrize("states_length", [True, False])
def test_a_server_without_ranges_starts_over(
    server: Any, states_length: bool, tmp_path: Path
) -> None:
    server.has_ranges, server.states_length = False, states_length
    if states_length:
        server.answers = [2_000_000]
    fetch(WEIGHTS, tmp_path)
    only_file(tmp_path)


@pytest.mark.parametrize("heeds_versions", [True, False])
def test_a_file_that_changes_meanwhile_starts_over(
    server: Any, heeds_versions: bool, tmp_path: Path
) -> None:
    """The part that came first is of another version."""
    server.heeds_versions = heeds_versions
    server.answers = [2_000_000]
    server.goes_on.clear()
    path = f"/{NO_DIGITS.path}"
    server.files[path] = b"PK\x03\x04" + bytes(5_000_000)
    thread = threading.Thread(target=fetch, args=(NO_DIGITS, tmp_path))
    thread.start()
    while not server.requests:
        time.sleep(0.01)
    server.files[path], server.etag = CONTENT, '"2"'
    server.goes_on.set()
    thread.join()
    only_file(tmp_path, NO_DIGITS)
    assert server.requests[1][1]["If-Range"] == '"1"'


def test_it_gives_up_if_nothing_comes(server: Any, tmp_path: Path) -> None:
    server.answers = [2_000_000, 0, 0]
    assert "tiny: cannot download" in refusal(tmp_path).message
    assert len(server.requests) == 3
    (partial,) = tmp_path.iterdir()
    assert partial.read_bytes() == CONTENT[:2_000_000]
    fetch(WEIGHTS, tmp_path)
    only_file(tmp_path)
    assert server.ranges()[-1] == "bytes=2000000-"


@pytest.mark.parametrize("size", [2_000_000, len(CONTENT), len(CONTENT) + 10])
@pytest.mark.parametrize("is_same", [True, False])
def test_what_a_killed_process_left(server: Any, size: int, is_same: bool, tmp_path: Path) -> None:
    content = CONTENT if is_same else bytes(len(CONTENT))
    (tmp_path / f"{WEIGHTS.file_name}.partial").write_bytes((content + bytes(10))[:size])
    fetch(WEIGHTS, tmp_path)
    only_file(tmp_path)
    if is_same:
        rest = {2_000_000: ["bytes=2000000-"], len(CONTENT): []}
        assert server.ranges() == rest.get(size, [f"bytes={size}-", None])


def test_without_digits_only_a_running_download_is_continued(server: Any, tmp_path: Path) -> None:
    (tmp_path / f"{NO_DIGITS.file_name}.partial").write_bytes(CONTENT[:1000])
    server.answers = [2_000_000]
    fetch(NO_DIGITS, tmp_path)
    only_file(tmp_path, NO_DIGITS)
    assert server.ranges() == [None, "bytes=2000000-"]


def test_wrong_content(server: Any, tmp_path: Path) -> None:
    server.files[f"/{WEIGHTS.path}"] = CONTENT[:-1] + b"x"
    assert "its SHA-256 starts with " in refusal(tmp_path).message
    assert list(tmp_path.iterdir()) == []
    server.files[f"/{NO_DIGITS.path}"] = b"<html>log in</html>"
    assert "not a PyTorch file: it starts with b'<html>" in refusal(tmp_path, NO_DIGITS).message
    assert list(tmp_path.iterdir()) == []


def test_http_errors(server: Any, tmp_path: Path) -> None:
    server.answers = ["500", "503"]
    fetch(WEIGHTS, tmp_path / "a")
    only_file(tmp_path / "a")
    assert len(server.requests) == 3
    server.answers = ["500"] * 3
    assert "HTTP error 500" in refusal(tmp_path / "b").message
    server.requests.clear()
    server.answers = ["404"]
    error = refusal(tmp_path / "b")
    assert "HTTP error 404" in error.message and f"{server.url}/{WEIGHTS.path}" in error.message
    assert len(server.requests) == 1
    assert list((tmp_path / "b").iterdir()) == []


def test_redirections(server: Any, tmp_path: Path) -> None:
    server.files["/elsewhere"] = CONTENT
    server.answers = [f"{server.url}/elsewhere"]
    fetch(WEIGHTS, tmp_path / "a")
    only_file(tmp_path / "a")
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/a"):
        server.answers = [target]
        message = refusal(tmp_path / "b").message
        assert "edirection" in message and target in message
    server.answers = [f"{server.url}/{WEIGHTS.path}"] * 20
    assert "redirect" in refusal(tmp_path / "b").message
    request = download.urllib.request.Request("https://a/b")
    with pytest.raises(download.DownloadError, match="from https to http://a"):
        download._Redirects().redirect_request(request, None, 302, "", {}, "http://a/c")  # type: ignore[arg-type]


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    monkeypatch.setenv("SPARSEVOD_WEIGHTS_URL", f"http://127.0.0.1:{free_port}/mirror/")
    error = refusal(tmp_path)
    url = f"http://127.0.0.1:{free_port}/mirror/{WEIGHTS.path}"
    assert error.message == f"tiny: cannot download {url}: Connection refused"
    assert error.hint is not None and f"save it as {tmp_path / WEIGHTS.file_name}" in error.hint
    assert list(tmp_path.iterdir()) == []


def test_a_proxy_of_the_environment(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("SPARSEVOD_WEIGHTS_URL", "http://weights.invalid")
    server.files[f"http://weights.invalid/{WEIGHTS.path}"] = CONTENT
    fetch(WEIGHTS, tmp_path)
    only_file(tmp_path)


def test_a_server_that_says_nothing(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.2)
    server.goes_on.clear()
    assert "timed out" in refusal(tmp_path).message


def test_a_file_that_is_too_large(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 2_000_000)
    said = f"expected at most 2,000,000 bytes, the server has {len(CONTENT):,}"
    assert said in refusal(tmp_path).message
    server.states_length = False
    assert "expected at most 2,000,000 bytes, got more" in refusal(tmp_path).message
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(DataError, match=rf"{DIGITS}\.pth: cannot write: File too large"):
            fetch(WEIGHTS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    empty = os.statvfs_result((4096, 4096, 100, 50, 50, 10, 10, 10, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _: empty)
    free = f"{len(CONTENT):,} bytes needed, 204,800 free"
    with pytest.raises(DataError, match=f"cannot write: No space left on device: {free}"):
        fetch(WEIGHTS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(server: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        fetch(WEIGHTS, tmp_path / "file" / "cache")


# --- files that users save ------------------------------------------------------------------------


def test_a_file_that_was_saved_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEVOD_WEIGHTS_URL", "http://127.0.0.1:1")
    file = tmp_path / WEIGHTS.file_name
    file.write_bytes(CONTENT)
    assert fetch(WEIGHTS, tmp_path) == file
    file.write_bytes(CONTENT[:-1])
    error = refusal(tmp_path)
    assert f"{file}: not the weights tiny: its SHA-256 starts with " in error.message
    assert error.hint is not None and "remove the file" in error.hint
    assert file.exists()  # it is not ours
    file.unlink()
    file.mkdir()
    assert "expected a file, got a folder" in refusal(tmp_path).message


# --- processes ------------------------------------------------------------------------------------

FETCH = """
import sys
from pathlib import Path
from sparsevod_core.weights.cache import fetch
from sparsevod_core.weights.registry import PublishedWeights
class Reporter:
    def message(self, text): print(text, flush=True)
    warning = message
    def progress(self, *_):
        from sparsevod_core.reporting import SilentReporter
        return SilentReporter().progress("", None)
weights = PublishedWeights("tiny", sys.argv[1], "SELSA", "r50", "VID", 30)
fetch(weights, Path(sys.argv[2]), Reporter())
"""


def started(folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", FETCH, WEIGHTS.path, str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("first_is_killed", [False, True])
def test_two_processes_at_once(server: Any, first_is_killed: bool, tmp_path: Path) -> None:
    """One downloads and the other waits; if the first is killed, the second continues."""
    server.goes_on.clear()
    partial = tmp_path / f"{WEIGHTS.file_name}.partial"
    first = started(tmp_path)
    wait_for(lambda: partial.exists() and partial.stat().st_size == len(CONTENT) // 2)
    second = started(tmp_path)
    assert second.stdout is not None and first.stdout is not None
    said = [second.stdout.readline() for _ in range(2)]
    assert "waiting for another process that downloads" in said[1]
    if first_is_killed:
        first.send_signal(signal.SIGKILL)
        assert first.wait(60) == -signal.SIGKILL
    server.goes_on.set()
    assert second.wait(60) == 0
    assert first.wait(60) == (-signal.SIGKILL if first_is_killed else 0)
    only_file(tmp_path)
    continued = [f"bytes={len(CONTENT) // 2}-"] if first_is_killed else []
    assert server.ranges() == [None, *continued]
    first.stdout.close()
    second.stdout.close()


# --- the list -------------------------------------------------------------------------------------


def test_the_list_is_consistent() -> None:
    files = [weights.file_name for weights in PUBLISHED.values()]
    assert len(files) == len(set(files)) == 12
    assert BASE_URL.startswith("https://") and BASE_URL.endswith("/")
    for name, weights in PUBLISHED.items():
        assert name == weights.name
        assert len(weights.digits) == (0 if name == "flownet-simple" else 8)
        assert weights.is_detector == (name != "flownet-simple")
        assert (weights.metric, weights.num_classes) in (("AP50", 30), ("AP", 80), (None, None))
        for part in ("r50", "r101", "x101"):
            assert (f"-{part}-" in name) == (f"_{part}_" in weights.path)
