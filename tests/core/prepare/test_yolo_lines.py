"""Columns of YOLO label lines: decided from the whole set, and refused where they stay unclear."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from own_sets import HEIGHT, WIDTH, Messages, Studio, box_of, fractions

from sparsevod_core.errors import DataError

NAMES = "names: [cat, dog]\n"


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


def lines(studio: Studio, texts: Sequence[str], settings: str = NAMES) -> None:
    """Write one frame for each text; `BOX` stands for its box, `L T R B` for its sides."""
    studio.write("data.yaml", settings)
    for number, text in enumerate(texts):
        left, top, right, bottom = box_of(number)
        sides = {"L": left / WIDTH, "T": top / HEIGHT, "R": right / WIDTH, "B": bottom / HEIGHT}
        words = text.replace("BOX", fractions(number)).split(" ")
        studio.image(f"a/{number}.png", number)
        studio.write(f"a/{number}.txt", " ".join(str(sides.get(word, word)) for word in words))


def notes_and_tracks(studio: Studio) -> tuple[str, list[int]]:
    """Return the messages and the track of each box, whose places are those of the pixels."""
    reporter = Messages()
    (split,) = studio.prepare("yolo", reporter=reporter)
    assert split.problems == []
    return reporter.text, [n for _, _, tracks in studio.shown()["a"] for n in tracks]


@pytest.mark.parametrize(
    ("tail", "shape"),
    [
        (" 0.45 0.4 2 0.55 0.6 2", "[2, 3]"),
        (" 0.45 0.4 1 0 0 0", "[2, 3]"),
        (" 0.45 0.4 0.55 0.6", "[2, 2]"),
        (" 0.3 0.3", "[1, 2]"),
        (" 0.3 0.3 1", "\n- 1\n- 3"),
        (" 0.3 0.3 2" * 17, "[17, 3]"),
    ],
)
def test_key_points_are_not_part_of_the_box(studio: Studio, tail: str, shape: str) -> None:
    settings = f"{NAMES}kpt_shape: {shape}\n"
    lines(studio, [f"0 BOX{tail}"] * 4, settings)
    text, tracks = notes_and_tracks(studio)
    assert "key points, which are not used" in text and tracks == [-1] * 4
    lines(studio, [f"0 BOX{tail}", "1 BOX"], settings)
    assert notes_and_tracks(studio)[1] == [-1] * 4
    lines(studio, [f"0 BOX{tail} 0.9 {3 + n}" for n in range(4)], settings)
    assert notes_and_tracks(studio)[1] == [0, 1, 2, 3]
    lines(studio, [f"0 BOX{tail}"] * 3 + [f"0 BOX{tail} 0.3 0.3 1"], settings)
    (problem,) = studio.problems("yolo")
    assert problem.startswith("a/3.txt:1: expected")


@pytest.mark.parametrize(
    "tail",
    [
        " 0.45 0.4 2 0.55 0.6 2",
        " 0.45 0.4 1 0.55 0.6 1",
        " 0.45 0.4 0.55 0.6",
        " 0.45 0.4",
        " 0.45 0.4 2",
        " 0.45 0.4 0.55 0.6 0.5 0.6 0 0",
        " 0.45 0.4 2" * 17,
    ],
)
def test_key_points_without_their_form_are_refused(studio: Studio, tail: str) -> None:
    lines(studio, [f"0 0.5 0.5 0.2 0.4{tail}"] * 4)
    with pytest.raises(DataError, match=r"a/0\.txt:1: ") as error:
        studio.prepare("yolo")
    assert "kpt_shape" in str(error.value.hint)


@pytest.mark.parametrize("shape", ["[17]", "[0, 3]", "[17, 4]", "[a, b]", "{a: b}", "[[17, 3]]"])
def test_an_invalid_kpt_shape_is_refused(studio: Studio, shape: str) -> None:
    lines(studio, ["0 BOX"], f"{NAMES}kpt_shape: {shape}\n")
    with pytest.raises(DataError, match=r"data\.yaml: kpt_shape: expected"):
        studio.prepare("yolo")


@pytest.mark.parametrize(
    "texts",
    [
        ["0 L T R T R B L B"] * 4,  # an oriented box
        ["0 L T R T R B L B", "1 L T R T R B", "0 BOX"],
        ["0 L B R T R B"] * 4,
        ["0 L T R T R B L B L T R T R B L B"] * 4,
    ],
)
def test_polygons(studio: Studio, texts: list[str]) -> None:
    lines(studio, texts)
    assert notes_and_tracks(studio)[1] == [-1] * len(texts)


@pytest.mark.parametrize(
    "polygon",
    [
        "0.4 0.4 0.6 0.4 0.6 0.6 0.4 0.6",
        "0.5 0.4 0.6 0.5 0.5 0.6 0.4 0.5",
        "0.4 0.4 0.5 0.38 0.6 0.4 0.6 0.6 0.4 0.6",
    ],
)
def test_polygons_in_the_middle_of_the_frame(studio: Studio, polygon: str) -> None:
    lines(studio, [f"0 {polygon}"] * 4)
    (split,) = studio.prepare("yolo")
    assert split.num_boxes == 4 and split.problems == []


@pytest.mark.parametrize("chance", [random.Random(seed) for seed in range(8)])
def test_polygons_of_few_points_are_not_taken_for_key_points(
    studio: Studio, chance: random.Random
) -> None:
    studio.write("data.yaml", NAMES)
    num_points = chance.choice([3, 4, 5, 8])
    for number in range(6):
        size = chance.uniform(0.05, 0.3)
        x, y = chance.uniform(size, 1 - size), chance.uniform(size, 1 - size)
        points = [chance.uniform(-size, size) + at for _ in range(num_points) for at in (x, y)]
        studio.image(f"a/{number}.png", number)
        studio.write(f"a/{number}.txt", f"0 {' '.join(map(str, points))}\n")
    (split,) = studio.prepare("yolo")
    assert split.num_boxes == 6 and split.problems == []


@pytest.mark.parametrize(
    ("tails", "tracks", "words"),
    [
        ([" 7", " 7", " 9"], [0, 0, 1], "the last column of the labels is the track"),
        ([" 1", " 1", " 1"], [0, 0, 0], "is the track"),
        ([" 3.0", " 4.0", " 3.0"], [0, 1, 0], "is the track"),
        ([" 3", " -1", ""], [0, -1, -1], "is the track"),
        ([" 0.87", " 1", " 0.3"], [-1] * 3, "scores, which are not used"),
        ([" 1.000000", " 1.000000", " 0.000000"], [-1] * 3, "scores"),
        ([" 1\n1 BOX 1"], [-1, -1], "scores"),
        ([" 0.9 7", " 0.8 7", " 0.7 9"], [0, 0, 1], "scores"),
        ([" 0.9 1", " 0.8 1", " 0.7 1"], [0, 0, 0], "is the track"),
        ([" 0.9 7", " 0.8", " 1"], [0, -1, -1], "is the track"),
    ],
)
def test_scores_and_tracks(studio: Studio, tails: list[str], tracks: list[int], words: str) -> None:
    lines(studio, [f"0 BOX{tail}" for tail in tails])
    text, found = notes_and_tracks(studio)
    assert found == tracks and words in text


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["0 BOX 12", "0 BOX 0.87"], r"a/1\.txt:1: the last column has 0\.87.* 12 in .*a/0\.txt:1"),
        (["0 BOX 1.57", "0 BOX -0.2"], "so it is no track"),
        (["0 BOX 0.9 1"], "7 numbers can be a triangle, or a box with a score and a track"),
        (["0 BOX 0.9 0.8 0.7"], "even number of coordinates"),
        (["0 20 16 24 16"] * 3, r"not pixels, got '0 20 16 24 16' \(3 of 3 lines"),
        (["0 10 8 34 8 34 24"] * 3, "polygon of fractions"),
        (["cat BOX"] * 3, "expected numbers"),
        (["0,0.5,0.5,0.1,0.1"] * 3, "expected numbers"),
        (["0 L T R"] * 3, "expected 5 numbers"),
    ],
)
def test_lines_of_no_known_form_are_refused(studio: Studio, texts: list[str], words: str) -> None:
    lines(studio, texts)
    with pytest.raises(DataError, match=words) as error:
        studio.prepare("yolo")
    assert "\n" not in error.value.message


@pytest.mark.parametrize(
    ("columns", "words"),
    [("L T R B", "x1 y1 x2 y2"), ("0.05 0.5 0.25 0.25", "left top width height")],
)
def test_corners_and_corner_with_size_are_refused(studio: Studio, columns: str, words: str) -> None:
    lines(studio, [f"0 {columns}"] * 6)
    with pytest.raises(DataError, match=f"boxes leave the frame: the columns look like {words}"):
        studio.prepare("yolo")


def test_a_box_that_leaves_the_frame_is_only_clipped(studio: Studio) -> None:
    lines(studio, ["0 BOX"] * 5 + ["0 0.05 0.5 0.2 0.2"])
    (problem,) = studio.problems("yolo")
    assert "leaves the 96x64 frame, clipped" in problem


def test_the_form_of_a_large_set_is_found_in_files_spread_over_it(studio: Studio) -> None:
    lines(studio, ["0 BOX"] + ["0 BOX 7\n" + "0 BOX\n" * 9] * 3)
    for number in range(3_000):
        studio.write(f"labels/b/{number}.txt", "")
    (split,) = studio.prepare("yolo")
    assert (split.num_boxes, split.left_out) == (7, {"boxes that repeat another one": 24})
