"""Conversion of FlowNetSimple's weights, with which MMTracking starts the training of FGFA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sparsevod_core.checkpoint.contents import Checkpoint
from sparsevod_core.checkpoint.foreign.classes import categories_of
from sparsevod_core.config import Config, preset_settings
from sparsevod_core.foreign_names.mmtracking import from_flow_network, is_flow_network


def flow_network(state: Mapping[str, Tensor], meta: Any) -> Checkpoint | None:
    """Convert the weights of a flow network alone; return None if they are not.

    They initialize a part of FGFA, and are no detector.
    """
    if not is_flow_network(state):
        return None
    renamed = from_flow_network(state)
    config = Config().replace({"model.system": "fgfa", **preset_settings("fgfa", None)})
    return Checkpoint(
        config=config,
        categories=categories_of(config.model.num_classes, None),
        model=renamed.state,
        source="mmtracking",
        unknown=tuple(renamed.unknown),
    )
