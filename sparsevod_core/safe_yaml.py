"""YAML files of users and strangers, read as dicts, lists and text within limits.

No scalar is interpreted: YAML 1.1 reads `no` as false, `010` as 8, `1:30` as 90 and `1e-4` as text,
and its tags build other objects. The caller knows the type that it expects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sparsevod_core.errors import SparseVodError
from sparsevod_core.input_file import read_limited

MAX_BYTES = 2**20
MAX_DEPTH = 20
MAX_VALUES = 50_000
"""Maximum number of keys and values, each alias counted as what it stands for."""

_PREFIX = "tag:yaml.org,2002:"
_SEQUENCE, _MAPPING, _MERGE = f"{_PREFIX}seq", f"{_PREFIX}map", f"{_PREFIX}merge"
_KINDS_OF_TEXT = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")
_SCALARS = frozenset(f"{_PREFIX}{kind}" for kind in _KINDS_OF_TEXT)


def read_yaml(path: Path, error: type[SparseVodError]) -> Any:
    """Return the content of a YAML file: dicts with text as keys, lists, text, and None.

    None stands for an empty value or `~`. Merge keys (`<<`) and aliases are resolved.

    Raises:
        SparseVodError: `error`, for a file that cannot be read, is not valid YAML, repeats a key,
            or exceeds a limit of this module.
    """
    try:
        content = read_limited(path, MAX_BYTES, error)
    except OSError as cause:
        raise error(f"{path}: cannot read the file: {cause.strerror}") from cause
    try:
        loader = _Loader(content)
        node = loader.get_single_node()
        return None if node is None else loader.plain(node, 1)
    # ValueError and OverflowError come from escapes such as "\U00110000".
    except (yaml.YAMLError, ValueError, OverflowError) as cause:
        mark = getattr(cause, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        problem = getattr(cause, "problem", None) or getattr(cause, "reason", None)
        reason = (problem or "expected Unicode characters").partition("\n")[0][:160]
        raise error(f"{path}{line}: not valid YAML: {reason}") from cause


class _Loader(yaml.SafeLoader):
    """Loader whose nodes are bounded in depth and number while they are composed and resolved."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._depth = self._num_composed = self._num_values = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        self._num_composed += 1
        if self._depth > MAX_DEPTH or self._num_composed > MAX_VALUES:
            raise _beyond_limits(self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def plain(self, node: yaml.Node, depth: int) -> Any:
        """Return the dict, list, text or None of a node."""
        self._num_values += 1
        if depth > MAX_DEPTH or self._num_values > MAX_VALUES:
            raise _beyond_limits(node.start_mark)
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            node.value.encode()  # raises UnicodeError for half of a surrogate pair
            return None if node.style is None and node.value in ("", "~") else node.value
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQUENCE:
            return [self.plain(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == _MAPPING:
            return self._dict(node, depth)
        raise _problem(f"unknown tag {node.tag}", node.start_mark)

    def _dict(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            value = self.plain(value_node, depth + 1)
            if key_node.tag == _MERGE:
                for other in reversed(value if isinstance(value, list) else [value]):
                    if not isinstance(other, dict):
                        raise _problem("expected settings after <<", value_node.start_mark)
                    merged |= other
                continue
            key = self.plain(key_node, depth + 1)
            if not isinstance(key, str):
                raise _problem("expected text as a key", key_node.start_mark)
            if key in own:
                raise _problem(f"{key[:80]!r} is repeated", key_node.start_mark)
            own[key] = value
        return merged | own


def _beyond_limits(mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return _problem(f"more than {MAX_DEPTH} levels or {MAX_VALUES:,} values", mark)


def _problem(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
