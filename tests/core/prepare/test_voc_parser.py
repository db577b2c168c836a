"""Strict parser of one frame's XML: values, and errors of broken or hostile files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsevod_core.errors import DataError
from sparsevod_core.prepare.reading.strict_xml import root_element
from sparsevod_core.prepare.voc.parser import MAX_BYTES, read_voc_xml

OBJECT = """\t<object>
\t\t<trackid>4</trackid>
\t\t<name>n02691156</name>
\t\t<bndbox><xmax>20</xmax><xmin>10</xmin><ymax>9.5</ymax><ymin>3</ymin></bndbox>
\t\t<occluded>1</occluded>
\t\t<generated>0</generated>
\t</object>
"""
FRAME = f"""<annotation>
\t<folder>a</folder>
\t<size>
\t\t<width>64</width>
\t\t<height>48</height>
\t</size>
{OBJECT}</annotation>
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "000000.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_reads_size_and_objects(tmp_path: Path) -> None:
    annotation = read_voc_xml(write(tmp_path, FRAME))
    assert (annotation.width, annotation.height) == (64, 48)
    (item,) = annotation.objects
    assert (item.line, item.name, item.track) == (7, "n02691156", 4)
    assert item.box_xyxy == (10, 3, 20, 9.5)
    assert item.occluded is True and item.generated is False


def test_a_det_still_has_no_track_and_no_flags(tmp_path: Path) -> None:
    text = "".join(
        line + "\n"
        for line in FRAME.splitlines()
        if not any(tag in line for tag in ("trackid", "occluded", "generated"))
    )
    (item,) = read_voc_xml(write(tmp_path, text)).objects
    assert (item.track, item.occluded, item.generated) == (None, False, False)


def test_parts_of_an_object_do_not_replace_its_name_and_box(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><xmax>2</xmax></bndbox></part>"
    text = FRAME.replace("\t</object>", f"{part}\t</object>")
    (item,) = read_voc_xml(write(tmp_path, text)).objects
    assert item.name == "n02691156" and item.box_xyxy == (10, 3, 20, 9.5)


def test_every_box_of_an_object_is_one(tmp_path: Path) -> None:
    other = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    text = FRAME.replace("\t</object>", f"{other}\t</object>")
    first, second = read_voc_xml(write(tmp_path, text)).objects
    assert (first.box_xyxy, second.box_xyxy) == ((10, 3, 20, 9.5), (1, 2, 3, 4))
    assert (first.name, first.track) == (second.name, second.track)


@pytest.mark.parametrize(
    ("text", "is_set"),
    [("1", True), ("True", True), ("0.5", True), ("0", False), ("", False), ("Unspecified", False)],
)
def test_flags_are_numbers_or_words(tmp_path: Path, text: str, is_set: bool) -> None:
    flags = f"<difficult>{text}</difficult><occluded>{text}</occluded>"
    (item,) = read_voc_xml(write(tmp_path, FRAME.replace("<occluded>1</occluded>", flags))).objects
    assert (item.difficult, item.occluded) == (is_set, is_set)


@pytest.mark.parametrize("size", ["", "<width>0</width>", "<width/>"])
def test_a_size_that_is_not_stated(tmp_path: Path, size: str) -> None:
    annotation = read_voc_xml(write(tmp_path, FRAME.replace("<width>64</width>", size)))
    assert (annotation.width, annotation.height) == (0, 48)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "GB18030", "gbk", "big5", "Shift_JIS"]
)
def test_declared_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    declared = "utf-8" if encoding == "utf-8-sig" else encoding
    text = f'<?xml version="1.0" encoding="{declared}"?>\n{FRAME}'.replace("n02691156", "人車")
    path = write(tmp_path, text.encode(encoding))
    assert [item.name for item in read_voc_xml(path).objects] == ["人車"]
    assert root_element(path) == "annotation"


