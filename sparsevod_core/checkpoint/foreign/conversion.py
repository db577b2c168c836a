"""Recognition of the files of other projects, however they are wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint, Source
from sparsevod_core.checkpoint.foreign.faster_rcnn import faster_rcnn
from sparsevod_core.checkpoint.foreign.flow_network import flow_network
from sparsevod_core.checkpoint.foreign.sparse_rcnn import sparse_rcnn
from sparsevod_core.checkpoint.foreign.transvod import transvod
from sparsevod_core.foreign_names.mmtracking import names_in_mmtracking

WRAPPERS = ("state_dict", "model")  # MMDetection's; detectron2's and DETR's
PREFIXES = ("", "module.", "model.", "detector.")  # plain; DDP; wrappers; video detectors
FAMILIES = (sparse_rcnn, faster_rcnn, flow_network, transvod)


def from_foreign(contents: Any) -> Checkpoint | None:
    """Convert a foreign checkpoint; return None if it is of no known project.

    Raises:
        CheckpointError: a known detector of a variant that is not supported.
    """
    if not isinstance(contents, Mapping):
        return None
    entries = {str(name): value for name, value in state_dict_in(contents).items()}
    for prefix in PREFIXES:
        state = {
            name.removeprefix(prefix): value
            for name, value in entries.items()
            if name.startswith(prefix) and isinstance(value, Tensor)
        }
        for family in FAMILIES:
            checkpoint = family(state, contents.get("meta"))
            if checkpoint is not None:
                others = [name for name in entries if name.removeprefix(prefix) not in state]
                return replace(checkpoint, unknown=(*checkpoint.unknown, *others))
    return None


def names_in_file(ours: Iterable[str], source: Source) -> list[str]:
    """Return what the project of a file calls our weights, as far as it is known."""
    if source in ("mmtracking", "mmdetection"):
        return names_in_mmtracking(ours, has_prefix=source == "mmtracking")
    return list(ours)


def state_dict_in(contents: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the weights in a file without the dict that frameworks wrap around them."""
    for wrapper in WRAPPERS:
        if isinstance(contents.get(wrapper), Mapping):
            return contents[wrapper]
    return contents
