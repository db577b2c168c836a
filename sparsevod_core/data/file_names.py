"""File names of a million images in a few arrays: as `str` objects they would outweigh all else."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int


@dataclass(frozen=True, slots=True, eq=False)
class FileNames:
    """File names, read by position: `names[3]`. F names.

    Attributes:
        folders: distinct folders, each with a slash at the end, or empty.
        folder_of: position of each name's folder.
        text: the names below their folders, end to end, in UTF-8.
        spans: start and end of each name in `text`.
    """

    folders: tuple[str, ...]
    folder_of: Int[np.ndarray, " F"]
    text: bytes
    spans: Int[np.ndarray, "F 2"]

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, position: int) -> str:
        start, end = self.spans[position].tolist()
        return self.folders[self.folder_of[position]] + self.text[start:end].decode(
            errors="surrogatepass"
        )

    def take(self, positions: np.ndarray) -> FileNames:
        """Return the names at `positions`, in that order."""
        return FileNames(self.folders, self.folder_of[positions], self.text, self.spans[positions])


@dataclass(slots=True)
class FileNameColumn:
    """File names in the making, appended one by one."""

    folders: dict[str, int] = field(default_factory=dict)
    folder_of: array = field(default_factory=lambda: array("i"))
    text: bytearray = field(default_factory=bytearray)
    ends: array = field(default_factory=lambda: array("q"))

    def append(self, name: str) -> None:
        """Add a name, split after its last slash."""
        folder, slash, rest = name.rpartition("/")
        self.folder_of.append(self.folders.setdefault(folder + slash, len(self.folders)))
        self.text += rest.encode("utf-8", "surrogatepass")
        self.ends.append(len(self.text))

    def names(self) -> FileNames:
        """Return all names appended so far."""
        ends = np.frombuffer(self.ends, np.int64)
        spans = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
        folder_of = np.frombuffer(self.folder_of, np.int32)
        return FileNames(tuple(self.folders), folder_of, bytes(self.text), spans)
