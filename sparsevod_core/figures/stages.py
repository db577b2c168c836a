"""The paper's Fig. 3: proposals and the boxes of every stage, one row per frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsevod_core.figures.saving import SETTINGS
from sparsevod_core.figures.stage_layout import Layout
from sparsevod_core.figures.stage_page import BORDER, Page, Panel
from sparsevod_core.figures.stage_view import (
    EndObjects,
    StageNames,
    StageView,
    are_alike,
    end_objects,
    visible,
)
from sparsevod_core.figures.style import Color, class_color

GREY: Color = (0.58, 0.6, 0.63)
SHADES = (0.0, -0.4, 0.5, -0.6, 0.7)  # of a class's color: > 0 lighter, < 0 darker
FADE = 0.6  # how much the frame behind the learned proposals fades to white
PROPOSAL_PT = (0.35, 0.55, 1.0)  # line width if it ends nowhere, on an object, detects one
POINT_PT = (1.4, 2.2, 3.4)
STAGE_PT = 0.9
EARLIER = 0.85  # text size of a stage before the last, relative to the last
MAX_NAME = 20
MANY, MIN_CROWDED = 6, 0.65  # from MANY labels on, text shrinks, at most to MIN_CROWDED


def draw_stages(
    views: Sequence[StageView],
    class_names: Sequence[str],
    *,
    score: float,
    names: StageNames,
    stages: Sequence[int] | None = None,
    caption: str = "",
) -> Figure:
    """Draw frames as rows; proposals, boxes of each stage and scores as columns.

    In every column a proposal has the color of the object on which it ends, a shade of its class's
    color, or gray if it ends on none. The last stage shows the paths of the proposals that detect
    an object, and the last column their scores by stage.

    Args:
        views: One or more frames, with the same number of stages.
        class_names: Name of each label.
        score: Score that drawn boxes exceed.
        names: Titles of the columns.
        stages: Numbers of the stages to draw, 1..T; None: all.
        caption: Description of model and video.
    """
    numbers = list(stages) if stages is not None else list(range(1, views[0].num_stages + 1))
    grid = Layout.of([view.image.shape[:2] for view in views], 2 + len(numbers))
    with rc_context(SETTINGS):
        page = Page(grid, notes=f"{caption}\n{_legend(views, names)}".lstrip())
        page.column_titles(
            [names.proposals, *(names.stages[number - 1] for number in numbers), "Scores"],
            [
                names.origin,
                *(f"score > {score:g}" for _ in numbers),
                "by stage",
            ],
        )
        for row, view in enumerate(views):
            page.row_title(row, view.title)
            drawing = FrameDrawing(view, score, class_names)
            faded = (view.image * (1 - FADE) + 255 * FADE).astype(np.uint8)
            drawing.proposals(page.panel(row, 0, faded))
            for column, number in enumerate(numbers, start=1):
                drawing.stage(page.panel(row, column, view.image), number)
            drawing.scores(page.chart(row, 1 + len(numbers)))
    return page.figure


class FrameDrawing:
    """One row of the figure: a frame, its objects, and a color for every proposal."""

    def __init__(self, view: StageView, score: float, class_names: Sequence[str]) -> None:
        self._view, self._score, self._class_names = view, score, class_names
        self.objects = end_objects(view, score)
        self.colors = proposal_colors(view, self.objects)

    def proposals(self, panel: Panel) -> None:
        """Draw all proposals, those that detect an object on top."""
        boxes, is_visible = visible(self._view.proposals_xyxy, panel.width, panel.height)
        ends = self.objects.of_proposal >= 0
        detects = np.isin(np.arange(len(ends)), self.objects.best)
        rank = ends.astype(int) + detects
        for n in np.argsort(rank, kind="stable").tolist():
            if is_visible[n]:
                panel.box(boxes[n], self.colors[n], PROPOSAL_PT[rank[n]], halo=bool(detects[n]))
            elif (boxes[n, :2] == boxes[n, 2:]).all():  # a reference point
                panel.dots(boxes[n : n + 1, :2], self.colors[n], POINT_PT[rank[n]])
        if are_alike(self._view.proposals_xyxy):
            panel.remark(f"{len(boxes)} boxes,\nnearly the same")
        panel.foot(f"{ends.sum()} of {len(boxes)} end on an object")

    def stage(self, panel: Panel, number: int) -> None:
        """Draw the boxes of stage `number` (from 1) above the score, with labels."""
        view, scores = self._view, self._view.stage_scores[number - 1]
        boxes, is_visible = visible(view.stage_boxes[number - 1], panel.width, panel.height)
        shown = np.flatnonzero((scores > self._score) & is_visible)
        if not len(shown):
            panel.foot(f"none (best score {scores.max():.2f})")
            return
        shown = shown[np.argsort(-scores[shown], kind="stable")]
        for n in shown[::-1].tolist():
            panel.box(boxes[n], self.colors[n], STAGE_PT)
        if number == view.num_stages:
            for n in self.objects.best.tolist():
                panel.path(view.path(n), self.colors[n])
        panel.foot(f"{len(shown)} box{'es' if len(shown) > 1 else ''}")

        size_pt, labeled = panel.label_pt, shown
        if number < view.num_stages:
            # There are many boxes: one label for each object is enough.
            _, best = np.unique(self.objects.of_proposal[shown], return_index=True)
            labeled = shown[np.sort(best)]
            size_pt *= EARLIER
        size_pt *= max(min(1.0, MANY / len(labeled)) ** 0.5, MIN_CROWDED)
        others = np.setdiff1d(shown, labeled)
        panel.labels(
            boxes[np.concatenate([labeled, others])],
            [self._label(n, number) for n in labeled.tolist()],
            [self.colors[n] for n in labeled.tolist()],
            size_pt,
        )

    def scores(self, axes: Axes) -> None:
        """Draw the scores by stage of the proposals that detect an object; their own are at 0."""
        view = self._view
        stages = np.arange(1, view.num_stages + 1)
        by_stage = view.stage_scores
        if view.proposal_scores is not None:
            stages = np.arange(view.num_stages + 1)
            by_stage = np.concatenate([view.proposal_scores[None], by_stage])
        axes.axhline(self._score, color=BORDER, linewidth=0.4, linestyle=(0, (3, 2)))
        for n in self.objects.best.tolist()[::-1]:
            axes.plot(
                stages,
                by_stage[:, n],
                color=self.colors[n],
                linewidth=0.9,
                marker="o",
                markersize=1.6,
            )
        margin = 0.1 * max(len(stages) - 1, 1)
        axes.set(xlim=(stages[0] - margin, stages[-1] + margin), ylim=(0, 1.02))
        axes.set_xticks(stages)
        axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"])

    def _label(self, proposal: int, number: int) -> str:
        """Return the label; before the last stage the class is omitted unless it changes later."""
        score = f"{self._view.stage_scores[number - 1, proposal]:.2f}"
        label = self._view.stage_labels[number - 1, proposal]
        if number < self._view.num_stages and label == self._view.stage_labels[-1, proposal]:
            return score
        name = self._class_names[label]
        shortened = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        return f"{shortened} {score}"


def _legend(views: Sequence[StageView], names: StageNames) -> str:
    text = (
        "Color: object on which a proposal ends (IoU ≥ 0.5 of its last box with a detection), in "
        "the color of its class; gray: none. Thick: proposal that detects the object; the last "
        f"stage shows its path from the {names.proposal}."
    )
    if any(view.proposal_scores is not None for view in views):
        text += f" Scores: 0 is that of the {names.proposal}."
    if any(are_alike(view.proposals_xyxy) for view in views):
        text += f" The {names.proposals.lower()} are nearly the same box and hide one another."
    return text


def proposal_colors(view: StageView, objects: EndObjects) -> list[Color]:
    """Return the color of each proposal; objects of one class differ in shade."""
    seen: Counter[int] = Counter()
    object_colors = []
    for label in view.stage_labels[-1, objects.best].tolist():
        object_colors.append(_shade(class_color(label), SHADES[seen[label] % len(SHADES)]))
        seen[label] += 1
    return [object_colors[end] if end >= 0 else GREY for end in objects.of_proposal]


def _shade(color: Color, amount: float) -> Color:
    target = 1.0 if amount > 0 else 0.0
    red, green, blue = (part + (target - part) * abs(amount) for part in color)
    return red, green, blue
