"""Figure of attention to support frames: one row per frame, one column per support frame."""

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

MAX_BOXES = 3  # per support frame and proposal
LEAST_SHARE = 0.02  # of a proposal's attention
THINNEST_PT, THICKEST_PT = 0.4, 1.8
DOT_PT = 1.3


def draw_supports(
    views: Sequence[StageView], class_names: Sequence[str], *, score: float, caption: str = ""
) -> Figure:
    """Draw each frame with its objects, then its support frames with what informed the objects.

    Boxes are the support proposals with the largest weights in SPFA's last stage; line width grows
    with the weight. Dots are the places that TFE's last stage found most similar to the object's
    RoI bins. Both have the object's color. The weights of the support frame are below.

    Args:
        views: Frames, at least one with support frames.
        class_names: Name of each label.
        score: Score above which a box of the last stage is an object.
        caption: Description of model and video.
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
    """Return the mean over the objects."""
    return f"{100 * weights.mean():.0f} %"


def _legend(views: Sequence[StageView]) -> str:
    attentions = [view.attention for view in views if view.attention is not None]
    words = []
    if any(one.spfa is not None for one in attentions):
        words.append(
            f"Boxes: support proposals with the largest SPFA weights for an object in the last "
            f"stage (at most {MAX_BOXES}, at least {LEAST_SHARE:.0%}), line width by weight."
        )
    if any(one.tfe is not None for one in attentions):
        words.append("Dots: places most similar to the object's RoI bins (TFE, last stage).")
    words.append("Below: mean weight of the support frame; the rest is the frame's own.")
    return " ".join(words)
