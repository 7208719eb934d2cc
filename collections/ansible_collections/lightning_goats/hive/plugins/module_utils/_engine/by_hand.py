"""Plugins of the operator's own configuration whose place a stack takes: what must be known to bring them back.

The operator's files are not edited. The managed include keeps such a plugin off with `disable-plugin`, which lightningd
looks at when it starts; `plugin start` does not look at it, so that the way back needs no restart either.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import _config
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


def options_of_others(node: Node, options: dict[str, dict[str, Any]]) -> set[str]:
    """Return the options that are not ours alone: those of other plugins that run, or whose place ours have taken.

    Lines for them in the operator's configuration are the operator's, and are needed again on the way back.

    Args:
        options: the options that lightningd knows, each with `plugin`.
    """
    root = node.to_inside(node.slots_dir) + "/"
    found = {name for name, option in options.items() if not str(option.get("plugin", root)).startswith(root)}
    text = _config.read_config(node.include_file, {}) or ""
    replaced = {path for paths in _config.parse_replaced(text).values() for path in paths}
    return found | names_of_options(node, replaced)


def names_of_options(node: Node, paths: Iterable[str]) -> set[str]:
    """Return the options that plugins had when they were replaced."""
    notes = replaced_notes(node)
    return {str(name) for path in paths for name in notes.get(path, {}).get("names", [])}


def methods_of(node: Node) -> set[str]:
    """Return the methods of every plugin that was replaced at some time: when it comes back they are no surprise."""
    return {str(method) for facts in replaced_notes(node).values() for method in facts.get("methods", [])}
