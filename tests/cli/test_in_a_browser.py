"""The stage page and the videos, in headless Chromium."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsevod_core.figures.stage_html import stage_html
from sparsevod_core.figures.stage_view import LayerAttention, StageNames, StageView, SupportFrame
from sparsevod_core.video.containers import Encoding
from sparsevod_core.video.writer import VideoWriter

NAMES = ["</script><b>cat</b>", "dog"]
STAGES, PROPOSALS, SUPPORTS, BINS = 3, 4, 2, 49


def view(shift: int = 0) -> StageView:
    """Proposal 0 ends on a cat, 1 on a dog, 2 and 3 on nothing; the scores of 0 rise."""
    learned = np.array(
        [[0, 0, 80, 45], [80, 0, 160, 45], [0, 45, 80, 90], [80, 45, 160, 90]], np.float32
    )
    boxes = np.stack([learned] * STAGES)
    boxes[1:, 0] = [10 + shift, 10, 50 + shift, 50]
    boxes[1:, 1] = [90, 20, 150, 80]
    scores = np.full((STAGES, PROPOSALS), 0.05, np.float32)
    scores[:, 0], scores[:, 1] = [0.2, 0.5, 0.9], [0.1, 0.4, 0.7]
    labels = np.zeros((STAGES, PROPOSALS), np.int64)
    labels[:, 1] = 1
    spfa = np.full((PROPOSALS, SUPPORTS + 1, PROPOSALS), 0.02, np.float32)
    spfa[0, 1, 2] = 0.8
    picture = np.full((90, 160, 3), 70, np.uint8)
    attention = []
    for stage in range(1, STAGES + 1):
        attention += [
            LayerAttention(
                name="SPFA",
                stage=stage,
                weights=spfa.sum(-1),
                boxes_xyxy=np.stack([learned] * SUPPORTS),
                proposals=spfa[:, :SUPPORTS],
            ),
            LayerAttention(
                name="TFE",
                stage=stage,
                weights=np.full((PROPOSALS, SUPPORTS + 1), 1 / 3, np.float32),
                points=np.full((PROPOSALS, SUPPORTS, BINS, 2), 33, np.float32),
                point_weights=np.full((PROPOSALS, SUPPORTS, BINS), 1 / 3, np.float32),
            ),
        ]
    return StageView(
        picture,
        learned,
        boxes,
        scores,
        labels,
        supports=(SupportFrame(0, picture), SupportFrame(30, picture)),
        attention=tuple(attention),
    )


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    text = stage_html(
        [view(), view(20)],
        NAMES,
        score=0.3,
        names=StageNames("Learned proposals", "learned box", "", ("Stage 1", "Stage 2", "Stage 3")),
        caption="A & B",
        times_s=[0.5, None],
        indices=[5, 9],
    )
    file = tmp_path / "stages.html"
    file.write_text(text, encoding="utf-8")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(file.as_uri())
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def shown(page: Any) -> dict[int, str]:
    """Proposals that are drawn, and their labels."""
    groups = page.find_elements("css selector", "#target g")
    return {int(group.get_attribute("data-proposal")): group.text for group in groups}


def move(page: Any, slider: str, value: float) -> None:
    page.execute_script(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
        "s.dispatchEvent(new Event('input'));",
        slider,
        value,
    )


def test_sliders_over_stages_frames_and_scores(page: Any) -> None:
    assert shown(page) == {0: "</script><b>cat</b> 0.90", 1: "dog 0.70"}
    move(page, "stage", 2)
    assert shown(page) == {0: "</script><b>cat</b> 0.50", 1: "dog 0.40"}
    move(page, "score", 0.45)
    assert list(shown(page)) == [0]
    move(page, "stage", 0)
    assert sorted(shown(page)) == [0, 1, 2, 3]  # all learned proposals
    move(page, "stage", 3)
    move(page, "frame", 1)
    assert page.find_element("id", "frame-name").text == "9"
    box = page.find_element("css selector", "#target g[data-proposal='0'] rect")
    assert float(box.get_attribute("x")) == 30
    path = page.find_element("css selector", "#target polyline").get_attribute("points")
    assert path.count(",") == 4  # the learned box and three stages


def test_hover_tells_the_scores_of_every_stage(page: Any) -> None:
    from selenium.webdriver import ActionChains

    box = page.find_element("css selector", "#target g[data-proposal='1'] rect")
    ActionChains(page).move_to_element(box).perform()
    tip = page.find_element("id", "tip")
    assert tip.is_displayed()
    assert tip.text.splitlines() == [
        "proposal 1: dog",
        "stage 1: 0.100 dog",
        "stage 2: 0.400 dog",
        "stage 3: 0.700 dog",
    ]


def test_a_chosen_object_shows_what_informed_it(page: Any) -> None:
    page.find_elements("css selector", "#objects button")[0].click()
    frames = page.find_elements("css selector", "#supports figure")
    assert [frame.find_element("css selector", "figcaption").text for frame in frames] == [
        "frame 0 · SPFA 8 % · TFE 33 %",
        "frame 30 · SPFA 86 % · TFE 33 %",
    ]
    widest = [
        max(
            float(box.get_attribute("stroke-width"))
            for box in frame.find_elements("css selector", ".informs")
        )
        for frame in frames
    ]
    assert widest[1] > 2 * widest[0]
    assert len(frames[0].find_elements("css selector", ".similar")) == BINS
    titles = [
        one.get_attribute("textContent") for one in frames[1].find_elements("css selector", "title")
    ]
    assert "support proposal 2: 80 % of SPFA" in titles


def test_it_asks_for_nothing_and_names_from_files_are_only_text(page: Any) -> None:
    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"] and '"request"' in entry["message"]
    ]
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    assert page.find_elements("css selector", "#objects b b") == []
    assert page.find_element("id", "caption").text == "A & B"


# --- videos --------------------------------------------------------------------------------------


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


PLAY = """
const [name, done] = arguments;
const video = document.createElement("video");
video.muted = true;
video.onerror = () => done({error: video.error.message});
video.onended = () => {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0);
  const quality = video.getVideoPlaybackQuality();
  done({width: video.videoWidth, height: video.videoHeight, duration: video.duration,
        frames: quality.totalVideoFrames,
        pixel: Array.from(pen.getImageData(canvas.width >> 1, canvas.height >> 1, 1, 1).data)});
};
video.src = name;
document.body.replaceChildren(video);
video.play();
"""


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "av1.mp4"])
def test_videos_play_to_their_end(browser: Any, server: str, tmp_path: Path, name: str) -> None:
    """Odd size, 29.97 frames a second; the last frame is orange."""
    rate = Fraction(30000, 1001)
    encoding = Encoding("av1") if name == "av1.mp4" else Encoding()
    with VideoWriter(tmp_path / name, 161, 91, frame_rate=rate, encoding=encoding) as writer:
        for number in range(30):
            color = (230, 120, 20) if number == 29 else (40, 60, 8 * number)
            writer.write(np.full((91, 161, 3), color, np.uint8), number / rate)
    (tmp_path / "index.html").write_text("<!DOCTYPE html><body></body>")
    browser.get(server)
    browser.set_script_timeout(30)
    played = browser.execute_async_script(PLAY, name)
    assert "error" not in played, played
    assert (played["width"], played["height"]) == (162, 92)
    assert played["duration"] == pytest.approx(30 / float(rate), abs=0.04)
    assert played["frames"] >= 28
    assert played["pixel"][:3] == pytest.approx([230, 120, 20], abs=8)
