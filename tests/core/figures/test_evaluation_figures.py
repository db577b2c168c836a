"""Content of evaluation figures with many classes, one class, and no class with boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from sparsevod_core.figures.confusion_matrix import draw_confusion
from sparsevod_core.figures.curves import draw_ap_by_iou
from sparsevod_core.figures.precision_recall import PrecisionRecallPanel, draw_precision_recall
from sparsevod_core.figures.saving import SETTINGS

IOUS = [f"{iou / 100:.2f}" for iou in range(50, 100, 5)]
RECALL = np.linspace(0, 1, 101)


def words(figure: Figure) -> list[Text]:
    """Return every visible text after drawing, so that it has a position."""
    with rc_context(SETTINGS):
        figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def assert_readable(figure: Figure, least_pt: float = 3.5) -> None:
    """Check that all texts are inside the figure and do not overlap."""
    texts = words(figure)
    assert min(text.get_fontsize() for text in texts) >= least_pt
    extents = np.array([text.get_window_extent().extents for text in texts])
    low, high = extents[:, :2], extents[:, 2:]
    outside = (low < -1).any(axis=1) | (high > figure.bbox.size + 1).any(axis=1)
    assert [texts[n].get_text() for n in np.flatnonzero(outside)] == []
    # The extent of a text includes empty pixels above its letters; ignore two of them.
    low, high = low + 2, high - 2
    for n, text in enumerate(texts):
        over = (low[n] < high[n + 1 :]).all(axis=1) & (low[n + 1 :] < high[n]).all(axis=1)
        hidden = [texts[n + 1 + other].get_text() for other in np.flatnonzero(over)]
        assert hidden == [], text.get_text()


# --- AP against IoU -----------------------------------------------------------------------------


def test_ap_by_iou_has_one_line_per_result_in_percent() -> None:
    ours = dict(zip(IOUS, np.linspace(0.8, 0.1, 10).tolist(), strict=True))
    theirs = dict(zip(IOUS, np.linspace(0.6, 0.05, 10).tolist(), strict=True))
    figure = draw_ap_by_iou({"ours": ours, "costs $5, $6": theirs})
    (axes,) = figure.axes
    lines = axes.get_lines()
    assert [line.get_label() for line in lines] == ["ours", "costs $5, $6"]
    assert lines[0].get_xdata() == pytest.approx([float(iou) for iou in IOUS])
    assert lines[0].get_ydata() == pytest.approx(np.linspace(80, 10, 10))
    assert lines[0].get_color() != lines[1].get_color()
    assert lines[0].get_marker() != lines[1].get_marker()
    assert axes.get_ylim() == (0, 100)
    assert_readable(figure)


@pytest.mark.parametrize("ap", [math.nan, 0.0, 1.0])
def test_ap_by_iou_at_its_limits(ap: float) -> None:
    figure = draw_ap_by_iou({"a": dict.fromkeys(IOUS, ap)})
    assert figure.axes[0].get_ylim()[1] >= 20
    assert_readable(figure)


# --- precision and recall -----------------------------------------------------------------------


def panels(num_classes: int, without_boxes: tuple[int, ...] = ()) -> list[PrecisionRecallPanel]:
    rng = np.random.default_rng(0)
    both = []
    for iou in (0.5, 0.75):
        precision = np.sort(rng.random((101, num_classes)), axis=0)[::-1]
        precision[:, list(without_boxes)] = np.nan
        both.append(PrecisionRecallPanel(iou, RECALL, precision, precision.mean(axis=0)))
    return both


@pytest.mark.parametrize("num_classes", [1, 4, 30, 80])
def test_every_class_has_a_line_and_a_name(num_classes: int) -> None:
    names = [f"class {k}" for k in range(num_classes)]
    drawn = panels(num_classes)
    figure = draw_precision_recall(drawn, names, title="found.json on val.json")
    assert len(figure.axes[0].get_lines()) == num_classes + (num_classes > 1)  # and their mean
    shown = {text.get_text() for text in words(figure)}
    assert {*names, "AP50", "AP75", "IoU ≥ 0.50"} <= shown
    assert ("mean" in shown) == (num_classes > 1)
    assert_readable(figure)


def test_classes_without_boxes_are_omitted() -> None:
    drawn = panels(3, without_boxes=(1,))
    figure = draw_precision_recall(drawn, ["a", "b", "c"])
    lines = figure.axes[0].get_lines()
    assert len(lines) == 3
    mean = drawn[0].precision[:, [0, 2]].mean(axis=1)
    assert lines[-1].get_ydata() == pytest.approx(mean)  # drawn last, on top
    assert "b" not in {text.get_text() for text in words(figure)}


def test_no_class_has_boxes() -> None:
    figure = draw_precision_recall(panels(2, without_boxes=(0, 1)), ["a", "b"], title="found.json")
    assert len(figure.axes[0].get_lines()) == 0
    assert_readable(figure)


def test_results_are_compared_without_a_mean() -> None:
    figure = draw_precision_recall(panels(2), ["ours", "theirs"], are_classes=False)
    assert len(figure.axes[0].get_lines()) == 2
    assert "mean" not in {text.get_text() for text in words(figure)}


# --- confusion ----------------------------------------------------------------------------------


def matrix(num_classes: int) -> np.ndarray:
    rng = np.random.default_rng(num_classes)
    counts = rng.integers(0, 20, (num_classes + 1, num_classes + 1))
    counts[np.arange(num_classes), np.arange(num_classes)] += 1000
    counts[-1, -1] = 0
    return counts


def cells(figure: Figure) -> list[Rectangle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def test_counts_are_written_in_their_cells() -> None:
    counts = np.array([[1234, 0, 5], [20, 300, 0], [7, 0, 0]])
    figure = draw_confusion(counts, ["cat", "$dog$"], title="found.json\nscore > 0.3")
    placed = {
        (round(text.get_position()[1], 2), round(text.get_position()[0], 2)): text.get_text()
        for text in figure.axes[0].texts
    }
    # By row, then by column; a count of 0 is not written.
    assert [placed[key] for key in sorted(placed)] == ["1,234", "5", "20", "300", "7"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "cat",
        "$dog$",
        "(no object)",
    ]
    assert figure.axes[0].get_xticklabels()[-1].get_text() == "missed"
    assert len(cells(figure)) == 8  # without the corner
    assert_readable(figure)


def test_shades_are_fractions_of_the_row() -> None:
    figure = draw_confusion(np.array([[10, 0, 90], [0, 1, 0], [0, 0, 0]]), ["a", "b"])
    brightness = [sum(cell.get_facecolor()[:3]) for cell in cells(figure)]
    ten, none, ninety, _, all_of_it, *_ = brightness
    assert none == 3.0 > ten > ninety > all_of_it
    assert brightness[-2:] == [3.0, 3.0]  # an empty row


@pytest.mark.parametrize("num_classes", [1, 4, 30])
def test_the_matrix_is_readable(num_classes: int) -> None:
    names = ["domestic_cat", *(f"class {k}" for k in range(1, num_classes))]
    figure = draw_confusion(matrix(num_classes), names, title="found.json on val.json")
    assert_readable(figure)
    written = [text.get_text() for text in figure.axes[0].texts]
    assert len(written) == np.count_nonzero(matrix(num_classes))
    width, height = figure.get_size_inches()
    assert max(width, height) < 20


def test_large_counts_are_abbreviated_in_small_cells() -> None:
    counts = matrix(30)
    counts[0, 0], counts[1, 1], counts[2, 2] = 12_345, 9_960, 1_234_567
    figure = draw_confusion(counts, [f"class {k}" for k in range(30)])
    written = {text.get_text() for text in figure.axes[0].texts}
    assert {"12k", "10k", "1.2M", "1.0k"} <= written
