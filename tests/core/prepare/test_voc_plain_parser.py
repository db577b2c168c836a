"""The fast parser of VOC XML returns the result of the strict one, or None."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.voc.parser import (
    VocAnnotation,
    parse_plain_voc_xml,
    parse_voc_xml,
)


def frame(*objects: str, size: str = "<width>64</width><height>48</height>") -> str:
    return f"<annotation>\n\t<size>{size}</size>\n{''.join(objects)}</annotation>\n"


def item(
    name: str = "n1",
    track: str = "<trackid>4</trackid>",
    xmin: str = "1",
    xmax: str = "20",
    flags: str = "<occluded>1</occluded><generated>0</generated>",
    box: str = "<ymax>9.5</ymax><ymin>3</ymin>",
) -> str:
    return (
        f"\t<object>\n\t\t{track}\n\t\t<name>{name}</name>\n\t\t<bndbox><xmax>{xmax}</xmax>"
        f"<xmin>{xmin}</xmin>{box}</bndbox>{flags}\n\t</object>\n"
    )


def strict(text: str | bytes) -> VocAnnotation | None:
    """Return the strict parser's result without lines, or None if it raises."""
    try:
        annotation = parse_voc_xml("a.xml", text.encode() if isinstance(text, str) else text)
    except DataError:
        return None
    for found in annotation.objects:
        found.line = 0
    return annotation


def fast(*texts: str) -> list[VocAnnotation | None]:
    return parse_plain_voc_xml([text.encode() for text in texts])


ORDINARY = {
    "empty": frame(),
    "object": frame(item()),
    "objects": frame(item(), item(name=" n2 ", track="<trackid> 7 </trackid>")),
    "still": frame(item(track="", flags="")),
    "others": frame("<source><database>a</database></source>", item(flags="<pose>left</pose>")),
    "predefined entity": frame(item(name="a &amp; b")),
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_files_are_parsed_alike(text: str) -> None:
    expected = strict(text)
    assert expected is not None
    assert fast(text) == [expected]
    assert fast(text, frame(), text) == [expected, strict(frame()), expected]


UNUSUAL = {
    "cut off": frame(item())[:-20],
    "declaration": f'<?xml version="1.0"?>\n{frame()}',
    "document type": f"<!DOCTYPE annotation>\n{frame()}",
    "inner document type": frame("<!DOCTYPE annotation>"),
    "entity": frame(item(name="&boom;")),
    "other root": "<annotations></annotations>",
    "two roots": frame() + frame(),
    "nested root": frame("<annotation></annotation>"),
    "no size": "<annotation></annotation>",
    "a size of 0": frame(size="<width>0</width><height>9</height>"),
    "a flag as a word": frame(item(flags="<difficult>true</difficult>")),
    "two sizes": frame("<size><width>9</width><height>9</height></size>"),
    "large": frame(size="<width>70000</width><height>9</height>"),
    "no width": frame(size="<height>9</height>"),
    "no name": frame(item(name=" ")),
    "two names": frame(item(track="<name>n2</name>")),
    "no side": frame(item(box="<ymin>1</ymin>")),
    "not a number": frame(item(xmin="one")),
    "not finite": frame(item(xmax="1e999")),
    "nan": frame(item(xmax="nan")),
    "long track": frame(item(track=f"<trackid>{1 << 31}</trackid>")),
    "part": frame(item(flags="<part><name>head</name></part>")),
    "nested text": frame(item(xmin="1<a/>2")),
    "two boxes": frame(item(flags="<bndbox><xmin>1</xmin></bndbox>")),
    "null": frame(item(name="a\0b")),
    "nothing": "",
}


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_files_are_left_to_the_strict_parser(text: str) -> None:
    good = frame(item())
    assert fast(text) == [None]
    assert fast(good, text, good) == [strict(good), None, strict(good)]


def test_files_that_are_well_formed_only_together_are_refused() -> None:
    whole = frame(item(), item())
    middle = whole.index("<object>", whole.index("</object>"))
    assert fast(whole[:middle], whole[middle:]) == [None, None]
    ends_early = "<annotation>", "</annotation><annotation></annotation>"
    assert fast(*ends_early) == [None, None]
    closed_by_the_next = "<annotation><a></annotation>", "<annotation></a></annotation>"
    assert fast(*closed_by_the_next) == [None, None]
    comment = "<annotation><!-- </annotation>", "<annotation> --></annotation>"
    assert fast(*comment) == [None, None]
    instruction = "<annotation><?a </annotation>", "<annotation> ?></annotation>"
    assert fast(*instruction) == [None, None]
    section = "<annotation><![CDATA[</annotation>", "<annotation>]]></annotation>"
    assert fast(*section) == [None, None]


pieces = st.sampled_from(
    [
        *("<object>", "</object>", "<bndbox>", "</bndbox>", "<part>", "</part>", "<a/>", "7"),
        *("<name>n1</name>", "<trackid>4</trackid>", "<occluded>1</occluded>", "&lt;", "\n\t"),
        *("<generated>2</generated>", "<xmin>1</xmin>", "<xmin>-2.5</xmin>", "<xmax>20</xmax>"),
        *("<ymin>3</ymin>", "<ymax> 9 </ymax>", "<annotation>", "</annotation>", "<?x y?>"),
        *("<difficult>1</difficult>", "<difficult/>", "<robndbox/>", "<width>0</width>"),
        *("<size><width>64</width><height>48</height></size>", "<!-- 1 -->", "<![CDATA[3]]>"),
    ]
)
objects = st.builds(
    lambda parts: "<object>" + "".join(parts) + "</object>",
    st.permutations(
        [
            "<name>n1</name>",
            "<trackid>4</trackid>",
            "<bndbox><xmax>5</xmax><xmin>1</xmin><ymin>2</ymin><ymax>3</ymax></bndbox>",
            "<occluded>0</occluded>",
            "<generated>1</generated>",
        ]
    ),
)
bodies = st.lists(st.one_of(pieces, objects), max_size=12).map("".join)
files = st.builds(
    lambda body, has_size: frame(body) if has_size else f"<annotation>{body}</annotation>",
    bodies,
    st.booleans(),
)


@settings(max_examples=400)
@given(st.lists(files, min_size=1, max_size=3))
def test_every_result_of_the_fast_parser_is_that_of_the_strict_one(texts: list[str]) -> None:
    for text, found in zip(texts, fast(*texts), strict=True):
        assert found is None or found == strict(text)


def test_real_files_are_ordinary(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "ilsvrc"
    paths = sorted(folder.rglob("*.xml"))
    texts = [path.read_bytes() for path in paths]
    assert len(paths) == 149
    for text, found in zip(texts, parse_plain_voc_xml(texts), strict=True):
        assert found is not None and found == strict(text)
