"""The classes of a model and of annotations, matched by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparsevod_core.category import Category
from sparsevod_core.data.json_fields import Id
from sparsevod_core.errors import DataError
from sparsevod_core.reporting import Reporter, some_of


class ClassMatch:
    """Ids that annotations give to the classes of a model.

    Args:
        categories: The model's classes, by label.
        path: Path of the annotations.
        names, ids: Classes of the annotations.

    Attributes:
        id_of_label: Id of the class in the annotations; None if they lack it.
        left_out: Names of the classes that only the model has.
        unknown: Names of the classes that only the annotations have.

    Raises:
        DataError: They have no name in common.
    """

    def __init__(
        self,
        categories: Sequence[Category],
        path: Path,
        names: Sequence[str],
        ids: Sequence[Id],
    ) -> None:
        known = dict(zip(names, ids, strict=True))
        model_names = [category.name for category in categories]
        self._path = path
        self.id_of_label: list[Id | None] = [known.get(name) for name in model_names]
        self.left_out = [name for name in model_names if name not in known]
        self.unknown = [name for name in known if name not in model_names]
        if len(self.left_out) == len(model_names):
            raise DataError(
                f"{path}: no class in common with the model: the annotations have "
                f"{some_of(list(known))}; the model has {some_of(model_names)}",
                hint="classes are matched by name: rename those under `categories`",
            )

    def report(self, reporter: Reporter) -> None:
        """Report the classes without a match."""
        if self.left_out:
            reporter.message(f"skipping classes that {self._path} lacks: {some_of(self.left_out)}")
        if self.unknown:
            reporter.warning(
                f"the model lacks these classes of {self._path}, they score 0: "
                f"{some_of(self.unknown)}"
            )
