"""The plugins that come with lightningd, as `plugin list` shows them. Here they are names, not processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .plugins.process import Plugin, State

if TYPE_CHECKING:
    from .node import Node

DIRECTORY = Path("/usr/libexec/c-lightning/plugins")

# Name, and whether `plugin stop` may stop it.
_PLUGINS = (
    ("autoclean", False),
    ("chanbackup", False),
    ("bcli", False),
    ("cln-bwatch", True),
    ("commando", False),
    ("funder", True),
    ("topology", False),
    ("exposesecret", True),
    ("keysend", False),
    ("offers", True),
    ("pay", True),
    ("recklessrpc", True),
    ("recover", False),
    ("txprepare", True),
    ("cln-renepay", True),
    ("cln-xpay", True),
    ("spenderp", False),
    ("cln-askrene", True),
    ("sql", True),
    ("bookkeeper", False),
)


def add_builtin_plugins(node: Node) -> None:
    """Register the built-in plugins, and give their options the paths that listconfigs shows."""
    for name, dynamic in _PLUGINS:
        path = str(DIRECTORY / name)
        if name in node.release.without_plugins:
            continue
        if node.plugins.is_disabled(path):
            continue
        node.plugins.all.append(Plugin(path, built_in=True, state=State.ACTIVE, dynamic=dynamic))
    for option in list(node.options.options.values()):
        if option.plugin and node.plugins.is_disabled(option.plugin):
            del node.options.options[option.name]
        elif option.plugin:
            option.plugin = str(DIRECTORY / option.plugin)