@pytest.mark.parametrize(("encoding", "name"), [("windows-1251", "дом"), ("iso-8859-15", "œuf")])
def test_declared_encodings_of_one_byte_are_read(tmp_path: Path, encoding: str, name: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n{FRAME}'.replace("n02691156", name)
    (item,) = read_voc_xml(write(tmp_path, text.encode(encoding))).objects
    assert item.name == name


def test_declarations_that_are_wrong(tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="utf-16"?>\n{FRAME}'.replace("n02691156", "汽车")
    assert [item.name for item in read_voc_xml(write(tmp_path, text)).objects] == ["汽车"]
    beyond = text.replace("utf-16", "GB2312").replace("汽车", "汽車").encode("gbk")
    assert [item.name for item in read_voc_xml(write(tmp_path, beyond)).objects] == ["汽車"]
    path = write(tmp_path, text.replace("utf-16", "Shift_JIS").encode("gb18030"))
    with pytest.raises(DataError, match=r"xml:10: broken XML: expected shift_jis, as declared"):
        read_voc_xml(path)


def test_an_encoding_that_is_not_declared(tmp_path: Path) -> None:
    path = write(tmp_path, FRAME.replace("n02691156", "汽车").encode("gb18030"))
    with pytest.raises(DataError, match=r"xml:9: broken XML: expected UTF-8, or a declared enc"):
        read_voc_xml(path)


def test_a_frame_without_objects(tmp_path: Path) -> None:
    assert read_voc_xml(write(tmp_path, FRAME.replace(OBJECT, ""))).objects == []


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("</annotation>", "", 15, "no element found"),
        ("</object>", "</objec>", 13, "mismatched tag"),
        ("<annotation>", "<annotations>", 1, "expected <annotation>"),
        ("<xmin>10</xmin>", "", 7, "without <xmin>"),
        ("<xmin>10</xmin>", "<xmin>nan</xmin>", 7, "expected a number, got 'nan'"),
        ("<xmin>10</xmin>", "<xmin>1e999</xmin>", 7, "expected a number"),
        ("<trackid>4</trackid>", "<trackid>four</trackid>", 7, "expected an integer"),
        ("<trackid>4</trackid>", f"<trackid>{10**12}</trackid>", 7, "out of range"),
        ("<name>n02691156</name>", "<name> </name>", 7, "without <name>"),
        ("<width>64</width>", "<width>-1</width>", 4, "got -1"),
        ("<width>64</width>", "<width>6.5</width>", 4, "got 6.5"),
        ("<width>64</width>", "<width>64</width>\n<width>6</width>", 5, "a second <width>"),
        ("<xmin>10</xmin>", "<xmin>10</xmin><xmin>9</xmin>", 10, "a second <xmin>"),
        ("<trackid>4", "<name>b</name><trackid>4", 9, "a second <name>"),
        ("bndbox>", "robndbox>", 7, "has only a rotated box (<robndbox>), no <bndbox>"),
        ("bndbox>", "polygon>", 7, "has only a polygon (<polygon>), no <bndbox>"),
        ("bndbox>", "box>", 7, "'n02691156' has no <bndbox>"),
        ("<trackid>", "<difficult>maybe</difficult><trackid>", 7, "expected a number, got 'maybe'"),
    ],
)
def test_errors_name_the_line_and_the_reason(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    path = write(tmp_path, FRAME.replace(old, new))
    with pytest.raises(DataError) as error:
        read_voc_xml(path)
    place, _, reason = error.value.message.partition(": ")
    assert place == f"{path}:{line}"
    assert words in reason and "\n" not in reason


@pytest.mark.parametrize("length", [0, 1, 40, 120, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(DataError, match=r"000000\.xml:[0-9]+: "):
        read_voc_xml(write(tmp_path, FRAME[:length]))


BOMB = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "boom"}">' for i in range(12))


@pytest.mark.parametrize(
    "declaration",
    [
        f"<!DOCTYPE annotation [{BOMB}]>",
        '<!DOCTYPE annotation [<!ENTITY secret SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE annotation SYSTEM "http://example.org/a.dtd">',
        "<!DOCTYPE annotation>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_entities_are_refused_in_every_encoding(
    tmp_path: Path, declaration: str, encoding: str
) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n{declaration}\n{FRAME}'
    with pytest.raises(DataError, match=r"\.xml:2: .*entity declaration refused"):
        read_voc_xml(write(tmp_path, text.encode(encoding)))


@pytest.mark.parametrize(
    "content",
    [b"\x00\x01\x02", b"\xff" * 50, b'<?xml version="1.0" encoding="no-such"?><annotation/>'],
    ids=["zeros", "bytes", "unknown encoding"],
)
def test_files_that_are_not_xml(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match="broken XML"):
        read_voc_xml(write(tmp_path, content))


def test_a_huge_file_is_not_read_into_memory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="larger than"):
        read_voc_xml(write(tmp_path, b" " * (MAX_BYTES + 1)))


def test_deep_nesting_is_harmless(tmp_path: Path) -> None:
    deep = "<a>" * 50_000 + "</a>" * 50_000
    assert read_voc_xml(write(tmp_path, FRAME.replace("<folder>a", f"<folder>{deep}"))).width == 64


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.xml: cannot read"):
        read_voc_xml(tmp_path / "nothing.xml")


def test_real_files(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "ilsvrc" / "quoted_xml"
    boxes = {path.name: read_voc_xml(path) for path in sorted(folder.glob("*.xml"))}
    assert len(boxes) == 5
    turtle = boxes["train_00001000_000000.xml"]
    assert (turtle.width, turtle.height) == (1280, 720)
    assert [(o.name, o.box_xyxy, o.track, o.occluded) for o in turtle.objects] == [
        ("n01662784", (0, 81, 888, 718), 0, True)
    ]
