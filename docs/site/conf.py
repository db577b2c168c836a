"""Sphinx configuration of the documentation site (`make docs`).

The sources are the Markdown files of the repository, at their own paths, so that one text and one
set of links serve both GitHub and the site. Only the API and command reference are generated.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from docutils.parsers.rst import Directive
from pygments.lexers.shell import BashLexer
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

project = "SparseVOD"
author = "The SparseVOD toolkit authors"
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/README.md",
    "docs/**",
    "sparsevod_core/weights/MODEL_CARD.md",
]
exclude_patterns = [".*", "build", "data", "demo", "results", "runs", "scratch", "tests"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

myst_heading_anchors = 4  # links such as method.md#12-the-papers-tables-as-settings
default_role = "code"  # docstrings write code in single backticks, as Markdown does
smartquotes = False  # it would turn --option into –option
maximum_signature_line_length = 90
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = "SparseVOD"
html_copy_source = False
html_show_sphinx = False

PAGES = """

```{toctree}
:hidden:

docs/own_videos
docs/detections
docs/site/commands
docs/site/api
docs/models
docs/method
docs/results
docs/results_from_noise
benchmarks/README
sparsevod_core/weights/MODEL_CARD
CONTRIBUTING
CHANGELOG
```
"""


class Commands(Directive):
    """A section for each `sparsevod` command: its help and its options."""

    def run(self) -> list[nodes.Node]:
        from sparsevod_cli.app import app

        return self._sections(typer.main.get_command(app), "sparsevod")

    def _sections(self, command: Any, name: str) -> list[nodes.Node]:
        section = nodes.section(ids=[nodes.make_id(name)])
        section += nodes.title(text=name)
        for paragraph in (command.help or "").split("\n\n"):
            text = " ".join(paragraph.split())
            if text.startswith("Example: "):
                section += nodes.literal_block(text=text.removeprefix("Example: "))
            else:
                section += self._paragraph(text)
        parameters = nodes.definition_list()
        for parameter in command.params:
            names = [*parameter.opts, *parameter.secondary_opts]
            if parameter.param_type_name == "argument":
                names = [parameter.metavar or parameter.name.upper()]
            default = parameter.default
            text = parameter.help or ""
            if default not in (None, False) and "default: " not in text:
                text += f" [default: {default}]"
            term = nodes.term("", "", nodes.literal(text=", ".join(names)))
            definition = nodes.definition("", self._paragraph(text))
            parameters += nodes.definition_list_item("", term, definition)
        section += parameters
        below = [
            node
            for word, one in getattr(command, "commands", {}).items()
            for node in self._sections(one, f"{name} {word}")
        ]
        return [section, *below]

    def _paragraph(self, text: str) -> nodes.paragraph:
        children, messages = self.state.inline_text(text.replace("*", r"\*"), self.lineno)
        return nodes.paragraph("", "", *children, *messages)


def format_docstring(
    app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]
) -> None:
    """Read indented code and Google-style sections, which the texts of attributes do not have.

    Napoleon as an extension would take the words before a colon in an attribute's text for a type.
    """
    for number, (line, after, block) in enumerate(zip(lines, lines[1:], lines[2:], strict=False)):
        if line.endswith(":") and not after and block.startswith("    "):
            lines[number] += ":"  # reStructuredText's mark for a code block
    if what not in ("attribute", "data", "property"):
        settings = Config(napoleon_use_ivar=True)
        lines[:] = GoogleDocstring(lines, settings, app, what, name, item, options).lines()


def add_pages_and_drop_links(app: Sphinx, name: str, source: list[str]) -> None:
    """Give the start page its table of contents, and folders no link: the site has none."""
    folder = (REPOSITORY / name).parent

    def without_folder(link: re.Match[str]) -> str:
        return link[1] if (folder / link[2]).is_dir() else link[0]

    source[0] = re.sub(r"(?<!!)\[([^]]+)\]\(([^)#:]+)\)", without_folder, source[0])
    if name == root_doc:
        source[0] += PAGES


def redirect_to_start_page(app: Sphinx, error: Exception | None) -> None:
    """Write index.html, which servers and browsers open first."""
    if error is None:
        page = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.add_directive("commands", Commands)
    app.add_lexer("console", BashLexer)  # the blocks have no prompts and no output
    app.add_lexer("csv", TextLexer)  # GitHub colors it, Pygments does not know it
    app.connect("autodoc-process-docstring", format_docstring)
    app.connect("source-read", add_pages_and_drop_links)
    app.connect("build-finished", redirect_to_start_page)
