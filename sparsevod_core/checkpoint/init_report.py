"""Report on the weights that a detector was initialized with from another's checkpoint."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sparsevod_core.reporting import some_of

PART_NAMES = {"temporal_roi": "TFE", "aggregation": "SPFA"}
PARTS_OUTSIDE_STAGES = {
    "backbone.fpn.": "FPN",
    "backbone.neck.": "neck",
    "backbone.": "backbone",
    "proposals.": "proposals",
    "rpn.": "RPN",
    "head.aggregations.": "aggregations",
    "head.class_logits.": "class_logits",
    "head.box_deltas.": "box_deltas",
    "head.": "head",
    "temporal_roi.": "temporal RoI features",
    "flow.": "flow network",
    "map_aggregation.": "map aggregation",
}
FEW = 5


@dataclass(frozen=True, slots=True)
class InitReport:
    """Names of the weights of a file and a detector, by what happened to them.

    Attributes:
        origin: path of the file and project that wrote it.
        loaded: weights of the detector loaded from the file, completely or for shared classes.
        skipped: weights of the file that were not used, as `name: reason`.
        new: weights of the detector that keep their initial values.
        new_classes: classes whose rows keep their initial values while those of others were loaded.
    """

    origin: str
    loaded: list[str]
    skipped: list[str]
    new: list[str]
    new_classes: list[str]

    def lines(self) -> list[str]:
        """Return a summary of a few lines."""
        total = len(self.loaded) + len(self.skipped)
        lines = [f"{self.origin}: {len(self.loaded)} of {total} weights loaded"]
        lines += [f"skipped: {text}" for text in _grouped_by_reason(self.skipped)]
        if self.new_classes:
            lines.append(f"newly initialized classes: {some_of(self.new_classes, FEW)}")
        if self.new:
            lines.append(f"newly initialized: {_parts(self.new)}")
        return lines


def _grouped_by_reason(skipped: Iterable[str]) -> list[str]:
    """Return `parts (reason)` lines, with the first reason of each part."""
    reason_of_part: dict[str, str] = {}
    names_of: dict[str, list[str]] = defaultdict(list)
    for entry in skipped:
        name, _, reason = entry.partition(": ")
        names_of[reason_of_part.setdefault(_part(name)[0], reason)].append(name)
    return [f"{_parts(names)} ({reason})" for reason, names in names_of.items()]


def _parts(names: Iterable[str]) -> str:
    """Summarize weights by part of the detector: `backbone; class_logits, TFE of stages 1-6`."""
    stages_of: dict[str, set[int]] = defaultdict(set)
    for name in names:
        part, stage = _part(name)
        stages_of[part].update(stage)
    parts_of: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for part, stages in stages_of.items():
        parts_of[tuple(sorted(stages))].append(part)
    return "; ".join(some_of(parts, FEW) + _of_stages(stages) for stages, parts in parts_of.items())


def _part(name: str) -> tuple[str, tuple[int, ...]]:
    """Return the part of the detector that a weight belongs to, and its stage, counted from 1."""
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
