"""The chain of the sandbox: a height that grows by command and that connected nodes agree on."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node import Node

START_HEIGHT = 110


def block_hash(height: int) -> str:
    """Return the hash of the block at a height; every fake node has the same chain."""
    return hashlib.sha256(f"sandbox block {height}".encode()).hexdigest()


class Chain:
    """The blocks this node has seen. There are no transactions in them: channels remember their own block."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.height = START_HEIGHT
        self.grown = asyncio.Condition()

    def load(self) -> None:
        """Take the height from the database."""
        number, _ = self.node.database.variable("last_processed_block")
        if number is None:
            self.node.database.set_variable("last_processed_block", number=self.height)
        else:
            self.height = number

    def advance_to(self, height: int) -> bool:
        """Add blocks up to a height; return whether there were any to add."""
        if height <= self.height or self.node.faults.has("unsynced"):
            return False
        for new in range(self.height + 1, height + 1):
            self.height = new
            self.node.log.debug("lightningd", f"Adding block {new}: {block_hash(new)}")
            self.node.topics.publish("block_added", {"hash": block_hash(new), "height": new})
        self.node.database.set_variable("last_processed_block", number=height)
        self.node.channels.on_block()
        self.node.spawn(self._wake())
        return True

    async def _wake(self) -> None:
        async with self.grown:
            self.grown.notify_all()
