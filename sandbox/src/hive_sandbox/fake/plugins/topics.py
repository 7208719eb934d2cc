"""Notifications: who subscribed to what, and the form in which it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..jsontext import dumps
from ..log import Entry, iso
from .process import Plugin, State

if TYPE_CHECKING:
    from ..node import Node

_WORDS = {"unusual": "warn", "broken": "error"}


class Topics:
    """Sends notifications to the plugins that subscribed to them."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def subscribed(self, plugin: Plugin, topic: str) -> bool:
        """Whether a plugin gets a topic, by its name or by "*"."""
        manifest = plugin.manifest
        return manifest is not None and (topic in manifest.subscriptions or "*" in manifest.subscriptions)

    def publish(self, topic: str, payload: Any) -> None:
        """Send a notification to every active subscriber, wrapped under its own name."""
        for plugin in list(self.node.plugins.all):
            if plugin.state is State.ACTIVE and self.subscribed(plugin, topic):
                self.send(plugin, topic, payload)

    def send(self, plugin: Plugin, topic: str, payload: Any) -> None:
        """Send a notification to one plugin."""
        plugin.send(f'{{"jsonrpc":"2.0","method":{dumps(topic)},"params":{{{dumps(topic)}:{dumps(payload)}}}}}')

    def publish_custom(self, origin: Plugin, topic: str, payload: Any) -> None:
        """Pass on what a plugin announced itself; only those who named the topic get it, not those with "*"."""
        for plugin in list(self.node.plugins.all):
            if plugin.manifest is not None and topic in plugin.manifest.subscriptions:
                self.send(plugin, topic, {"origin": origin.name, "payload": payload})

    def warning(self, entry: Entry) -> None:
        """Tell the subscribers of `warning` about an unusual or broken line of the log."""
        self.publish(
            "warning",
            {
                "level": _WORDS[entry.level],
                "time": f"{entry.at // 1_000_000_000}.{entry.at % 1_000_000_000:09d}",
                "timestamp": iso(entry.at),
                "source": entry.source,
                "log": entry.text,
            },
        )
