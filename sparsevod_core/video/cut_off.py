"""Whether a video file is cut off, by the sizes that its container states.

FFmpeg reads what is there, and mostly says nothing about a file that ends too early.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

_MAX_PARTS = 100_000
_TAIL_BYTES = 2**18
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # Matroska and WebM
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # GUID of the file's properties
_TS_PACKETS = {0: (188, 204), 4: (192,)}  # offset of the first sync byte: sizes of packets
_PACK, _END = 0xBA, 0xB9  # start codes of MPEG program streams
_MPEG2 = 0b01


def is_cut_off(path: Path) -> bool:
    """Return True if a file ends before the end that it states; False if it states none."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            return _is_cut_off(file, size)
    except OSError:
        return False


def _is_cut_off(file: BinaryIO, size: int) -> bool:
    head = file.read(8192)
    if head[:4] == b"RIFF":
        return _end_of_chunks(file, size) > size + 1
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"styp"):
        return _end_of_boxes(file, size) > size
    if head[:4] == _EBML:
        return _end_of_segment(head) > size
    if head[:16] == _ASF:
        at = head.find(_ASF_FILE) + 40
        return int.from_bytes(head[at : at + 8], "little") > size if at >= 40 else False
    if head[:4] == b"FLV\x01":
        return _is_tag_incomplete(_tail(file, size))
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return not _tail(file, size).rstrip(b"\0").endswith(b";")
    if head[:4] == b"OggS":
        return _is_page_incomplete(_tail(file, size))
    if head[:4] == b"\0\0\1\xba":
        return _is_pack_incomplete(_tail(file, size))
    for offset, packet_sizes in _TS_PACKETS.items():
        for packet in packet_sizes:
            if head[offset : 8 * packet : packet] == b"\x47" * 8:
                return size % packet != 0
    return False


def _tail(file: BinaryIO, size: int) -> bytes:
    file.seek(max(size - _TAIL_BYTES, 0))
    return file.read()


def _end_of_chunks(file: BinaryIO, size: int) -> int:
    """Return where the last chunk of a RIFF file ends; AVIs above 1 GB have several."""
    at = 0
    for _ in range(_MAX_PARTS):
        file.seek(at)
        head = file.read(8)
        if at >= size or head[:4] != b"RIFF":
            break
        length = int.from_bytes(head[4:], "little")
        at += 8 + length + length % 2
    return at


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last box of an MP4 or MOV ends."""
    at = 0
    for _ in range(_MAX_PARTS):
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if at + 8 > size or length < 8 or not head[4:8].isalnum():
            break
        at += length
    return at


def _end_of_segment(head: bytes) -> int:
    """Return where the segment of a Matroska or WebM file ends; 0 if it does not state that."""
    at = head.find(_SEGMENT)
    if at < 0 or at + 12 > len(head) or head[at + 4] == 0:
        return 0
    at += 4
    width = 9 - head[at].bit_length()  # leading zeros tell the width of the number
    most = (1 << 7 * width) - 1
    length = int.from_bytes(head[at : at + width], "big") & most
    return 0 if length == most else at + width + length


def _is_tag_incomplete(tail: bytes) -> bool:
    """Check the last tag of an FLV file, which is followed by its length."""
    length = int.from_bytes(tail[-4:], "big")
    start = len(tail) - 4 - length
    if not 11 <= length <= len(tail) - 4:
        return length <= _TAIL_BYTES
    return int.from_bytes(tail[start + 1 : start + 4], "big") != length - 11


def _is_page_incomplete(tail: bytes) -> bool:
    """Check the last page of an Ogg file."""
    at = tail.rfind(b"OggS")
    if at < 0:
        return False
    segments = tail[at + 27 : at + 27 + tail[at + 26]] if at + 26 < len(tail) else b""
    is_header_complete = at + 26 < len(tail) and len(segments) == tail[at + 26]
    return not is_header_complete or at + 27 + len(segments) + sum(segments) > len(tail)


def _is_pack_incomplete(tail: bytes) -> bool:
    """Check the packets after the last pack header of an MPEG program stream."""
    at = tail.rfind(bytes((0, 0, 1, _PACK)))
    while 0 <= at < len(tail) - 6 and tail[at : at + 3] == b"\0\0\1":
        code = tail[at + 3]
        if code == _END:
            return False
        if code != _PACK:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
        elif tail[at + 4] >> 6 == _MPEG2:
            at += 14 + (tail[at + 13] & 7 if at + 13 < len(tail) else 0)
        else:
            at += 12
    return at > len(tail)
