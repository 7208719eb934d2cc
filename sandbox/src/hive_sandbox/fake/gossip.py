"""What a node knows of the others: public channels, their fees, node names, flooded from peer to peer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node
    from .peers import Peer

Item = dict[str, Any]


class Graph:
    """The public part of the network. Items are dicts with `kind` channel, update, gone or node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.channels: dict[str, Item] = {}
        self.updates: dict[tuple[str, int], Item] = {}
        self.nodes: dict[str, Item] = {}
        node.peers.handlers["gossip"] = self._on_gossip
        node.peers.on_connected.append(self._greet)

    def everything(self) -> list[Item]:
        """Return all items, in an order in which another node can take them."""
        return [*self.channels.values(), *self.updates.values(), *self.nodes.values()]

    def _greet(self, peer: Peer) -> None:
        items = self.everything()
        if items:
            peer.send({"type": "gossip", "items": items})

    async def _on_gossip(self, peer: Peer, message: dict[str, Any]) -> None:
        self.add(message.get("items", []), but=peer)

    def add(self, items: list[Item], but: Peer | None = None) -> None:
        """Take what is new in `items` and tell the other peers of it."""
        new = [item for item in items if self._take(item)]
        if new:
            for peer in self.node.peers.connected():
                if peer is not but:
                    peer.send({"type": "gossip", "items": new})

    def _take(self, item: Item) -> bool:
        kind = item.get("kind")
        if kind == "channel":
            return self._keep(self.channels, item["short_channel_id"], item)
        if kind == "update":
            return self._keep(self.updates, (item["short_channel_id"], item["direction"]), item)
        if kind == "node":
            return self._keep(self.nodes, item["nodeid"], item)
        if kind == "gone" and item["short_channel_id"] in self.channels:
            scid = item["short_channel_id"]
            del self.channels[scid]
            for direction in (0, 1):
                self.updates.pop((scid, direction), None)
            return True
        return False

    @staticmethod
    def _keep(store: dict[Any, Item], key: Any, item: Item) -> bool:
        old = store.get(key)
        if old is not None and old["timestamp"] >= item["timestamp"]:
            return False
        store[key] = item
        return True

    def next_timestamp(self, scid: str, direction: int) -> int:
        """Return a time for a new update of a channel: now, but later than that of the last one."""
        last = self.updates.get((scid, direction))
        return max(int(time.time()), last["timestamp"] + 1 if last else 0)

    def knows(self, node_id: str) -> bool:
        """Whether a node is in the graph, by a channel of its own."""
        return any(node_id in channel["nodes"] for channel in self.channels.values())

    def announce_self(self) -> None:
        """Tell the network this node's name; only a node with a public channel is heard."""
        options = self.node.options
        self.add(
            [
                {
                    "kind": "node",
                    "nodeid": self.node.keys.node_id,
                    "alias": options.value("alias"),
                    "color": options.value("rgb"),
                    "features": self.node.release.features["node"],
                    "timestamp": int(time.time()),
                }
            ]
        )

    def listed_channels(self) -> Iterator[dict[str, Any]]:
        """Give the entries of listchannels: one for each direction that has an update."""
        for (scid, direction), update in sorted(self.updates.items()):
            channel = self.channels.get(scid)
            if channel is None:
                continue
            nodes = channel["nodes"]
            yield {
                "source": nodes[direction],
                "destination": nodes[1 - direction],
                "short_channel_id": scid,
                "direction": direction,
                "public": True,
                "amount_msat": channel["amount_msat"],
                "message_flags": 1,
                "channel_flags": direction | (0 if update["active"] else 2),
                "active": update["active"],
                "last_update": update["timestamp"],
                "base_fee_millisatoshi": update["fee_base_msat"],
                "fee_per_millionth": update["fee_proportional_millionths"],
                "delay": update["cltv_expiry_delta"],
                "htlc_minimum_msat": update["htlc_minimum_msat"],
                "htlc_maximum_msat": update["htlc_maximum_msat"],
                "features": "",
            }

    def listed_nodes(self) -> Iterator[dict[str, Any]]:
        """Give the entries of listnodes: bare for nodes of which only a channel is known."""
        ids = dict.fromkeys(node_id for channel in self.channels.values() for node_id in channel["nodes"])
        for node_id in ids:
            item = self.nodes.get(node_id)
            if item is None:
                yield {"nodeid": node_id}
                continue
            yield {
                "nodeid": node_id,
                "alias": item["alias"],
                "color": item["color"],
                "last_timestamp": item["timestamp"],
                "features": item["features"],
                "addresses": [],
            }
