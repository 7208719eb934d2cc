"""Every code that a refusal or a failure can carry, collected from the code itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from contract.repository import COLLECTION, tracked

CODE = re.compile(r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$")
# Who takes a code, and where: as which positional argument, or by the name `code`.
TAKERS = {
    "HiveError": 1,
    "Refusal": 1,
    "ReleaseError": 0,
    "RefusalError": 0,
    "WavesError": 0,
    "refuse": 0,
    "problem": 0,
}
WITHOUT = {"NodeDownError": "lightningd-down", "RpcTimeoutError": "rpc-timeout", "RpcRefusedError": "rpc-refused"}
ROOMS = ("module_utils", "action", "modules", "filter")


def codes() -> dict[str, set[str]]:
    """Each code, and the files that use it."""
    found: dict[str, set[str]] = {}
    for path in tracked(".py"):
        if path.is_relative_to(COLLECTION / "plugins") and path.relative_to(COLLECTION / "plugins").parts[0] in ROOMS:
            for code in _codes_of(path):
                found.setdefault(code, set()).add(path.name)
    return found


def _codes_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield from _of_call(node)
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and _sentence(node.elts[1]):
            yield from _text(node.elts[0])
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "code":
                    yield from _text(value)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in WITHOUT:
        yield WITHOUT[name]
    if name not in TAKERS:
        return
    place = TAKERS[name]
    if len(node.args) > place:
        yield from _text(node.args[place])
    for keyword in node.keywords:
        if keyword.arg == "code":
            yield from _text(keyword.value)


def _text(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.match(node.value):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _text(node.body)
        yield from _text(node.orelse)


def _sentence(node: ast.expr) -> bool:
    """Whether this is words for people: text with a blank in it."""
    if isinstance(node, ast.JoinedStr):
        return True
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
