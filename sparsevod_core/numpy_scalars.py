"""Stand-ins for the functions of numpy that pickled scalars name, such as a learning rate.

Training code leaves such numbers in checkpoints. The stand-ins know numbers and text of fixed size
and return Python's, so that no function of numpy gets arguments from an untrusted file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

_SIMPLE = re.compile(r"b1|[iu][1248]|f[248]|U[1-9]\d{0,5}")


class ScalarError(Exception):
    """A scalar of another kind than numbers and text, or with the wrong bytes."""


@dataclass(slots=True)
class NumpyDtype:
    """Stands in for `numpy.dtype`, with its pickled arguments and state.

    Attributes:
        code: Kind and size in bytes, as in `f8`; a file may state anything.
        order: Byte order.
    """

    code: Any
    is_aligned: bool = False
    is_copied: bool = True
    order: str = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


def _scalar(dtype: NumpyDtype, content: bytes) -> bool | int | float | str:
    """Stand in for the function that makes numpy's scalars from bytes."""
    if not _SIMPLE.fullmatch(dtype.code) or dtype.order not in ("<", ">", "|"):
        raise ScalarError(f"expected numpy scalars of numbers or text, got {dtype.code!r:.40}")
    kind = np.dtype(f"{dtype.order}{dtype.code}")
    if type(content) is not bytes or len(content) != kind.itemsize:
        raise ScalarError(f"expected {kind.itemsize} bytes for a numpy scalar, got {content!r:.40}")
    return np.frombuffer(content, kind)[0].item()


NUMPY_SCALARS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (NumpyDtype, "numpy.dtype"),
    (_scalar, "numpy._core.multiarray.scalar"),
    (_scalar, "numpy.core.multiarray.scalar"),  # before NumPy 2
]
"""Stand-ins and the names that they are called by in pickles, for `torch.serialization`."""
