"""Plugins of the operator's own configuration whose place a stack takes: what must be known to bring them back.

The operator's files are not edited. The managed include keeps such a plugin off with `disable-plugin`, which lightningd
looks at when it starts; `plugin start` does not look at it, so that the way back needs no restart either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import canonical, read_json, write_atomic
from .node import Node


def notes_file(node: Node) -> Path:
    """Return where it is kept, readable by nobody else: options given at a start may be secret."""
    return node.state_dir / "replaced.json"


def replaced_notes(node: Node) -> dict[str, dict[str, Any]]:
    """Return, by path, the options that a plugin was given at its start and the methods it had."""
    found = read_json(notes_file(node))
    return found if isinstance(found, dict) else {}


def note_replaced(node: Node, path: str, facts: dict[str, Any]) -> None:
    """Remember how a plugin was started; must come before it is stopped."""
    write_atomic(notes_file(node), canonical({**replaced_notes(node), path: facts}), node.keeper)


def methods_of(node: Node) -> set[str]:
    """Return the methods of every plugin that was replaced at some time: when it comes back they are no surprise."""
    return {str(method) for facts in replaced_notes(node).values() for method in facts.get("methods", [])}
