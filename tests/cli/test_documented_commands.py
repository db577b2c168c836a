"""Every `sparsevod ...` line in documents and help texts uses existing commands and options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from sparsevod_cli.app import app

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    REPOSITORY / "sparsevod_core" / "weights" / "MODEL_CARD.md",
]
ROOT = typer.main.get_command(app)


def commands(group: Any, name: str = "sparsevod") -> dict[str, Any]:
    """Return every command and subcommand by its full name."""
    found = {} if group is ROOT else {name: group}
    for word, command in getattr(group, "commands", {}).items():
        found |= commands(command, f"{name} {word}")
    return found


def unknown_words(line: str) -> list[str]:
    """Return the words of a command line that are neither a command nor one of its options."""
    words = shlex.split(line, comments=True)[1:]
    command: Any = ROOT
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {"-h", "--help"}.union(*(item.opts + item.secondary_opts for item in command.params))
    unknown = [
        w for w in words if w.startswith("-") and len(w) > 1 and w.partition("=")[0] not in known
    ]
    if command is ROOT and words and not words[0].startswith("-") and words[0] != "COMMAND":
        unknown.insert(0, words[0])
    return unknown


def shown_in(markdown: str) -> list[str]:
    """Return the `sparsevod` lines of fenced blocks and of inline code."""
    joined = markdown.replace("\\\n", " ")
    blocks = re.findall(r"^```(?:bash|console)\n(.*?)^```", joined, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(sparsevod [^`\n]+)`", joined)
    return [line for line in lines if line.startswith("sparsevod ")] + inline


def test_the_check_finds_mistakes() -> None:
    assert unknown_words("sparsevod doctor --json a.json  # --odd in a comment") == []
    assert unknown_words("sparsevod doctor --jsn a.json") == ["--jsn"]
    assert unknown_words("sparsevod doctr --json a.json") == ["doctr", "--json"]
    assert shown_in("```bash\nsparsevod a \\\n  --b\n```\nor `sparsevod c`") == [
        "sparsevod a    --b",
        "sparsevod c",
    ]


@pytest.mark.parametrize("name", commands(ROOT))
def test_help_has_an_example_that_parses(name: str) -> None:
    text = (commands(ROOT)[name].help or "").replace("\\\n", " ")
    examples = re.findall(rf"{name}\b.*", text)
    assert examples, f"no line with {name} ..."
    assert [word for line in examples for word in unknown_words(line)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_shows_commands_that_parse(document: Path) -> None:
    lines = shown_in(document.read_text(encoding="utf-8"))
    assert {line: unknown_words(line) for line in lines if unknown_words(line)} == {}


def test_readme_shows_every_command() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [name for name in commands(ROOT) if name not in text] == []
