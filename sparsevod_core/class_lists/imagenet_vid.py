"""ImageNet VID's 30 classes, and the class list that a tree of the same layout may contain."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sparsevod_core.errors import DataError

CLASS_LISTS = ("devkit/data/map_vid.txt", "map_vid.txt")
"""Paths of a tree's own class list; the first is the official devkit's."""


class ImageNetClass(NamedTuple):
    """A class: WordNet id, as in the XML's `<name>`, class id and name."""

    wnid: str
    id: int
    name: str


def read_classes(root: Path) -> tuple[ImageNetClass, ...]:
    """Return the classes of the tree at `root`: its own list if it has one, or ImageNet VID's 30.

    A list has one class per line: `wnid number name`.

    Raises:
        DataError: A line has another form, or a wnid, number or name is repeated.
    """
    for name in CLASS_LISTS:
        if (root / name).is_file():
            return _parse(str(root / name), (root / name).read_text("utf-8", errors="replace"))
    return IMAGENET_VID_CLASSES


def _parse(source: str, text: str) -> tuple[ImageNetClass, ...]:
    classes: list[ImageNetClass] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split(maxsplit=2)
        if not words:
            continue
        if len(words) != 3 or not (words[1].isascii() and words[1].isdigit()):
            raise DataError(f"{source}:{number}: expected `wnid number name`, got {line[:60]!r}")
        added = ImageNetClass(words[0], int(words[1]), words[2].strip())
        if any(
            ours == theirs for known in classes for ours, theirs in zip(added, known, strict=True)
        ):
            raise DataError(
                f"{source}:{number}: wnid, number or name of {line[:60]!r} appears twice"
            )
        classes.append(added)
    if not classes:
        raise DataError(f"{source}: no classes in it")
    return tuple(classes)


# In the order and with the numbers of the official devkit.
IMAGENET_VID_CLASSES = _parse(
    "ImageNet VID",
    """
n02691156 1 airplane; n02419796 2 antelope; n02131653 3 bear;
n02834778 4 bicycle; n01503061 5 bird; n02924116 6 bus;
n02958343 7 car; n02402425 8 cattle; n02084071 9 dog;
n02121808 10 domestic_cat; n02503517 11 elephant; n02118333 12 fox;
n02510455 13 giant_panda; n02342885 14 hamster; n02374451 15 horse;
n02129165 16 lion; n01674464 17 lizard; n02484322 18 monkey;
n03790512 19 motorcycle; n02324045 20 rabbit; n02509815 21 red_panda;
n02411705 22 sheep; n01726692 23 snake; n02355227 24 squirrel;
n02129604 25 tiger; n04468005 26 train; n01662784 27 turtle;
n04530566 28 watercraft; n02062744 29 whale; n02391049 30 zebra
""".replace(";", "\n"),
)
