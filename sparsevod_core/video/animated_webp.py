"""An animated WebP as a video. FFmpeg reads only WebP images, Pillow reads both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from sparsevod_core.errors import VideoError
from sparsevod_core.pixel_limit import pillow_image, require_few_pixels
from sparsevod_core.structures import Frame
from sparsevod_core.video.decode import broken_off

if TYPE_CHECKING:
    from PIL.Image import Image

_ANIMATION = 0x02  # flag of the chunk VP8X
_LOOK_BYTES = 21


def is_animated_webp(path: Path) -> bool:
    """Return True for a WebP with more than an image; False for what cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return False
        with path.open("rb") as file:
            head = file.read(_LOOK_BYTES)
    except OSError:
        return False
    is_extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == _LOOK_BYTES
    return is_extended and bool(head[20] & _ANIMATION)


class AnimatedWebp:
    """Frames of an animated WebP, played once, with `VideoReader`'s interface.

    Args:
        path: A file for which `is_animated_webp` is True.

    Attributes:
        path: Path of the file.
        width, height: Size in pixels.
        frame_rate: Average frame rate in frames per second, None if no frame has a duration.
        notes: Nothing, see `VideoReader`.

    Raises:
        VideoError: The file cannot be read, or its first frame does not decode.
    """

    time_base: Fraction | None = Fraction(1, 1000)
    pixel_aspect: Fraction | None = None
    start_s = Fraction(0)
    has_audio = False
    notes: Sequence[str] = ()

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        durations_ms, complete_bytes = _durations_ms(self.path)
        self._is_cut_off = complete_bytes is not None
        *starts_ms, end_ms = accumulate(durations_ms, initial=0)
        self._times_s = [Fraction(ms, 1000) for ms in starts_ms]
        self.frame_rate = Fraction(1000 * len(starts_ms), end_ms) if end_ms else None
        self._image = self._open(complete_bytes)
        self._lock = Lock()
        self.width, self.height = self._image.size
        require_few_pixels(self.path, self.width, self.height, VideoError)
        self._frame(0)

    @property
    def declared_num_frames(self) -> int:
        """Number of frames in the file."""
        return len(self._times_s)

    def __enter__(self) -> AnimatedWebp:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._image.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield all frames in order.

        Raises:
            VideoError: The file breaks off; raised after all frames that decode.
        """
        for index in range(len(self._times_s)):
            yield self._frame(index)
        if self._is_cut_off:
            count = len(self._times_s)
            raise broken_off(self.path, count, self._times_s[-1], "the file is cut off")

    def num_frames(self) -> int:
        """Return the number of frames that decode."""
        for index in range(len(self._times_s)):
            try:
                self._frame(index)
            except VideoError:
                return index
        return len(self._times_s)

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Return the frames of these numbers, in this order; ascending numbers are fastest.

        Raises:
            VideoError: There is no such frame, or it does not decode.
        """
        wrong = [index for index in indices if not 0 <= index < len(self._times_s)]
        if wrong:
            raise VideoError(f"{self.path}: no frame {wrong[0]} of {len(self._times_s)}")
        frames = {index: self._frame(index) for index in sorted(set(indices))}
        return [frames[index] for index in indices]

    def _frame(self, index: int) -> Frame:
        try:
            with self._lock:  # a thread may read ahead
                self._image.seek(index)
                pixels = np.array(self._image.convert("RGB"))
        except (OSError, EOFError, ValueError, RuntimeError, MemoryError) as error:
            last_s = self._times_s[index - 1] if index else None
            raise broken_off(self.path, index, last_s, str(error)) from error
        return Frame(index, self._times_s[index], pixels)

    def _open(self, complete_bytes: int | None) -> Image:
        images = pillow_image()
        try:
            if complete_bytes is None:
                return images.open(self.path, formats=["WEBP"])
            # Pillow refuses files that are cut off.
            with self.path.open("rb") as file:
                content = bytearray(file.read(complete_bytes))
            content[4:8] = (complete_bytes - 8).to_bytes(4, "little")
            return images.open(BytesIO(content), formats=["WEBP"])
        except (OSError, ValueError, images.DecompressionBombError) as error:
            raise VideoError(f"{self.path}: cannot open the animated WebP: {error}") from error


def _durations_ms(path: Path) -> tuple[list[int], int | None]:
    """Read the headers of all chunks.

    Returns:
        Duration of each frame, and the number of bytes of the complete chunks if the file is cut
        off, else None.
    """
    durations_ms = []
    size, at = path.stat().st_size, 12
    with path.open("rb") as file:
        stated = int.from_bytes(file.read(8)[4:], "little") + 8
        while at + 8 <= min(size, stated):
            file.seek(at)
            head = file.read(24)  # name, length, then x, y, width, height (3 bytes each), duration
            length = int.from_bytes(head[4:8], "little")
            end = at + 8 + length + length % 2
            if end > size:
                break
            if head[:4] == b"ANMF" and len(head) == 24:
                durations_ms.append(int.from_bytes(head[20:23], "little"))
            at = end
    if not durations_ms:
        raise broken_off(path, 0, None, "the animated WebP has no complete frame")
    return durations_ms, None if stated <= size else at
