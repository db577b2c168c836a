"""Fixtures of training runs that are so small that they take a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsevod_core.config import Config, load_config

SMALLER = (
    "model.num_stages=1",
    "model.num_proposals=6",
    "model.channels=16",
    "model.ffn_dim=32",
    "model.dynamic_dim=4",
    "model.num_heads=2",
    "model.spfa_heads=2",
    "data.short_side=64",
    "data.long_side=96",
    "data.workers=0",
    "data.val_annotations=none",
    "train.clips_per_gpu=2",
    "train.log_every=3",
    "train.eval_every=1",
    "train.learning_rate=5e-4",
    "train.warmup_steps=4",
    "train.schedule=cosine",
)


@pytest.fixture(scope="session")
def annotations(image_set: Any) -> Path:
    """The shared tiny set without the video of another size: 14 target frames of 64x96."""
    content = json.loads(image_set.annotations.read_text())
    for image in content["images"]:
        if image["file_name"].startswith("narrow"):
            image["is_vid_train_frame"] = False
    path = image_set.annotations.with_name("train.json")
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def settings(annotations: Path) -> Callable[..., Config]:
    """A function that returns the tiny preset, made smaller, with overrides."""

    def make(*overrides: str) -> Config:
        files = (f"data.train_annotations={annotations}", *SMALLER)
        return load_config("tiny", overrides=[*files, *overrides])

    return make
