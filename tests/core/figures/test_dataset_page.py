"""Dataset page: it shows the numbers, and no texts overlap or are cut off."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from sparsevod_core.figures.dataset_page import MAX_CLASSES, DatasetView, draw_dataset
from sparsevod_core.figures.dataset_plots import Bars
from sparsevod_core.figures.saving import SETTINGS, save_figure
from sparsevod_core.figures.style import class_color

SIDES = 2.0 ** np.arange(1, 11.5, 0.5)


def make_view(num_classes: int = 3, *, empty: bool = False, **changes: Any) -> DatasetView:
    """Return a view with random numbers, or of a dataset without boxes."""
    rng = np.random.default_rng(num_classes)
    scale = 0 if empty else 1

    def bars(edges: np.ndarray, most: int) -> Bars:
        return Bars(edges, scale * rng.integers(1, most, len(edges) - 1))

    return DatasetView(
        **{
            "title": "data/train.json",
            "facts": "3 videos · 40 frames",
            "notes": ["problem: boxes completely outside the frame: 3"],
            "class_names": [f"class number {n}" for n in range(num_classes)],
            "boxes_per_class": scale * rng.integers(1, 10**6, num_classes),
            "sides_px": scale * rng.integers(0, 999, (num_classes, len(SIDES) - 1)),
            "side_edges_px": SIDES,
            "speeds": scale * rng.integers(0, 999, (num_classes, 3)),
            "boxes_per_frame": bars(np.arange(13) - 0.5, 10**6),
            "frames_per_video": bars(np.unique(np.geomspace(1, 5000, 30).round()) - 0.5, 99),
            "track_lengths": bars(np.unique(np.geomspace(6, 900, 30).round()) - 0.5, 9),
            "motion_iou": bars(np.linspace(0, 1, 51), 10**5),
            "aspect": bars(2.0 ** np.arange(-4, 4.25, 0.25), 10**4),
            "centers": scale * rng.integers(0, 99, (32, 32)),
            "frame_aspect": 16 / 9,
        }
        | changes
    )


def axes_titled(figure: Figure, title: str) -> Axes:
    (found,) = (axes for axes in figure.axes if axes.get_title("left").startswith(title))
    return found


def drawn_texts(figure: Figure) -> list[Text]:
    """Return all texts that are drawn; ticks beyond the axis are not."""
    with rc_context(SETTINGS):
        FigureCanvasAgg(figure).draw()
    words = list(figure.texts)
    for axes in figure.axes:
        words += [axes.title, axes._left_title, *axes.texts]  # type: ignore[attr-defined]
        legend = axes.get_legend()
        words += legend.get_texts() if legend else []
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = axis.get_major_ticks()
            words += [t.label1 for t in ticks if low - 1e-9 <= t.get_loc() <= high + 1e-9]
            words.append(axis.label)
    return [text for text in words if text.get_visible() and text.get_text()]


@pytest.mark.parametrize(
    "view",
    [
        make_view(1),
        make_view(4),
        make_view(30),
        make_view(80),
        make_view(2, empty=True),
        make_view(2, class_names=["W" * 60, "a $price$ and a $second"]),
        make_view(1, frame_aspect=0.3, title="/a/long/path/" + "x" * 150, notes=["word " * 90] * 3),
        make_view(2, boxes_per_frame=Bars(np.array([0.5, 1.5]), np.array([1]))),
    ],
    ids=["one class", "few", "thirty", "eighty", "empty", "long names", "long words", "one bar"],
)
def test_texts_are_complete_and_do_not_overlap(view: DatasetView) -> None:
    figure = draw_dataset(view)
    words = drawn_texts(figure)
    boxes = [text.get_window_extent() for text in words]
    page = figure.bbox
    for text, box in zip(words, boxes, strict=True):
        assert box.x0 >= 0 and box.x1 <= page.x1, text.get_text()
        assert box.y0 >= 0 and box.y1 <= page.y1, text.get_text()
    for (first, box), (second, other) in combinations(zip(words, boxes, strict=True), 2):
        width = min(box.x1, other.x1) - max(box.x0, other.x0)
        height = min(box.y1, other.y1) - max(box.y0, other.y0)
        # The extent of a line includes room for accents and descenders.
        assert width <= 1 or height <= 6, (first.get_text(), second.get_text())


def test_each_class_has_a_row() -> None:
    view = make_view(3, boxes_per_class=np.array([1200, 0, 34]))
    figure = draw_dataset(view)
    bars = axes_titled(figure, "boxes per class")
    assert [text.get_text() for text in bars.texts] == ["1,200", "0", "34"]
    assert [bar.get_width() for bar in bars.patches] == [1200, 0, 34]
    assert [bar.get_facecolor()[:3] for bar in bars.patches] == [class_color(n) for n in range(3)]
    assert [name.get_text() for name in bars.get_yticklabels()] == list(view.class_names)
    low, high = bars.get_ylim()
    assert low > high  # the file's first class is on top
    (mesh,) = axes_titled(figure, "box side").findobj(QuadMesh)
    shares = np.asarray(mesh.get_array()).reshape(view.sides_px.shape)
    np.testing.assert_allclose(shares, view.sides_px / view.sides_px.max(axis=1, keepdims=True))
    assert {line.get_xdata()[0] for line in axes_titled(figure, "box side").lines} >= {32, 96}


def test_speeds_are_stacked_percentages() -> None:
    speeds = np.array([[1, 1, 2], [0, 0, 0], [0, 5, 0]])
    figure = draw_dataset(make_view(3, speeds=speeds))
    (axes,) = (axes for axes in figure.axes if axes.get_legend())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["fast", "medium", "slow"]
    widths = np.array([bar.get_width() for bar in axes.patches]).reshape(3, 3)
    np.testing.assert_allclose(widths.T, [[25, 25, 50], [0, 0, 0], [0, 100, 0]])


def test_of_many_classes_the_largest_and_smallest_are_shown() -> None:
    counts = np.arange(100)[::-1]
    figure = draw_dataset(make_view(100, boxes_per_class=counts))
    bars = axes_titled(figure, "boxes per class")
    assert "40 of 100" in bars.get_title("left")
    half = MAX_CLASSES // 2
    expected = [*counts[:half], *counts[-half:]]
    assert [bar.get_width() for bar in bars.patches] == expected


def test_motion_bars_have_the_colors_of_the_speeds() -> None:
    view = make_view()
    axes = axes_titled(draw_dataset(view), "motion IoU")
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == view.motion_iou.counts.tolist()
    colors = [bar.get_facecolor() for bar in axes.patches]
    assert colors[0] == colors[34] != colors[35] == colors[44] != colors[45] == colors[49]
    assert sorted(line.get_xdata()[0] for line in axes.lines) == [0.7, 0.9]


def test_empty_plots_say_so(tmp_path: Path) -> None:
    figure = draw_dataset(make_view(2, empty=True))
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"no boxes", "no frames", "no videos", "no tracks"} <= set(texts)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_page_gives_the_same_file(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for file in files:
        save_figure(draw_dataset(make_view()), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(files[0].read_bytes()) > 5000
