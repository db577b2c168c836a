"""A folder of images, read as the frames of one video."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from sparsevod_core.errors import VideoError
from sparsevod_core.structures import Frame
from sparsevod_core.video.image_file import read_image
from sparsevod_core.video.kinds import IMAGE_SUFFIXES, is_image


class ImageFolder:
    """Images of a folder in the natural order of their names, with `VideoReader`'s interface.

    All images must have the size of the first one (EXIF orientation is applied). Images have no
    times and no frame rate. Hidden files, and files without an image suffix, are skipped.

    Attributes:
        path: Path of the folder.
        width, height: Size of every image in pixels.
        files: Paths of the images, in order.

    Raises:
        VideoError: The folder does not exist or has no images, or the first image does not decode.
    """

    frame_rate: Fraction | None = None
    time_base: Fraction | None = None
    pixel_aspect: Fraction | None = None
    start_s = Fraction(0)
    has_audio = False
    notes: Sequence[str] = ()

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            entries = list(self.path.iterdir())
        except OSError as error:
            raise VideoError(f"{path}: cannot read the folder: {error.strerror}") from error
        self.files = sorted(
            (file for file in entries if is_image(file.name)),
            key=lambda file: natural_order(file.name),
        )
        if not self.files:
            kinds = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
            raise VideoError(f"{path}: no images in the folder", hint=f"supported formats: {kinds}")
        self.height, self.width = read_image(self.files[0]).shape[:2]

    @property
    def declared_num_frames(self) -> int:
        """Number of images."""
        return len(self.files)

    def __enter__(self) -> ImageFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: no file is open between frames."""

    def __iter__(self) -> Iterator[Frame]:
        """Yield all images in order.

        Raises:
            VideoError: An image does not decode or has another size; raised after the ones before.
        """
        for index in range(len(self.files)):
            yield self._frame(index)

    def num_frames(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def frames_at(self, indices: Sequence[int]) -> list[Frame]:
        """Return the images of these numbers, in this order.

        Raises:
            VideoError: An image does not exist, does not decode, or has another size.
        """
        wrong = [index for index in indices if not 0 <= index < len(self.files)]
        if wrong:
            raise VideoError(f"{self.path}: no image {wrong[0]}; the folder has {len(self.files)}")
        frames = {index: self._frame(index) for index in set(indices)}
        return [frames[index] for index in indices]

    def _frame(self, index: int) -> Frame:
        image = read_image(self.files[index])
        height, width = image.shape[:2]
        if (width, height) != (self.width, self.height):
            raise VideoError(
                f"{self.files[index]}: expected {self.width}x{self.height} pixels as in "
                f"{self.files[0].name}, got {width}x{height}",
                hint="images of another size belong in another folder: each folder is one video",
            )
        return Frame(index, None, image)


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts `frame2` before `frame10`, and digits before other characters."""
    parts = re.findall(r"(\d+)|(\D+)", name.casefold(), flags=re.ASCII)
    return [(0, int(digits), digits) if digits else (1, 0, text) for digits, text in parts]
