"""Payments on their way: sending, forwarding, accepting, and taking back."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from . import onion
from .channel import NORMAL, Channel, Htlc
from .routes import fee_msat

if TYPE_CHECKING:
    from .node import Node
    from .peers import Peer

_BLOCKS_TOO_SOON = 3


class Htlcs:
    """The HTLCs of all channels."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._index = self._updates = 0
        node.peers.handlers |= {"htlc_add": self._on_add, "htlc_end": self._on_end}

    def load(self) -> None:
        """Go on counting where the last run ended."""
        everything = [htlc for channel in self.node.channels.by_id.values() for htlc in channel.htlcs]
        self._index = max((htlc.index for htlc in everything), default=0)
        self._updates = max((htlc.updated for htlc in everything), default=0)

    def _ended(self, htlc: Htlc, outcome: dict[str, Any]) -> None:
        self._updates += 1
        htlc.outcome, htlc.updated = outcome, self._updates

    def next_index(self) -> int:
        """Return a new `created_index` for listhtlcs."""
        self._index += 1
        return self._index

    # -- sending ----------------------------------------------------------------------------------------------

    def takes(self, channel: Channel, amount_msat: int) -> bool:
        """Whether a channel can take an HTLC of this size now."""
        linked = self.node.peers.peer(channel.peer_id).link is not None
        return channel.state == NORMAL and linked and amount_msat <= channel.spendable_msat

    def offer(
        self,
        channel: Channel,
        amount_msat: int,
        payment_hash: str,
        expiry: int,
        layers: list[dict[str, Any]],
        forwards: list[Any],
    ) -> Htlc | None:
        """Send an HTLC over a channel; None when the channel cannot take it."""
        if not self.takes(channel, amount_msat):
            return None
        peer = self.node.peers.peer(channel.peer_id)
        htlc = Htlc(channel.next_number, "out", amount_msat, payment_hash, expiry, self.next_index(), forwards=forwards)
        channel.next_number += 1
        channel.to_us_msat -= amount_msat
        channel.htlcs.append(htlc)
        channel.count("out_offered", amount_msat)
        channel.note_balance()
        self.node.channels.save(channel)
        peer.send(
            {
                "type": "htlc_add",
                "channel_id": channel.channel_id,
                "number": htlc.number,
                "amount_msat": amount_msat,
                "payment_hash": payment_hash,
                "expiry": expiry,
                "onion": layers,
            }
        )
        return htlc

    # -- receiving --------------------------------------------------------------------------------------------

    async def _on_add(self, peer: Peer, message: dict[str, Any]) -> None:
        channel = self.node.channels.by_id.get(message["channel_id"])
        if channel is None or channel.peer_id != peer.node_id or channel.htlc(int(message["number"]), "in"):
            return
        htlc = Htlc(
            int(message["number"]),
            "in",
            int(message["amount_msat"]),
            message["payment_hash"],
            int(message["expiry"]),
            self.next_index(),
            onion=message["onion"],
        )
        channel.htlcs.append(htlc)
        channel.count("in_offered", htlc.amount_msat)
        self.node.channels.save(channel)
        self.node.spawn(self._accept(channel, htlc))

    async def _accept(self, channel: Channel, htlc: Htlc) -> None:
        """Ask the htlc_accepted hook, then forward the HTLC or take it."""
        layer, rest = htlc.onion[0], htlc.onion[1:]
        out = self.node.channels.by_scid(layer.get("short_channel_id", ""))
        request: dict[str, Any] = {"peer_id": channel.peer_id, "onion": onion.described(htlc.onion, htlc.payment_hash)}
        if out is not None:
            request["forward_to"] = out.channel_id
        request["htlc"] = {
            "short_channel_id": channel.short_channel_id,
            "id": htlc.number,
            "amount_msat": htlc.amount_msat,
            "cltv_expiry": htlc.expiry,
            "cltv_expiry_relative": htlc.expiry - self.node.chain.height,
            "payment_hash": htlc.payment_hash,
        }
        answer = await self.node.hooks.call("htlc_accepted", request)
        if answer.get("result") == "fail":
            self.end(channel, htlc, self._fail(onion.TEMPORARY_CHANNEL_FAILURE))
        elif answer.get("result") == "resolve":
            self._resolve(channel, htlc, str(answer.get("payment_key")))
        elif "short_channel_id" in layer:
            self._forward(channel, htlc, out, layer, rest)
        else:
            self.end(channel, htlc, await self.node.invoices.accept(htlc, layer))

    def _resolve(self, channel: Channel, htlc: Htlc, preimage: str) -> None:
        if hashlib.sha256(bytes.fromhex(preimage)).hexdigest() == htlc.payment_hash:
            self.end(channel, htlc, {"preimage": preimage})
        else:
            self.node.log.broken("lightningd", f"htlc_accepted hook: {preimage} is no preimage of {htlc.payment_hash}")
            self.end(channel, htlc, self._fail(onion.UNKNOWN_PAYMENT))

    def _fail(self, kind: tuple[int, str], scid: str = "") -> dict[str, Any]:
        return onion.failure(kind, self.node.keys.node_id, scid)

    def _forward(
        self, channel: Channel, htlc: Htlc, out: Channel | None, layer: dict[str, Any], rest: list[dict[str, Any]]
    ) -> None:
        scid, amount, expiry = layer["short_channel_id"], int(layer["forward_msat"]), int(layer["cltv"])
        if out is None:
            self.end(channel, htlc, self._fail(onion.UNKNOWN_NEXT_PEER, scid))
            return
        asked = fee_msat(amount, out.local.fee_base_msat, out.local.fee_proportional_millionths)
        wrong: tuple[int, str] | None = None
        if htlc.amount_msat - amount < asked:
            wrong = onion.FEE_INSUFFICIENT
        elif htlc.expiry - expiry < out.local.cltv_expiry_delta:
            wrong = onion.INCORRECT_CLTV
        elif expiry <= self.node.chain.height + _BLOCKS_TOO_SOON:
            wrong = onion.EXPIRY_TOO_SOON
        elif not self.takes(out, amount):
            wrong = onion.TEMPORARY_CHANNEL_FAILURE
        members = {
            "in_channel": channel.short_channel_id,
            "in_htlc_id": htlc.number,
            "out_channel": scid,
            "in_msat": htlc.amount_msat,
        }
        if wrong is not None:
            self.node.forwards.refused(members, htlc.payment_hash, wrong)
            self.end(channel, htlc, self._fail(wrong, scid))
            return
        members |= {"out_msat": amount, "fee_msat": htlc.amount_msat - amount}
        index = self.node.forwards.offered(members, htlc.payment_hash)
        sent = self.offer(out, amount, htlc.payment_hash, expiry, rest, [channel.channel_id, htlc.number, index])
        assert sent is not None, "nothing has happened since the channel could take it"
        self.node.forwards.sent(index, sent.number)

    # -- the end ----------------------------------------------------------------------------------------------

    def end(self, channel: Channel, htlc: Htlc, outcome: dict[str, Any]) -> None:
        """End an incoming HTLC and tell the sender."""
        self._ended(htlc, outcome)
        if "preimage" in outcome:
            channel.to_us_msat += htlc.amount_msat
            channel.count("in_fulfilled", htlc.amount_msat)
            channel.note_balance()
        self.node.channels.save(channel)
        self.node.peers.peer(channel.peer_id).send(
            {"type": "htlc_end", "channel_id": channel.channel_id, "number": htlc.number, "outcome": outcome}
        )

    async def _on_end(self, peer: Peer, message: dict[str, Any]) -> None:
        channel = self.node.channels.by_id.get(message["channel_id"])
        if channel is None or channel.peer_id != peer.node_id:
            return
        htlc = channel.htlc(int(message["number"]), "out")
        if htlc is not None and htlc.pending:
            self.ended(channel, htlc, message["outcome"])

    def ended(self, channel: Channel, htlc: Htlc, outcome: dict[str, Any]) -> None:
        """Take up the outcome of an HTLC that this node sent, and pass it on to whom it is for."""
        preimage = outcome.get("preimage")
        if preimage and hashlib.sha256(bytes.fromhex(preimage)).hexdigest() != htlc.payment_hash:
            self.node.log.broken(f"{channel.peer_id}-channeld", "peer sent a wrong preimage")
            return
        self._ended(htlc, outcome)
        if preimage:
            channel.count("out_fulfilled", htlc.amount_msat)
        else:
            channel.to_us_msat += htlc.amount_msat
        self.node.channels.save(channel)
        if not htlc.forwards:
            self.node.payments.on_outcome(htlc.payment_hash, outcome)
            return
        origin_id, number, index = htlc.forwards
        self.node.forwards.ended(index, bool(preimage))
        origin = self.node.channels.by_id.get(origin_id)
        incoming = origin.htlc(number, "in") if origin else None
        if origin is not None and incoming is not None:
            self.end(origin, incoming, outcome)

    # -- the list ------------------------------------------------------------------------------------------------------

    def listed(self) -> list[dict[str, Any]]:
        """Return the entries of listhtlcs."""
        entries = [
            {
                "short_channel_id": channel.short_channel_id,
                "id": htlc.number,
                "expiry": htlc.expiry,
                "amount_msat": htlc.amount_msat,
                "direction": htlc.direction,
                "payment_hash": htlc.payment_hash,
                "state": htlc.state,
                "created_index": htlc.index,
                **({"updated_index": htlc.updated} if htlc.updated else {}),
            }
            for channel in self.node.channels.by_id.values()
            for htlc in channel.htlcs
        ]
        return sorted(entries, key=lambda entry: int(entry["created_index"]))
