"""A folder of images as the frames of one video."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from sparsevod_core.errors import VideoError
from sparsevod_core.structures import Frame

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class ImageFolder:
    """The images of a folder in the natural order of their names, read as `VideoReader` is.

    All must have the size of the first, as shown: EXIF's orientation is applied. Images have no
    times; whoever writes a video of them chooses a frame rate. Hidden files, and files that are no
    images by their suffix, are left out.

    Attributes:
        path: the folder.
        width, height: of every image in pixels.
        files: the images, in order.

    Raises:
        VideoError: no such folder, no image in it, or the first does not decode.
    """

    frame_rate: Fraction | None = None
    time_base: Fraction | None = None
    pixel_aspect: Fraction | None = None
    start_s = Fraction(0)
    has_audio = False

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            entries = list(self.path.iterdir())
        except OSError as error:
            raise VideoError(f"{path}: cannot read the folder: {error.strerror}") from error
        self.files = sorted(filter(is_image, entries), key=lambda file: natural_order(file.name))
        if not self.files:
            kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
            raise VideoError(f"{path}: no images in the folder", hint=f"looked for: {kinds}")
        self.height, self.width = read_image(self.files[0]).shape[:2]

    @property
    def declared_num_frames(self) -> int:
        """As `num_frames`."""
        return len(self.files)

    def __enter__(self) -> ImageFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is open between frames."""

    def __iter__(self) -> Iterator[Frame]:
        """All, in order.

        Raises:
            VideoError: an image that does not decode, or is of another size, after those before it.
        """
        for index in range(len(self.files)):
            yield self._frame(index)

    def num_frames(self) -> int:
        """How many images there are."""
        return len(self.files)

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """The images of these numbers, in the order asked for.

        Raises:
            VideoError: as iterating does, or a number that is not there.
        """
        wrong = [index for index in indices if not 0 <= index < len(self.files)]
        if wrong:
            raise VideoError(f"{self.path}: image {wrong[0]} asked for, it has {len(self.files)}")
        frames = {index: self._frame(index) for index in set(indices)}
        return [frames[index] for index in indices]

    def _frame(self, index: int) -> Frame:
        image = read_image(self.files[index])
        height, width = image.shape[:2]
        if (width, height) != (self.width, self.height):
            raise VideoError(
                f"{self.files[index]}: {width}x{height} pixels, but {self.files[0].name} is "
                f"{self.width}x{self.height}",
                hint="the images of a folder are the frames of one video; give others one by one",
            )
        return Frame(index, None, image)


def is_image(path: Path) -> bool:
    """Whether the name says so; hidden files are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels 0..255, upright; alpha is dropped, deeper pixels are scaled to 8 bit.

    Raises:
        VideoError: it cannot be read, or not be decoded.
    """
    import cv2

    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise VideoError(f"{path}: cannot read the image: {error.strerror}") from error
    try:
        bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    except cv2.error:
        bgr = None
    if bgr is None:
        raise VideoError(f"{path}: not an image that can be decoded ({len(encoded):,} bytes)")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Sorting key in which `frame2` comes before `frame10`; digits before other characters."""
    parts = re.findall(r"(\d+)|(\D+)", name.casefold(), flags=re.ASCII)
    return [(0, int(digits), digits) if digits else (1, 0, text) for digits, text in parts]
