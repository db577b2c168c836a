"""Settings with which a system cannot be trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsevod_core.config import load_config
from sparsevod_core.data.dataset import clip_settings
from sparsevod_core.errors import ConfigError
from sparsevod_core.training.trainer import Trainer


@pytest.mark.parametrize(
    ("system", "override", "message"),
    [
        ("mega", "data.support_choice=sides", "support_choice=sides: expected mega"),
        ("mega", "data.supports=0", "data.supports=0: the layers to be trained need"),
        ("transvod", "data.supports=0", "data.supports=0: the layers to be trained need"),
    ],
)
def test_clips_that_lack_what_a_system_is_trained_on(
    system: str, override: str, message: str
) -> None:
    config = load_config("tiny", system=system)
    assert clip_settings(config) == config.data
    with pytest.raises(ConfigError, match=message):
        clip_settings(load_config("tiny", system=system, overrides=[override]))
    frames = ["model.temporal=false", "train.trained=all"]
    alone = load_config("tiny", system=system, overrides=[override, *frames])
    assert clip_settings(alone).supports == 0


def test_random_weights_are_not_frozen(tmp_path: Path) -> None:
    config = load_config("tiny", system="transvod")
    with pytest.raises(ConfigError, match="would freeze random weights"):
        Trainer(config, tmp_path / "run", device="cpu")
