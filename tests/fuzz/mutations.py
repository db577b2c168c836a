"""Mutations of files: changed bytes, and changed values of JSON-like content."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

PIECES = (
    *(b"-1", b"0", b"1e999", b"nan", b"-inf", b"9" * 25, b"9" * 5000, b"2000000000", b"0.5"),
    *(b"null", b"true", b'"', b"'", b"{", b"}", b"[", b"[" * 3000, b"]", b",", b":", b";"),
    *(b"\0", b"\n", b"\r", b"\t", b" ", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1b[31m"),
    *(b"../", b"/", b"\\", b"<", b">", b"&x;", b"<!ENTITY", b"!!int ", b"&a", b"*a", b"- ", b"---"),
    *("\u202e".encode(), "\U0001f600".encode(), b"a" * 300),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e300),
    *(float("inf"), float("nan"), "", "0", "-1", "1e999", "a", "a/../../b", "/etc/passwd", "\0"),
    *("\x1b[31m", "\ud800", "x" * 300, "9" * 5000, [], [[]], [1], [1, 2, 3, 4], [None] * 4),
    *([[1], 1, 2, 3], [1e308] * 4, ["1"] * 4, {}, {"a": 1}, {"id": {}}, [{}], [[[[[[1]]]]]]),
)


def mutated_bytes(content: bytes, random: Random) -> bytes:
    """Return the content with one to six changes."""
    for _ in range(random.choice([1, 1, 2, 6])):
        at = random.randrange(len(content) + 1)
        match random.randrange(6):
            case 0:
                content = content[:at] + random.choice(PIECES) + content[at:]
            case 1:
                content = content[:at] + content[at + random.randrange(1, 12) :]
            case 2:
                content = content[:at] + random.randbytes(4) + content[at + random.choice([0, 4]) :]
            case 3 if content:
                at = min(at, len(content) - 1)
                flipped = content[at] ^ 1 << random.randrange(8)
                content = content[:at] + bytes([flipped]) + content[at + 1 :]
            case 4:  # a part is repeated elsewhere
                start = random.randrange(len(content) + 1)
                part = content[start : start + random.randrange(40)]
                content = content[:at] + part + content[at:]
            case 5 if random.random() < 0.3:
                content = content[:at]
    return content


def mutated_value(value: Any, random: Random) -> Any:
    """Return a copy of JSON-like content in which one to three values or keys are changed."""
    value = copy.deepcopy(value)
    for _ in range(random.choice([1, 1, 2, 3])):
        containers = [node for node in _nodes(value) if isinstance(node, dict | list) and node]
        if not containers:
            return random.choice(VALUES)
        node = random.choice(containers)
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        match random.randrange(5):
            case 0 | 1 | 2:
                node[key] = copy.deepcopy(random.choice(VALUES))
            case 3:
                del node[key]
            case 4 if isinstance(node, dict):
                node[random.choice(["id", "name", "", "\0", "x" * 300])] = node.pop(key)
            case 4:
                node.append(copy.deepcopy(node[key]))
    return value


def _nodes(value: Any) -> list[Any]:
    nodes = [value]
    for node in nodes:
        if len(nodes) < 10_000:
            children = node.values() if isinstance(node, dict) else node
            nodes += list(children) if isinstance(node, dict | list | tuple) else []
    return nodes
