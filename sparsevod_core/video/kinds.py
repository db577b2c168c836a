"""What a file is: a video or an image by its suffix, anything else by its first bytes."""

from __future__ import annotations

from pathlib import Path

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of files that are used as frames."""

_VIDEO_SUFFIXES = (
    *(".264", ".265", ".360", ".3g2", ".3gp", ".amv", ".apng", ".asf", ".av1", ".avc", ".avi"),
    *(".dav", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h261", ".h263", ".h264", ".h265"),
    *(".hevc", ".insv", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg"),
    *(".mjpg", ".mkv", ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf"),
    *(".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".trp", ".ts", ".vob"),
    *(".webm", ".wmv", ".wtv", ".y4m"),
)

_HEAD_BYTES = 512

_STARTS = {  # first bytes: (what the file is, what to do)
    b"%PDF": ("a PDF document", ""),
    b"PK\x03\x04": ("a ZIP archive", "extract it and name the videos inside"),
    b"Rar!": ("a RAR archive", "extract it and name the videos inside"),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "extract it and name the videos inside"),
    b"\x1f\x8b": ("a gzip archive", "extract it and name the videos inside"),
    b"version https://git-lfs": (
        "a Git LFS pointer, not the file itself",
        "use git lfs pull to fetch the file",
    ),
    b"II*\x00": ("a TIFF or raw photo", "put images into a folder and name the folder"),
    b"MM\x00*": ("a TIFF or raw photo", "put images into a folder and name the folder"),
}
_STILL_BRANDS = (b"heic", b"heix", b"mif1", b"avif", b"crx ")
_CUT_OFF = (
    "an MP4 or MOV without its index (moov): it was cut off while it was written or copied",
    "copy it again, or repair it, e.g. with untrunc",
)
_BOXES = (b"ftyp", b"mdat", b"wide", b"free", b"skip", b"moov")


def is_image(name: str) -> bool:
    """Return True if the name has an image suffix and is not that of a hidden file."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def is_video(name: str) -> bool:
    """Return True if the name has a suffix by which videos are found in a folder."""
    return name.lower().endswith(_VIDEO_SUFFIXES)


def kind_of(path: Path) -> tuple[str, str] | None:
    """Return what a file that is not a readable video is, and a hint; None if unknown."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip(b"\0"):
        return "nothing but zero bytes: it was cut off while it was copied or written", ""
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return "a HEIF, AVIF or raw photo", "convert images to JPEG or PNG"
    if head[4:8] in _BOXES:
        return _CUT_OFF if b"moov" not in head else None
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page: a download that failed", "download the video again"
    if all(byte >= 0x20 or byte in b"\t\r\n\f" for byte in head):
        return "a text file", "write @ in front of the name of a list of videos"
    return None
