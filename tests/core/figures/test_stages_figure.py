"""Stage figure: the right boxes, places, colors and labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sparsevod_core.errors import ConfigError, DataError
from sparsevod_core.figures.saving import SETTINGS, save_figure
from sparsevod_core.figures.stage_layout import PAGE_HEIGHT_IN, PAGE_WIDTH_IN, Layout, wrap
from sparsevod_core.figures.stage_view import (
    LayerAttention,
    StageNames,
    StageView,
    SupportFrame,
    are_alike,
    end_objects,
    mean_overlap,
    visible,
)
from sparsevod_core.figures.stages import GREY, draw_stages
from sparsevod_core.figures.supports import MAX_SUPPORTS, draw_supports

WIDTH, HEIGHT = 160, 90
NAMES = ["cat", "dog", "bird"]
STAGES = StageNames(
    "Learned proposals", "learned box", "grid initialization", ("Stage 1", "Stage 2")
)
CAT, DOG = [10.0, 10.0, 50.0, 50.0], [90.0, 20.0, 150.0, 80.0]


def grid_boxes(columns: int = 4, rows: int = 3) -> np.ndarray:
    """Make proposals side by side, like `grid` initialization."""
    width, height = WIDTH / columns, HEIGHT / rows
    corners = [(x * width, y * height) for y in range(rows) for x in range(columns)]
    return np.array([(x, y, x + width, y + height) for x, y in corners], np.float32)


def make_view(
    last: dict[int, tuple[list[float], int, float]],
    *,
    earlier: dict[int, tuple[list[float], int, float]] | None = None,
    proposals: np.ndarray | None = None,
    title: str = "frame 3",
) -> StageView:
    """Make two stages from `{proposal: (box, label, score)}`; other proposals score 0.01."""
    proposals = grid_boxes() if proposals is None else proposals
    boxes = np.stack([proposals, proposals])
    scores = np.full(boxes.shape[:2], 0.01, np.float32)
    labels = np.zeros(boxes.shape[:2], np.int64)
    for stage, found in enumerate((last if earlier is None else earlier, last)):
        for n, (box, label, score) in found.items():
            boxes[stage, n], labels[stage, n], scores[stage, n] = box, label, score
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    return StageView(image, proposals, boxes, scores, labels, title)


def draw(*views: StageView, **changes: Any) -> Figure:
    return draw_stages(views, NAMES, **{"score": 0.3, "names": STAGES} | changes)


def boxes_in(axes: Any) -> list[Rectangle]:
    return [patch for patch in axes.patches if patch.get_gid() == "box"]


def words(where: Any, gid: str | None = None) -> list[str]:
    return [text.get_text() for text in where.texts if gid in (None, text.get_gid())]


# --- which proposals belong to which object -----------------------------------------------------


def test_a_proposal_ends_on_the_object_under_its_last_box() -> None:
    shifted = [12.0, 10.0, 52.0, 50.0]
    view = make_view(
        {0: (CAT, 0, 0.8), 1: (shifted, 0, 0.6), 2: (shifted, 1, 0.05), 5: (DOG, 1, 0.9)}
    )
    objects = end_objects(view, 0.3)
    assert objects.best.tolist() == [5, 0]  # best first; 1 is the same cat again
    assert objects.of_proposal[[5, 0, 1, 2]].tolist() == [
        0,
        1,
        1,
        1,
    ]  # 2 has a low score, but ends there
    assert set(objects.of_proposal[[3, 4, 6, 7, 8, 9, 10, 11]]) == {-1}


def test_one_box_with_two_names_is_two_objects() -> None:
    near = [CAT[0], CAT[1], CAT[2] + 4, CAT[3]]
    view = make_view({0: (CAT, 0, 0.8), 1: (near, 1, 0.7), 2: (near, 0, 0.5)})
    objects = end_objects(view, 0.3)
    assert objects.best.tolist() == [0, 1]
    assert objects.of_proposal[:3].tolist() == [0, 1, 0]  # 2 is a cat, though the dog is nearer


def test_no_box_above_the_score_is_no_object() -> None:
    objects = end_objects(make_view({0: (CAT, 0, 0.3)}), 0.3)  # greater than, as in the paper
    assert len(objects.best) == 0
    assert set(objects.of_proposal) == {-1}


def test_nan_scores_detect_nothing() -> None:
    view = make_view({0: (CAT, 0, np.nan), 1: (DOG, 1, 0.9)})
    assert end_objects(view, 0.3).best.tolist() == [1]


@pytest.mark.parametrize(
    ("boxes", "alike"),
    [
        (grid_boxes(), False),
        (np.tile(np.float32([0, 0, WIDTH, HEIGHT]), (20, 1)), True),
        (np.float32([0, 0, WIDTH, HEIGHT]) + np.arange(20, dtype=np.float32)[:, None] / 10, True),
        (np.tile(np.float32([WIDTH, HEIGHT, 0, 0]), (20, 1)), True),  # a learned negative size
        (np.float32([[0, 0, WIDTH, HEIGHT]]), False),  # a single one is not like another
    ],
    ids=["grid", "image", "trained from image", "inverted", "one"],
)
def test_near_identical_boxes_are_recognised(boxes: np.ndarray, alike: bool) -> None:
    assert are_alike(boxes) is alike


def test_mean_overlap_is_over_pairs() -> None:
    boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 30, 30]])
    assert mean_overlap(boxes) == pytest.approx(1 / 3)


def test_only_what_lies_in_the_frame_is_visible() -> None:
    boxes = np.float32([[-5, -5, 10, 10], [WIDTH, 0, WIDTH + 9, 9], [3, 3, 3, 9], [9, 9, 4, 4]])
    clipped, is_visible = visible(boxes, WIDTH, HEIGHT)
    assert is_visible.tolist() == [True, False, False, True]
    assert clipped[0].tolist() == [0, 0, 10, 10]
    assert clipped[3].tolist() == [4, 4, 9, 9]


def test_a_view_requires_matching_shapes() -> None:
    view = make_view({})
    with pytest.raises(Exception, match="stage_labels"):
        StageView(
            view.image,
            view.proposals_xyxy,
            view.stage_boxes,
            view.stage_scores,
            view.stage_labels[:, 1:],
        )


# --- drawing ------------------------------------------------------------------------------------


def test_rows_are_frames_and_columns_are_stages() -> None:
    figure = draw(make_view({}), make_view({}, title="frame 9\n0.30 s"), caption="Of a.mp4")
    assert len(figure.axes) == 2 * 4
    texts = words(figure)
    for title in (
        "Learned proposals",
        "Stage 1",
        "Stage 2",
        "Scores",
        "frame 3",
        "frame 9\n0.30 s",
    ):
        assert texts.count(title) == 1
    assert "grid initialization" in texts
    assert "Of a.mp4" in texts


def test_all_proposals_are_drawn_and_only_boxes_above_the_score() -> None:
    earlier = {0: (CAT, 0, 0.4), 1: (CAT, 0, 0.35), 5: (DOG, 1, 0.2)}
    last = {0: (CAT, 0, 0.9), 1: (CAT, 0, 0.1), 5: (DOG, 1, 0.7)}
    view = make_view(last, earlier=earlier)
    proposals, first, last, _ = draw(view).axes
    assert [len(boxes_in(axes)) for axes in (proposals, first, last)] == [12, 2, 2]
    drawn = {box.get_bbox().extents.astype(int).tolist()[0] for box in boxes_in(last)}
    assert drawn == {10, 90}
    assert words(last, "label") == ["cat 0.90", "dog 0.70"]
    assert words(first, "label") == ["0.40"]  # one for each object
    assert [words(axes, "foot") for axes in (proposals, first, last)] == [
        ["3 of 12 end on an object"],
        ["2 boxes"],
        ["2 boxes"],
    ]
    assert [len(boxes_in(axes)) for axes in draw(view, score=0.8).axes[:3]] == [12, 0, 1]


def test_the_last_stage_has_paths_and_the_chart_has_scores() -> None:
    view = make_view({0: (CAT, 0, 0.9), 5: (DOG, 1, 0.7)}, earlier={0: (CAT, 0, 0.4)})
    *_, first, last, chart = draw(view).axes
    assert not first.lines
    paths = {tuple(line.get_xdata()): tuple(line.get_ydata()) for line in last.lines}
    # The learned box of 0 is 40 x 30 in the corner; the cat's center is (30, 30).
    assert paths == {(20, 30, 30): (15, 30, 30), (60, 60, 120): (45, 45, 50)}
    curves = [line.get_ydata().tolist() for line in chart.lines[1:]]
    assert curves == [pytest.approx([0.01, 0.7]), pytest.approx([0.4, 0.9])]


def test_a_stage_that_disagrees_labels_its_class() -> None:
    view = make_view({0: (CAT, 0, 0.9)}, earlier={0: (CAT, 2, 0.6)})
    assert words(draw(view).axes[1], "label") == ["bird 0.60"]


def test_a_proposal_keeps_the_color_of_its_object_in_every_column() -> None:
    twin = [90.0, 20.0, 150.0, 60.0]
    view = make_view(
        {0: (CAT, 0, 0.9), 3: (DOG, 0, 0.8)}, earlier={0: (CAT, 0, 0.5), 7: (twin, 1, 0.4)}
    )
    figure = draw(view)

    def color_at(column: int, left: float) -> Any:
        (box,) = [b for b in boxes_in(figure.axes[column]) if b.get_x() == left]
        return box.get_edgecolor()[:3]

    starts = view.proposals_xyxy[:, 0].tolist()
    by_position = {(b.get_x(), b.get_y()): b.get_edgecolor()[:3] for b in boxes_in(figure.axes[0])}
    assert by_position[0.0, 0.0] == color_at(1, CAT[0]) == color_at(2, CAT[0])
    assert by_position[starts[3], 0.0] == color_at(2, DOG[0])
    assert color_at(2, CAT[0]) != color_at(2, DOG[0])  # two cats, two shades
    assert color_at(1, twin[0]) == GREY  # above the score at first, then rejected
    assert by_position[starts[7], 30.0] == GREY


def test_chosen_stages_only() -> None:
    figure = draw(make_view({0: (CAT, 0, 0.9)}), stages=[2])
    assert len(figure.axes) == 3
    assert "Stage 2" in words(figure)
    assert "Stage 1" not in words(figure)
    assert words(figure.axes[1], "label") == ["cat 0.90"]


def test_an_empty_stage_shows_its_best_score() -> None:
    figure = draw(make_view({0: (CAT, 0, 0.21)}))
    assert words(figure.axes[2], "foot") == ["none (best score 0.21)"]


def test_identical_proposals_are_explained_on_the_figure() -> None:
    image = np.tile(np.float32([0, 0, WIDTH, HEIGHT]), (12, 1))
    explained = draw(make_view({}, proposals=image))
    assert words(explained.axes[0], "remark") == ["12 boxes,\nnearly the same"]
    assert any("hide one another" in text for text in words(explained))
    plain = draw(make_view({}))
    assert words(plain.axes[0], "remark") == []
    assert not any("hide one another" in text for text in words(plain))


def test_a_name_is_text_and_not_a_formula() -> None:
    view = make_view({0: (CAT, 0, 0.9), 5: (DOG, 1, 0.8)})
    names = ["$x_1$", "a name that is much too long for a label", "bird"]
    figure = draw_stages([view], names, score=0.3, names=STAGES, caption="$5$ and $6$")
    figure.draw_without_rendering()
    assert words(figure.axes[2], "label") == ["$x_1$ 0.90", "a name that is much… 0.80"]


@pytest.mark.parametrize("size", [(90, 160), (160, 90), (30, 320), (320, 30), (1, 1)])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("columns", [2, 7])
def test_every_shape_of_video_fits_the_page(size: tuple[int, int], rows: int, columns: int) -> None:
    grid = Layout.of([size] * rows, columns)
    assert grid.width <= PAGE_WIDTH_IN + 1e-6
    assert grid.height <= PAGE_HEIGHT_IN
    for width, height in grid.panel_sizes:
        assert width / height == pytest.approx(size[1] / size[0])
        assert width <= grid.column_width + 1e-9
    bottoms = [top + height for top, height in zip(grid.row_tops, grid.row_heights, strict=True)]
    assert all(bottom < top for bottom, top in zip(bottoms, grid.row_tops[1:], strict=False))


def test_many_rows_go_on_below_the_page_and_stay_readable() -> None:
    grid = Layout.of([(90, 160)] * 24, 7)
    assert grid.panel_sizes[0][1] > 0.4
    assert grid.width <= PAGE_WIDTH_IN + 1e-6


def test_a_long_caption_is_broken_between_words() -> None:
    lines = wrap("one two three\nfour", 6, 0.5)
    assert lines == ["one two", "three", "four"]
    assert wrap("incomprehensibilities here", 6, 0.2) == ["incomprehensibilities", "here"]


def test_text_of_a_crowded_figure_does_not_overlap() -> None:
    rng = np.random.default_rng(0)
    proposals = np.zeros((40, 4), np.float32)
    proposals[:, :2] = rng.uniform(0, (WIDTH - 20, HEIGHT - 15), (40, 2))
    proposals[:, 2:] = proposals[:, :2] + rng.uniform(8, 30, (40, 2))
    last = {n: (proposals[n].tolist(), int(n % 3), 0.4 + n / 100) for n in range(40)}
    figure = draw(make_view(last, proposals=proposals), caption="Of a video " * 20)
    with rc_context(SETTINGS):
        figure.draw_without_rendering()
    inside = figure.bbox
    extents = [
        (text.get_window_extent(), text)
        for where in (figure, *figure.axes)
        for text in where.texts
        if text.get_gid() != "remark"
    ]
    assert len(extents) > 20
    for position, (one, text) in enumerate(extents):
        assert inside.x0 <= one.x0 and one.x1 <= inside.x1, text
        assert inside.y0 <= one.y0 and one.y1 <= inside.y1, text
        for other, other_text in extents[:position]:
            # The extent of a line includes room above the letters: half a point is not an overlap.
            assert not one.padded(-2).overlaps(other.padded(-2)), (text, other_text)


def test_points_are_dots_and_scores_of_proposals_come_first() -> None:
    """TransVOD starts from points, two-stage detectors from boxes with a score."""
    corners = grid_boxes()[:, :2]
    view = make_view({0: (CAT, 0, 0.9)}, proposals=np.concatenate([corners, corners], axis=1))
    points = draw(view).axes[0]
    assert not boxes_in(points)
    assert len(points.collections) == len(corners)
    scored = replace(view, proposal_scores=np.linspace(0.6, 0, len(corners), dtype=np.float32))
    chart = draw(scored).axes[-1]
    assert chart.lines[1].get_ydata().tolist() == pytest.approx([0.6, 0.9, 0.9])
    assert chart.lines[1].get_xdata().tolist() == [0, 1, 2]


# --- support frames -----------------------------------------------------------------------------


def test_of_many_support_frames_the_strongest_are_drawn_with_the_last_layer_of_a_kind() -> None:
    view = make_view({0: (CAT, 0, 0.9), 5: (DOG, 1, 0.7)})
    numbers = range(100, 112)
    shares = np.zeros((12, 13), np.float32)
    shares[:, :-1] = np.arange(12) / 66  # frames 104 to 111 have the largest ones
    proposals = np.repeat(shares[:, :-1, None] / 2, 2, axis=2)
    boxes = np.broadcast_to(np.array([CAT, DOG], np.float32), (12, 2, 4))
    layers = [
        LayerAttention(name=name, stage=1, weights=shares, boxes_xyxy=boxes, proposals=proposals)
        for name in ("FC1", "FC2")
    ]
    supports = tuple(SupportFrame(number, view.image) for number in numbers)
    view = replace(view, supports=supports, attention=tuple(layers))
    figure = draw_supports([view], NAMES, score=0.3)
    panels = figure.axes[1:]
    assert len(panels) == MAX_SUPPORTS
    assert "frame 111" in words(figure) and "frame 103" not in words(figure)
    assert words(panels[-1], "foot") == ["FC2 17 %"]  # 11 / 66
    assert len(boxes_in(panels[-1])) == 4  # two proposals for each of two objects
    assert any("in FC2 (at most" in text for text in words(figure))


# --- files --------------------------------------------------------------------------------------


def test_png_and_pdf_have_their_formats(tmp_path: Path) -> None:
    figure = draw(make_view({0: (CAT, 0, 0.9)}))
    png, pdf = tmp_path / "new" / "stages.png", tmp_path / "stages.pdf"
    save_figure(figure, png)
    save_figure(figure, pdf)
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    # Text uses an embedded TrueType font, not outlines (Type 3).
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "stages.pdf"]
    save_figure(figure, tmp_path / "again.PDF")
    assert (tmp_path / "again.PDF").read_bytes() == content


def test_an_unknown_suffix_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stages\.gif.*\.png, \.pdf or \.svg"):
        save_figure(draw(make_view({})), tmp_path / "stages.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(_: Figure, path: Path, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    (tmp_path / "stages.png").write_bytes(b"old, made by sparsevod")
    with pytest.raises(DataError, match=r"stages\.png: cannot write: No space"):
        save_figure(draw(make_view({})), tmp_path / "stages.png")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old, made by sparsevod"]


def test_user_settings_of_matplotlib_are_kept(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    save_figure(draw(make_view({})), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
