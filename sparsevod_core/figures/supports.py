"""Where the proposals that find an object looked: a row a frame, a column a support frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from sparsevod_core.figures.saving import SETTINGS
from sparsevod_core.figures.stage_layout import Layout
from sparsevod_core.figures.stage_page import Page
from sparsevod_core.figures.stage_view import StageView, visible
from sparsevod_core.figures.stages import FrameDrawing

MAX_BOXES = 3  # on a support frame, of each proposal
LEAST_SHARE = 0.02  # of the attention of a proposal
THINNEST_PT, THICKEST_PT = 0.4, 1.8
DOT_PT = 1.3


def draw_supports(
    views: Sequence[StageView], class_names: Sequence[str], *, score: float, caption: str = ""
) -> Figure:
    """The frame with its objects, then its support frames with what informed them.

    Boxes are the support proposals to which SPFA's last stage gave most weight, the thicker the
    more; dots are the places that TFE's last stage found most similar to the object's RoI bins;
    both in the object's colour. Below are the weights of the support frame.

    Args:
        views: at least one with support frames.
        class_names: name of each label.
        score: an object is a box of the last stage with a greater score.
        caption: a line on model and video.
    """
    most = max(len(view.supports) for view in views)
    grid = Layout.of([view.image.shape[:2] for view in views], 1 + most)
    with rc_context(SETTINGS):
        page = Page(grid, notes=f"{caption}\n{_legend(views)}".lstrip())
        names = [f"Support {number}" for number in range(1, most + 1)]
        shared = {tuple(one.index for one in view.supports) for view in views}
        under = [f"frame {n}" for n in shared.pop()] if len(shared) == 1 else [""] * most
        page.column_titles(["Frame", *names], [f"score > {score:g}", *under])
        for row, view in enumerate(views):
            page.row_title(row, view.title)
            drawing = FrameDrawing(view, score, class_names)
            drawing.stage(page.panel(row, 0, view.image), view.num_stages)
            _draw_row(page, row, view, drawing)
    return page.figure


def _draw_row(page: Page, row: int, view: StageView, drawing: FrameDrawing) -> None:
    attention, best = view.attention, drawing.objects.best.tolist()
    for number, support in enumerate(view.supports):
        panel = page.panel(row, 1 + number, support.image)
        if attention is None or not best:
            continue
        shares = []
        if attention.tfe_points is not None and attention.tfe is not None:
            for n in best[::-1]:
                points = attention.tfe_points[-1, n, number]
                panel.dots(points, drawing.colors[n], DOT_PT)
            shares.append(f"TFE {_percent(attention.tfe[-1, best, number].mean(-1))}")
        if attention.spfa is not None:
            boxes, is_visible = visible(attention.boxes_xyxy[-1, number], panel.width, panel.height)
            for n in best[::-1]:
                weights = attention.spfa[-1, n, number]
                strongest = np.argsort(-weights, kind="stable")[:MAX_BOXES]
                for m in strongest[::-1].tolist():
                    if is_visible[m] and weights[m] >= LEAST_SHARE:
                        width = THINNEST_PT + (THICKEST_PT - THINNEST_PT) * float(weights[m]) ** 0.5
                        panel.box(boxes[m], drawing.colors[n], width)
            shares.append(f"SPFA {_percent(attention.spfa[-1, best, number].sum(-1))}")
        if shares:
            panel.foot(", ".join(shares))


def _percent(weights: np.ndarray) -> str:
    """The mean over the objects."""
    return f"{100 * weights.mean():.0f} %"


def _legend(views: Sequence[StageView]) -> str:
    attentions = [view.attention for view in views if view.attention is not None]
    words = []
    if any(one.spfa is not None for one in attentions):
        words.append(
            f"Boxes: support proposals that inform an object's in SPFA's last stage "
            f"({MAX_BOXES} at most, with {LEAST_SHARE:.0%} of its attention or more), thicker "
            "where they inform more."
        )
    if any(one.tfe is not None for one in attentions):
        words.append("Dots: the places most similar to the object's RoI bins (TFE, last stage).")
    words.append("Below: the frame's mean share; the rest is the frame's own.")
    return " ".join(words)
