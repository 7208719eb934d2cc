# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What an MCP server offers to an AI advisor, against the reviewed list of its tools. Controller only.

A server is given as its source, which is read and never run, or as what it answered to ``tools/list``.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._surface import TOOLS, Check

Json = dict[str, Any]

MAX_BYTES = 16 << 20
READ_ONLY, LOCAL_ONLY, MUTATING, SPENDING = "read-only", "local-only", "mutating", "spending"
CLASSES = (READ_ONLY, LOCAL_ONLY, MUTATING, SPENDING)
HINT = "readOnlyHint"
HINTS = (HINT, "read_only_hint")
# Who answers a tool that asks no node for anything.
SERVER = "mcp-server"


@dataclass(frozen=True)
class Tool:
    """One tool that a server offers. `read_only` is what the server says of it, None when it says nothing."""

    name: str
    read_only: bool | None = None


@dataclass(frozen=True)
class Server:
    """What a server offers; `digest` is the sha256 of the file that said so."""

    path: Path
    digest: str
    tools: tuple[Tool, ...]


def read(path: Path) -> Server:
    """The tools of a server, from its Python source or from a JSON answer to ``tools/list``.

    Raises:
        ReleaseError: ``mcp``, the file cannot be read, or does not name its tools in a way that can be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ReleaseError("mcp", f"{path} cannot be read ({error.strerror}): correct hive_mcp_server.") from error
    if len(data) > MAX_BYTES:
        raise ReleaseError("mcp", f"{path} is larger than {MAX_BYTES >> 20} MiB: correct hive_mcp_server.")
    try:
        tools = _of_source(data) if path.suffix == ".py" else _of_answer(json.loads(data))
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError) as error:
        raise ReleaseError(
            "mcp",
            f"{path} does not say which tools it offers ({error}): give the server's source, or its answer to "
            "tools/list as JSON.",
        ) from error
    if not tools:
        raise ReleaseError("mcp", f"{path} offers no tool at all: correct hive_mcp_server.")
    return Server(path, hashlib.sha256(data).hexdigest(), tuple(tools))


def _of_answer(said: Any) -> list[Tool]:
    """The tools of a ``tools/list`` answer: the whole JSON-RPC reply, its result, or only the list."""
    if isinstance(said, dict):
        said = said.get("result", said)
    listed = said["tools"] if isinstance(said, dict) else said
    if isinstance(said, dict) and said.get("nextCursor"):
        raise ValueError("it is the first page of several")
    found = []
    for entry in listed:
        hints = entry.get("annotations") or {}
        hint = next((hints[word] for word in HINTS if word in hints), None)
        if hint is not None and not isinstance(hint, bool):
            raise ValueError(f"{HINT} of {entry['name']} is neither true nor false")
        found.append(Tool(str(entry["name"]), hint))
    return found


def _of_source(data: bytes) -> list[Tool]:
    """Every ``Tool(name=..., ...)`` in the source, wherever it is made."""
    found = []
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.Call) and _word(node.func) == "Tool":
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            name = given.get("name", node.args[0] if node.args else None)
            if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
                raise ValueError(f"the tool in line {node.lineno} has a name that is worked out when it runs")
            found.append(Tool(name.value, _hint(given.get("annotations"))))
    return found


def _word(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else str(getattr(node, "attr", ""))


def _hint(annotations: ast.expr | None) -> bool | None:
    """What ``ToolAnnotations(readOnlyHint=...)`` or a dict of the same says."""
    for word, value in _pairs(annotations):
        if word in HINTS:
            if not isinstance(value, ast.Constant) or not isinstance(value.value, bool):
                raise ValueError(f"{HINT} in line {value.lineno} is worked out when it runs")
            return value.value
    return None


def _pairs(annotations: ast.expr | None) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(annotations, ast.Call):
        yield from ((str(keyword.arg), keyword.value) for keyword in annotations.keywords)
    elif isinstance(annotations, ast.Dict):
        for key, value in zip(annotations.keys, annotations.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), value


def compare(reviewed: Mapping[str, Json], server: Server) -> list[Check]:
    """A check for each difference between a server and the reviewed list, and for what agrees.

    Raises:
        ReleaseError: ``reviewed``, the list does not classify a tool.
    """
    for name, said in reviewed.items():
        if said.get("class") not in CLASSES or not said.get("plugins"):
            raise ReleaseError(
                "reviewed",
                f"{TOOLS} has no usable review of {name}: give its class ({', '.join(CLASSES)}) and plugins.",
            )
    names = [tool.name for tool in server.tools]
    twice = sorted({name for name in names if names.count(name) > 1})
    checks = [
        Check(f"MCP tool {name} is offered once", False, "which of them answers cannot be told") for name in twice
    ]
    checks += [
        Check(f"MCP tool {name} was reviewed", False, f"{server.path.name} offers it, {TOOLS} has it not")
        for name in sorted(set(names) - set(reviewed))
    ]
    checks += [
        Check(f"MCP tool {name} is there", False, f"{TOOLS} has it, {server.path.name} does not offer it")
        for name in sorted(set(reviewed) - set(names))
    ]
    checks += _lies(reviewed, server)
    if not checks:
        told = sum(tool.read_only is not None for tool in server.tools)
        checks.append(Check(f"every MCP tool is as reviewed ({len(names)})", True))
        checks.append(Check(f"no mutating MCP tool is called read-only ({told} say what they are)", True))
    return checks


def _lies(reviewed: Mapping[str, Json], server: Server) -> list[Check]:
    """Tools that a client would run without asking, because the server calls them read-only."""
    return [
        Check(
            f"MCP tool {tool.name} is not called read-only",
            False,
            f"it is {reviewed[tool.name]['class']}, and a client that trusts {HINT} would run it without asking",
        )
        for tool in server.tools
        if tool.read_only and reviewed.get(tool.name, {}).get("class") in (MUTATING, SPENDING)
    ]


def figures(reviewed: Mapping[str, Json], server: Server, answered: set[str]) -> Json:
    """Tools by class and by who answers them.

    Args:
        answered: the RPC methods of the releases that are looked at.
    """
    offered = [reviewed[tool.name] for tool in server.tools if tool.name in reviewed]
    by_plugin: dict[str, int] = {}
    for said in offered:
        for plugin in said["plugins"]:
            by_plugin[plugin] = by_plugin.get(plugin, 0) + 1
    return {
        "tools": len(server.tools),
        "by_class": {word: sum(said["class"] == word for said in offered) for word in CLASSES},
        "by_plugin": dict(sorted(by_plugin.items())),
        "annotated": sum(tool.read_only is not None for tool in server.tools),
        # Those whose every method one of these releases has, or that need none.
        "answered": sum(set(said.get("methods") or ()) <= answered for said in offered),
    }
