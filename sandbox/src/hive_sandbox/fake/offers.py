"""Offers of this node, and asking other nodes for invoices over the link, where a real one sends onion messages."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from typing import TYPE_CHECKING, Any

from . import bolt12
from .errors import (
    OFFER_ALREADY_EXISTS,
    OFFER_BAD_REPLY,
    OFFER_ROUTE_NOT_FOUND,
    OFFER_TIMEOUT,
    RpcError,
)

if TYPE_CHECKING:
    from .node import Node
    from .peers import Peer


class Offers:
    """The offers, kept in the database, and the requests that wait for an answer."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        node.peers.handlers["invoice_request"] = self._on_request
        node.peers.handlers["invoice_reply"] = self._on_reply

    def listed(self) -> list[dict[str, Any]]:
        """Return the entries of listoffers."""
        return [json.loads(row[0]) for row in self.node.database.rows("SELECT document FROM offers ORDER BY id")]

    def make(
        self, amount_msat: int | None, description: str, issuer: str | None, label: str | None
    ) -> tuple[dict[str, Any], bool]:
        """Return the entry of an offer, and whether it is new.

        Raises:
            RpcError: there was such an offer, and it is not active any more.
        """
        offer = bolt12.make_offer(self.node.keys, amount_msat, description, issuer)
        for known in self.listed():
            if known["offer_id"] == offer.offer_id:
                if not known["active"]:
                    raise RpcError(OFFER_ALREADY_EXISTS, "Offer already exists, but isn't active")
                return known, False
        entry: dict[str, Any] = {
            "offer_id": offer.offer_id,
            "active": True,
            "single_use": False,
            "bolt12": offer.text,
            "force_paths": False,
            "used": False,
        }
        if label is not None:
            entry["label"] = label
        with self.node.database.transaction() as connection:
            connection.execute("INSERT INTO offers (document) VALUES (?)", (json.dumps(entry),))
        return entry, True

    def disable(self, offer_id: str) -> dict[str, Any] | None:
        """Let an offer stand for nothing any more, and return its entry; None when there is no such offer."""
        entry = next((known for known in self.listed() if known["offer_id"] == offer_id), None)
        if entry is not None:
            self._save({**entry, "active": False})
            return {**entry, "active": False}
        return None

    async def fetch(self, offer: bolt12.Offer, amount_msat: int, note: str | None, timeout: float) -> bolt12.Invoice:
        """Return an invoice of the node behind an offer.

        Raises:
            RpcError: the node cannot be reached, says no, or does not answer in time.
        """
        if offer.issuer_id == self.node.keys.node_id:
            return self._answer(offer.text, amount_msat, self.node.keys.node_id, note)
        try:
            peer = await self.node.peers.connect(offer.issuer_id, None, None, "")
        except RpcError as error:
            raise RpcError(OFFER_ROUTE_NOT_FOUND, f"Failed: could not route, could not connect: {error}") from None
        number = f"{self.node.keys.node_id[:8]}-{next(self._numbers)}-{secrets.token_hex(4)}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        peer.send(
            {"type": "invoice_request", "id": number, "offer": offer.text, "amount_msat": amount_msat, "note": note}
        )
        try:
            async with asyncio.timeout(timeout):
                reply = await future
        except TimeoutError:
            raise RpcError(OFFER_TIMEOUT, "Timeout waiting for response") from None
        finally:
            self._waiting.pop(number, None)
        if "error" in reply:
            raise RpcError(OFFER_BAD_REPLY, "Remote node sent failure message", {"error": reply["error"]})
        try:
            return bolt12.read_invoice(str(reply.get("invoice")))
        except ValueError as error:
            raise RpcError(OFFER_BAD_REPLY, f"Invalid invoice: {error}") from None

    def _answer(self, text: str, amount_msat: int, payer_id: str, note: str | None) -> bolt12.Invoice:
        """Make an invoice.

        Raises:
            RpcError: the offer is none of this node's, or asks for another amount.
        """
        entry = next((known for known in self.listed() if known["bolt12"] == text and known["active"]), None)
        if entry is None:
            raise RpcError(OFFER_BAD_REPLY, "Unknown offer")
        offer = bolt12.read_offer(text)
        if offer.amount_msat is not None and amount_msat < offer.amount_msat:
            raise RpcError(OFFER_BAD_REPLY, "Amount is too low")
        self._save({**entry, "used": True})
        return self.node.invoices.make_for_offer(offer, amount_msat, payer_id, note)

    def _save(self, entry: dict[str, Any]) -> None:
        with self.node.database.transaction() as connection:
            connection.execute(
                "UPDATE offers SET document = ? WHERE json_extract(document, '$.offer_id') = ?",
                (json.dumps(entry), entry["offer_id"]),
            )

    async def _on_request(self, peer: Peer, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"type": "invoice_reply", "id": message.get("id")}
        try:
            made = self._answer(
                str(message["offer"]), int(message["amount_msat"]), peer.node_id, message.get("note") or None
            )
        except RpcError as error:
            peer.send({**reply, "error": str(error)})
        else:
            peer.send({**reply, "invoice": made.text})

    async def _on_reply(self, peer: Peer, message: dict[str, Any]) -> None:
        del peer
        future = self._waiting.get(str(message.get("id")))
        if future is not None and not future.done():
            future.set_result(message)
