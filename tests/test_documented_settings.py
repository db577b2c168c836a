"""docs/method.md and docs/models.md list every setting with its default, and no other setting."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparsevod_core.config import Config, load_config

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
METHOD = "\n".join(
    (REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in ("method.md", "models.md")
)
SETTING = r"(?:(?:model|data|loss|train|inference|track)\.(?!yaml|json)\w+(?:\.\w+)?|seed)"


def test_every_setting_is_explained() -> None:
    assert [key for key in Config().flat() if f"`{key} = " not in METHOD] == []


@pytest.mark.parametrize("text", re.findall(rf"`({SETTING} = [^`]+)`", METHOD))
def test_the_documented_default_is_correct(text: str) -> None:
    assert load_config(overrides=[text]) == Config()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_settings_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for setting in re.findall(rf"(?:`|--set ){SETTING}=[^`\s]+", text):
        load_config(overrides=["model.frozen_stages=0", setting.removeprefix("--set ").strip("`")])
    for setting in re.findall(rf"`({SETTING})`", text):
        assert setting in Config().flat()
