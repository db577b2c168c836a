"""Helpers to watch small training runs and compare their results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sparsevod_core.checkpoint import load_checkpoint
from sparsevod_core.reporting import SilentReporter


class Messages(SilentReporter):
    """Reporter that keeps all messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    @property
    def text(self) -> str:
        """All messages, one per line."""
        return "\n".join(self.messages)


def metrics(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    """Return the records of a kind in metrics.jsonl."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == kind]


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights in last.pth."""
    return load_checkpoint(run / "checkpoints" / "last.pth").model


def assert_same_state(one: Path, other: Path) -> None:
    """Check that two runs have the same last step, weights and optimizer state, bit by bit."""
    a, b = (load_checkpoint(path / "checkpoints" / "last.pth") for path in (one, other))
    assert a.training is not None and b.training is not None
    assert a.training["position"]["step"] == b.training["position"]["step"]
    assert a.training.keys() == b.training.keys()
    states = a.training["optimizer"]["state"], b.training["optimizer"]["state"]
    pairs = [(a.model, b.model), (a.training.get("weights", {}), b.training.get("weights", {}))]
    pairs += [(state, states[1][key]) for key, state in states[0].items()]
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        assert not [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
