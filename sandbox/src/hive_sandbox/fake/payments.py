"""Payments this node makes: along a route that was found or given, remembered with their outcome."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from . import onion
from .errors import PAY_DESTINATION_PERM_FAIL, PAY_ROUTE_NOT_FOUND, PAY_UNSPECIFIED, RpcError
from .routes import Hop, find_route

if TYPE_CHECKING:
    from .node import Node

_FAILED_BY_REMOTE = 204


class Payments:
    """The payments, kept in the database; `waiting` holds who waits for the outcome of which hash."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._waiting: dict[str, list[asyncio.Future[dict[str, Any]]]] = {}

    # -- looking ----------------------------------------------------------------------------------------------

    def records(self, payment_hash: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of listsendpays, with the failure kept under `_failure`."""
        rows = self.node.database.rows(
            "SELECT id, document FROM payments WHERE payment_hash = coalesce(?, payment_hash) ORDER BY id",
            payment_hash,
        )
        return [{"created_index": number, "id": number, **json.loads(document)} for number, document in rows]

    @staticmethod
    def shown(record: dict[str, Any]) -> dict[str, Any]:
        """Return a record without what only this program needs."""
        return {name: value for name, value in record.items() if not name.startswith("_")}

    def route(
        self, destination: str, amount_msat: int, final_delay: int, source: str | None = None
    ) -> list[Hop] | None:
        """Return the cheapest route to a node; from this node over channels that can carry it."""
        start = source or self.node.keys.node_id
        spendable = {
            c.short_channel_id: c.spendable_msat
            for c in self.node.channels.by_id.values()
            if self.node.peers.peer(c.peer_id).link is not None
        }
        if start != self.node.keys.node_id:
            spendable = {
                entry["short_channel_id"]: entry["htlc_maximum_msat"] for entry in self.node.graph.listed_channels()
            }
        return find_route(self._known_channels(), start, destination, amount_msat, final_delay, spendable)

    def _known_channels(self) -> list[dict[str, Any]]:
        """Return the public channels and this node's own private ones."""
        own = self.node.keys.node_id
        private = [
            {
                "source": own,
                "destination": channel.peer_id,
                "short_channel_id": channel.short_channel_id,
                "direction": 0 if own < channel.peer_id else 1,
                "active": True,
                "base_fee_millisatoshi": 0,
                "fee_per_millionth": 0,
                "delay": 0,
                "htlc_minimum_msat": 0,
                "htlc_maximum_msat": channel.spendable_msat,
            }
            for channel in self.node.channels.by_id.values()
            if channel.private and channel.short_channel_id
        ]
        return [*self.node.graph.listed_channels(), *private]

    # -- sending ----------------------------------------------------------------------------------------------

    def send(
        self, hops: list[Hop], payment_hash: str, payment_secret: str, amount_msat: int, about: dict[str, Any]
    ) -> dict[str, Any]:
        """Send a payment along a route and return its record.

        Args:
            hops: the route, own channel first.
            payment_hash: in hex.
            payment_secret: of the invoice, in hex.
            amount_msat: what is to arrive.
            about: further members of the record, for example bolt11 and label.

        Raises:
            RpcError: the first channel cannot take it.
        """
        first = hops[0]
        height = self.node.chain.height
        channel = self.node.channels.by_scid(first.short_channel_id)
        layers = onion.build(hops, height, payment_secret, amount_msat)
        record = {
            "payment_hash": payment_hash,
            "groupid": len(self.records(payment_hash)) + 1,
            "destination": hops[-1].node_id,
            "amount_msat": amount_msat,
            "amount_sent_msat": first.amount_msat,
            "created_at": int(time.time()),
            "status": "pending",
            **about,
        }
        with self.node.database.transaction() as connection:
            number = connection.execute(
                "INSERT INTO payments (payment_hash, document) VALUES (?, ?)", (payment_hash, json.dumps(record))
            ).lastrowid
        record = {"created_index": number, "id": number, **record, "_hops": [hop.listed() for hop in hops]}
        self._save(record)
        sent = None
        if channel is not None:
            sent = self.node.htlcs.offer(channel, first.amount_msat, payment_hash, height + first.delay, layers, [])
        if sent is None:
            kind = onion.TEMPORARY_CHANNEL_FAILURE
            self._end(record, onion.failure(kind, self.node.keys.node_id, first.short_channel_id))
            raise RpcError(_FAILED_BY_REMOTE, f"failed: {kind[1]} (First peer not ready)", self.shown(record))
        return record

    async def outcome(self, record: dict[str, Any], timeout: float | None) -> dict[str, Any]:
        """Wait for the end of a payment and return its record.

        Raises:
            TimeoutError: it did not end in `timeout` seconds.
        """
        current = self.records(record["payment_hash"])[-1]
        if current["status"] != "pending":
            return current
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(record["payment_hash"], []).append(future)
        async with asyncio.timeout(timeout):
            return await future

    async def pay(
        self, destination: str, amount_msat: int, secret: str, about: dict[str, Any], delay: int
    ) -> dict[str, Any]:
        """Pay somebody and return the record of the payment that arrived.

        Raises:
            RpcError: there is no route, or the payment failed.
        """
        payment_hash = about.pop("payment_hash")
        done = [record for record in self.records(payment_hash) if record["status"] == "complete"]
        if done:
            return done[0]
        hops = self.route(destination, amount_msat, delay)
        if not hops:
            raise RpcError(PAY_ROUTE_NOT_FOUND, "Could not find a route")
        record = await self.outcome(self.send(hops, payment_hash, secret, amount_msat, about), None)
        if record["status"] == "complete":
            return record
        failure = record["_failure"]
        if failure["name"] == onion.UNKNOWN_PAYMENT[1]:
            raise RpcError(PAY_DESTINATION_PERM_FAIL, self.failure_text(record), self.failure_data(record))
        raise RpcError(PAY_UNSPECIFIED, "Ran out of routes to try after 1 attempt: see `paystatus`")

    # -- outcomes ---------------------------------------------------------------------------------------------

    def on_outcome(self, payment_hash: str, outcome: dict[str, Any]) -> None:
        """Take up the end of a payment of this node."""
        pending = [record for record in self.records(payment_hash) if record["status"] == "pending"]
        if pending:
            self._end(pending[-1], outcome)

    def _end(self, record: dict[str, Any], outcome: dict[str, Any]) -> None:
        now = int(time.time())
        record |= {"updated_index": record["created_index"], "completed_at": now}
        if "preimage" in outcome:
            record |= {"status": "complete", "payment_preimage": outcome["preimage"]}
        else:
            record |= {"status": "failed", "_failure": outcome["failure"]}
        self._save(record)
        if record["status"] == "complete":
            self.node.topics.publish("sendpay_success", self.shown(record))
        else:
            data = self.failure_data(record)
            text = self.failure_text(record)
            self.node.topics.publish("sendpay_failure", {"code": _FAILED_BY_REMOTE, "message": text, "data": data})
        for future in self._waiting.pop(record["payment_hash"], []):
            if not future.done():
                future.set_result(record)

    def _save(self, record: dict[str, Any]) -> None:
        document = {name: value for name, value in record.items() if name not in ("created_index", "id")}
        with self.node.database.transaction() as connection:
            connection.execute(
                "UPDATE payments SET document = ? WHERE id = ?", (json.dumps(document), record["created_index"])
            )

    @staticmethod
    def failure_text(record: dict[str, Any]) -> str:
        """Return the sentence of waitsendpay for a payment that failed."""
        return f"failed: {record['_failure']['name']} (reply from remote)"

    @staticmethod
    def failure_data(record: dict[str, Any]) -> dict[str, Any]:
        """Return the data of waitsendpay's error: the payment, and where it failed."""
        failure, hops = record["_failure"], record["_hops"]
        ids = [hop["id"] for hop in hops]
        index = ids.index(failure["node"]) + 1 if failure["node"] in ids else 0
        channel = failure["channel"] or (hops[index - 1]["channel"] if index else hops[0]["channel"])
        direction = next((hop["direction"] for hop in hops if hop["channel"] == channel), 0)
        names = (
            "created_index",
            "id",
            "payment_hash",
            "groupid",
            "destination",
            "amount_msat",
            "amount_sent_msat",
            "created_at",
        )
        return {
            **{name: record[name] for name in names},
            "status": "pending",
            "erring_index": index,
            "failcode": failure["code"],
            "failcodename": failure["name"],
            "erring_node": failure["node"],
            "erring_channel": channel,
            "erring_direction": direction,
        }
