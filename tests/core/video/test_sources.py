"""Sources: what can be given as a video."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsevod_core.errors import ConfigError, VideoError
from sparsevod_core.reporting import SilentReporter
from sparsevod_core.video.sources import Source, find_sources


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b10.mp4", "b2.mp4", "a [x].mp4", "-dash.mp4", "clips/1.avi", "clips/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "1.PNG").write_bytes(b"x")
    (tmp_path / "frames" / "notes.txt").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return tmp_path


def places(*words: str) -> list[str]:
    return [source.place for source in find_sources(words)]


def test_files_keep_their_order_and_come_once(here):
    assert places("b10.mp4", "b2.mp4", "b10.mp4") == ["b10.mp4", "b2.mp4"]


def test_a_pattern_is_in_natural_order(here):
    assert places("b*.mp4") == ["b2.mp4", "b10.mp4"]
    assert places("**/*.avi") == ["clips/1.avi"]


def test_a_file_with_pattern_characters_in_its_name_is_that_file(here):
    assert places("a [x].mp4") == ["a [x].mp4"]


def test_a_folder_of_images_is_one_video_and_another_is_its_files(here):
    assert find_sources(["frames", "clips"]) == [
        Source("images", "frames"),
        Source("file", "clips/1.avi"),
    ]


class Said(SilentReporter):
    """Reporter that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_videos_of_a_camera_folder_come_without_its_photos_and_sidecars(here):
    names = ["1.JPG", "2.MP4", "2.LRV", "2.THM", "2.SRT", "3.MOV", "3.AAE", "._2.MP4", "4.jpg"]
    for name in names:
        (here / "empty" / name).write_bytes(b"x")
    said = Said()
    assert find_sources(["empty"], said) == [
        Source("file", "empty/2.MP4"),
        Source("file", "empty/3.MOV"),
    ]
    assert said.messages == [
        "empty: skipping 6 files without a video suffix: 1.JPG, 2.LRV, 2.SRT, 2.THM, 3.AAE and 1 "
        "more; images are one video only in a folder without videos"
    ]


def test_links_do_not_repeat_or_hide_files(here):
    (here / "clips" / "up").symlink_to(here)
    (here / "clips" / "loop").symlink_to("loop")
    (here / "clips" / "gone.mp4").symlink_to("nowhere.mp4")
    assert places("**/*.avi") == ["clips/1.avi"]
    said = Said()
    assert find_sources(["clips"], said) == [Source("file", "clips/1.avi")]
    assert "gone.mp4, loop" in said.messages[0]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfb2.mp4\r\nb10.mp4\r\n",
        "b2.mp4\r\nb10.mp4\r\n".encode("utf-16"),
        b"\xfe\xff" + "b2.mp4\nb10.mp4".encode("utf-16-be"),
        b"\"b2.mp4\"\r\n\r\n'b10.mp4'",
        b".\\b2.mp4\r\nclips\\..\\b10.mp4",
        b'# both\n".\\b2.mp4"\r  b10.mp4  ',
        b"file 'b2.mp4'\nfile 'b10.mp4'\n",
        b".\\b*.mp4",
    ],
)
def test_lists_of_other_systems(here, content):
    (here / "list.txt").write_bytes(content)
    found = [Path(place).resolve() for place in places("@list.txt")]
    assert found == [here / "b2.mp4", here / "b10.mp4"]


def test_a_list_in_latin_1(here):
    (here / "été.mp4").write_bytes(b"x")
    (here / "list.txt").write_bytes("été.mp4\n".encode("latin-1"))
    assert places("@list.txt") == ["été.mp4"]


def test_a_name_with_backslashes_or_quotes_is_that_file(here):
    for name in ("a\\b.mp4", "'c'.mp4", '"d"'):
        (here / name).write_bytes(b"x")
    (here / "list.txt").write_text("a\\b.mp4\n'c'.mp4\n\"d\"\n")
    assert places("@list.txt") == ["a\\b.mp4", "'c'.mp4", '"d"']


def test_streams_cameras_and_stdin(here):
    words = ["rtsp://user:secret@cam.local/live", "0", "-"]
    found = find_sources(words)
    assert [source.kind for source in found] == ["stream", "camera", "stdin"]
    assert [source.is_live for source in found] == [True, True, False]
    assert [source.place for source in found] == words
    assert (str(found[0]), found[0].stem) == ("rtsp://cam.local/live", "rtsp_cam.local_live")


def test_a_folder_has_its_name_however_it_is_called(here, monkeypatch):
    monkeypatch.chdir(here / "frames")
    for place in (".", "../frames", f"{here}/empty/../frames/"):
        assert Source("images", place).stem == "frames"


def test_a_file_named_like_a_camera_is_a_file(here):
    Path("0").write_bytes(b"x")
    assert find_sources(["0"]) == [Source("file", "0")]


def test_paths_in_a_list_are_relative_to_it(here, tmp_path):
    (here / "lists").mkdir()
    (here / "lists" / "all.txt").write_text(
        f"# mine\n\n../b2.mp4\nrtsp://cam/1\n{tmp_path / 'b10.mp4'}\n"
    )
    assert places("@lists/all.txt") == ["lists/../b2.mp4", "rtsp://cam/1", str(here / "b10.mp4")]


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        (["nowhere.mp4"], VideoError, "nowhere.mp4: no such file"),
        (["x*.mp4"], VideoError, "no file matches"),
        (["ftp://host/a.mp4"], ConfigError, "ftp:// is not supported"),
        (["file:///etc/passwd"], ConfigError, "file:// is not supported"),
        (["empty"], VideoError, "the folder is empty"),
        (["above"], VideoError, "the folder is empty (it has only folders)"),
        (["x" * 300], VideoError, "cannot open it: File name too long"),
        (["broken.mp4"], VideoError, "a link to a file that does not exist"),
        (["@nowhere.txt"], VideoError, "cannot read the list"),
        (["@bad.txt"], VideoError, "bad.txt, line 2: gone.mp4: no such file"),
        (["@loop.txt"], ConfigError, "loop.txt, line 1: @loop.txt is not allowed in a list"),
        (["@binary.txt"], VideoError, "expected a text file"),
        (["@blank.txt"], VideoError, "blank.txt: expected one path or URL per line, got none"),
    ],
)
def test_errors_are_one_line(here, words, kind, says):
    (here / "above" / "below").mkdir(parents=True)
    (here / "broken.mp4").symlink_to("nowhere.mp4")
    (here / "bad.txt").write_text("b2.mp4\ngone.mp4\n")
    (here / "loop.txt").write_text("@loop.txt\n")
    (here / "blank.txt").write_text("# later\n\n")
    (here / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(kind) as raised:
        find_sources(words)
    assert says in raised.value.message.replace(f"{Path()}/", "")
    assert "\n" not in raised.value.message
