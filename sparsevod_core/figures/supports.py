"""Figure of attention to support frames: one row per frame, one column per support frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from sparsevod_core.figures.saving import SETTINGS
from sparsevod_core.figures.stage_layout import Layout
from sparsevod_core.figures.stage_page import Page, Panel
from sparsevod_core.figures.stage_view import StageView, visible
from sparsevod_core.figures.stages import FrameDrawing
from sparsevod_core.reporting import listed

MAX_SUPPORTS = 8  # columns
MAX_BOXES = 3  # per support frame and proposal
LEAST_SHARE = 0.02  # of a proposal's attention
LEAST_PART = 0.5  # of the largest weight, where attention is spread over many proposals
THINNEST_PT, THICKEST_PT = 0.4, 1.8
DOT_PT = 1.3


def draw_supports(
    views: Sequence[StageView], class_names: Sequence[str], *, score: float, caption: str = ""
) -> Figure:
    """Draw each frame with its objects, then its support frames with what informed the objects.

    Boxes are the support proposals with the largest weights in the last layer; line width grows
    with the weight. Dots are the places that TFE's last layer found most similar to the object's
    RoI bins. Both have the object's color. The weights of the support frame are below. Of many
    support frames, those with the largest weights are drawn.

    Args:
        views: Frames, at least one with support frames.
        class_names: Name of each label.
        score: Score above which a box of the last stage is an object.
        caption: Description of model and video.
    """
    drawings = [FrameDrawing(view, score, class_names) for view in views]
    chosen = [
        _strongest(view, drawing.objects.best)
        for view, drawing in zip(views, drawings, strict=True)
    ]
    most = max(map(len, chosen))
    grid = Layout.of([view.image.shape[:2] for view in views], 1 + most)
    with rc_context(SETTINGS):
        page = Page(grid, notes=f"{caption}\n{_legend(views)}".lstrip())
        names = [f"Support {number}" for number in range(1, most + 1)]
        shared = {
            tuple(view.supports[s].index for s in numbers)
            for view, numbers in zip(views, chosen, strict=True)
        }
        is_shared = len(shared) == 1
        under = [f"frame {n}" for n in shared.pop()] if is_shared else [""] * most
        page.column_titles(["Frame", *names], [f"score > {score:g}", *under])
        for row, (view, drawing) in enumerate(zip(views, drawings, strict=True)):
            page.row_title(row, view.title)
            drawing.stage(page.panel(row, 0, view.image), view.num_stages)
            for column, number in enumerate(chosen[row], start=1):
                support = view.supports[number]
                panel = page.panel(row, column, support.image)
                words = _draw_support(panel, view, drawing, number)
                panel.foot(", ".join(words if is_shared else [f"frame {support.index}", *words]))
    return page.figure


def _strongest(view: StageView, best: np.ndarray) -> list[int]:
    """Return the support frames with the largest weights for the objects, in their order."""
    if len(view.supports) <= MAX_SUPPORTS:
        return list(range(len(view.supports)))
    layers = [view.attention[i] for i in view.last_layers(view.num_stages)]
    proposals = best if len(best) else slice(None)
    shares = sum(layer.weights[proposals, :-1].mean(0) for layer in layers)
    return sorted(np.argsort(-np.asarray(shares), kind="stable")[:MAX_SUPPORTS].tolist())


def _draw_support(panel: Panel, view: StageView, drawing: FrameDrawing, number: int) -> list[str]:
    """Draw what informed the objects on a support frame; return its weights in words."""
    best, words = drawing.objects.best.tolist(), []
    if not best:
        return []
    for layer in (view.attention[i] for i in view.last_layers(view.num_stages)):
        share = layer.weights[best, number].mean()
        if share == 0:  # a frame that this layer does not read
            continue
        words.append(f"{layer.name} {100 * share:.0f} %")
        for n in best[::-1]:
            if layer.points is not None:
                panel.dots(layer.points[n, number], drawing.colors[n], DOT_PT)
            if layer.boxes_xyxy is None or layer.proposals is None:
                continue
            boxes, is_visible = visible(layer.boxes_xyxy[number], panel.width, panel.height)
            weights = layer.proposals[n, number]
            least = min(LEAST_SHARE, LEAST_PART * layer.proposals[n].max())
            strongest = np.argsort(-weights, kind="stable")[:MAX_BOXES]
            for m in strongest[::-1].tolist():
                if is_visible[m] and weights[m] >= least:
                    width = THINNEST_PT + (THICKEST_PT - THINNEST_PT) * float(weights[m]) ** 0.5
                    panel.box(boxes[m], drawing.colors[n], width)
    return words


def _legend(views: Sequence[StageView]) -> str:
    layers = {
        view.attention[i].name: view.attention[i]
        for view in views
        for i in view.last_layers(view.num_stages)
    }
    attending = [layer.name for layer in layers.values() if layer.proposals is not None]
    searching = [layer.name for layer in layers.values() if layer.points is not None]
    words = []
    if attending:
        words.append(
            f"Boxes: support proposals with the largest weights for an object in "
            f"{listed(attending)} (at most {MAX_BOXES}; at least {LEAST_SHARE:.0%}, or "
            f"{LEAST_PART:.0%} of the largest weight), line width by weight."
        )
    if searching:
        words.append(f"Dots: places most similar to the object's RoI bins ({listed(searching)}).")
    is_all = all(
        len(view.supports) <= MAX_SUPPORTS and np.allclose(layer.weights.sum(1), 1, atol=1e-3)
        for view in views
        for layer in view.attention
    )
    rest = "the frame's own" if is_all else "the frame's own and that of frames not drawn"
    words.append(f"Below: mean weight of the support frame; the rest is {rest}.")
    return " ".join(words)
