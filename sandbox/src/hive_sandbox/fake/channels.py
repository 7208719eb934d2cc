"""Channels between sandbox nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node


class Channels:
    """All channels of the node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.all: list[Any] = []

    def with_peer(self, node_id: str) -> list[Any]:
        """Return the channels with one peer."""
        return [channel for channel in self.all if channel.peer_id == node_id]

    def counts(self) -> dict[str, int]:
        """Return how many channels are pending, active and inactive."""
        return {"pending": 0, "active": 0, "inactive": 0}

    def fees_collected(self) -> int:
        """Return the fees earned by forwarding, in millisatoshi."""
        return 0
