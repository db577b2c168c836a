"""What became of the weights when a detector starts from another's checkpoint."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PART_NAMES = {"temporal_roi": "TFE", "aggregation": "SPFA"}
PARTS_OUTSIDE_STAGES = {
    "backbone.fpn.": "FPN",
    "backbone.": "backbone",
    "proposals.": "proposals",
}
FEW = 5


@dataclass(frozen=True, slots=True)
class InitReport:
    """Every weight of the file and of the detector, by name.

    Attributes:
        origin: the file, and whose checkpoint it is.
        loaded: the detector's weights that come from the file, wholly or in the rows of the classes
            that both know.
        skipped: `name: why`, the file's weights that were not used.
        new: the detector's weights that keep their fresh values.
        new_classes: names of the classes whose rows keep their fresh values, where others were
            loaded.
    """

    origin: str
    loaded: list[str]
    skipped: list[str]
    new: list[str]
    new_classes: list[str]

    def lines(self) -> list[str]:
        """The same in a few lines for people."""
        total = len(self.loaded) + len(self.skipped)
        lines = [f"{self.origin}: {len(self.loaded)} of {total} weights loaded"]
        lines += [f"skipped: {text}" for text in _grouped_by_reason(self.skipped)]
        if self.new_classes:
            lines.append(f"newly initialised classes: {_few(self.new_classes)}")
        if self.new:
            lines.append(f"newly initialised: {_parts(self.new)}")
        return lines


def _grouped_by_reason(skipped: Iterable[str]) -> list[str]:
    """`parts (why)`; of the reasons within one part the first is named."""
    reason_of_part: dict[str, str] = {}
    names_of: dict[str, list[str]] = defaultdict(list)
    for entry in skipped:
        name, _, reason = entry.partition(": ")
        names_of[reason_of_part.setdefault(_part(name)[0], reason)].append(name)
    return [f"{_parts(names)} ({reason})" for reason, names in names_of.items()]


def _parts(names: Iterable[str]) -> str:
    """Weights by the part of the detector, e.g. `backbone; class_logits, TFE of stages 1-6`."""
    stages_of: dict[str, set[int]] = defaultdict(set)
    for name in names:
        part, stage = _part(name)
        stages_of[part].update(stage)
    parts_of: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for part, stages in stages_of.items():
        parts_of[tuple(sorted(stages))].append(part)
    return "; ".join(_few(parts) + _of_stages(stages) for stages, parts in parts_of.items())


def _part(name: str) -> tuple[str, tuple[int, ...]]:
    """The part of the detector that a weight belongs to, and its stage, counted from 1."""
    match = re.match(r"stages\.(\d+)\.(\w+)", name)
    if match:
        return PART_NAMES.get(match[2], match[2]), (int(match[1]) + 1,)
    for prefix, part in PARTS_OUTSIDE_STAGES.items():
        if name.startswith(prefix):
            return part, ()
    return name, ()


def _of_stages(stages: Sequence[int]) -> str:
    if not stages:
        return ""
    if len(stages) == 1:
        return f" of stage {stages[0]}"
    if stages[-1] - stages[0] + 1 == len(stages):
        return f" of stages {stages[0]}-{stages[-1]}"
    return f" of stages {', '.join(map(str, stages))}"


def _few(texts: Sequence[str]) -> str:
    left_out = f" and {len(texts) - FEW} more" if len(texts) > FEW else ""
    return ", ".join(texts[:FEW]) + left_out
