"""All channels of the node: funding, confirming, announcing, dropping them, and agreeing after a reconnect."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from .channel import LOCKIN, NORMAL, UNILATERAL, Channel, Htlc, Policy, direction_of, listed
from .errors import FUND_CANNOT_AFFORD, INVALID_PARAMS, LIGHTNINGD, RpcError
from .log import iso

if TYPE_CHECKING:
    from .node import Node
    from .peers import Peer

# How many HTLCs that have ended a channel remembers, for a peer that was away when they did.
_ENDED_REMEMBERED = 100
_FUNDING_FEE_SAT = 166
FUNDING_UNKNOWN_PEER = 306


class Channels:
    """The channels, by channel id, kept in the database."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.by_id: dict[str, Channel] = {}
        node.peers.handlers |= {
            "open": self._on_open,
            "ready": self._on_ready,
            "policy": self._on_policy,
            "reestablish": self._on_reestablish,
        }
        node.peers.on_connected.append(self._reestablish)

    # -- looking ----------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take the channels from the database."""
        for (document,) in self.node.database.rows("SELECT document FROM channels ORDER BY rowid"):
            channel = Channel.from_document(json.loads(document))
            self.by_id[channel.channel_id] = channel
        for peer_id, address in self.node.database.rows("SELECT node_id, address FROM peers"):
            host, _, port = address.rpartition(":")
            self.node.peers.peer(peer_id).address = (host, int(port))

    def save(self, channel: Channel) -> None:
        """Write one channel to the database."""
        ended = [htlc for htlc in channel.htlcs if not htlc.pending][:-_ENDED_REMEMBERED]
        channel.htlcs = [htlc for htlc in channel.htlcs if htlc not in ended]
        with self.node.database.transaction() as connection:
            connection.execute(
                "INSERT INTO channels (channel_id, document) VALUES (?, ?) "
                "ON CONFLICT (channel_id) DO UPDATE SET document = excluded.document",
                (channel.channel_id, json.dumps(channel.document())),
            )
            address = self.node.peers.peer(channel.peer_id).address
            if address is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO peers (node_id, address) VALUES (?, ?)",
                    (channel.peer_id, f"{address[0]}:{address[1]}"),
                )

    def with_peer(self, node_id: str) -> list[Channel]:
        """Return the channels with one peer."""
        return [channel for channel in self.by_id.values() if channel.peer_id == node_id]

    def by_scid(self, scid: str) -> Channel | None:
        """Return the channel with a short channel id."""
        return next((c for c in self.by_id.values() if scid and c.short_channel_id == scid), None)

    def named(self, name: str) -> list[Channel]:
        """Return the channels that a parameter `id` means: of a peer, by channel id or short channel id, or "all"."""
        if name == "all":
            return list(self.by_id.values())
        return [c for c in self.by_id.values() if name in (c.peer_id, c.channel_id, c.short_channel_id)]

    def listed(self) -> list[dict[str, Any]]:
        """Return the entries of listpeerchannels."""
        entries = []
        for channel in self.by_id.values():
            connected = self.node.peers.peer(channel.peer_id).link is not None
            ignore = bool(self.node.options.value("ignore-fee-limits"))
            entry = listed(channel, self.node.keys.node_id, connected, ignore)
            entries.append({k: v for k, v in entry.items() if k not in self.node.release.without_channel_fields})
        return entries

    def counts(self) -> dict[str, int]:
        """Return how many channels are pending, active and inactive."""
        states = [channel.state for channel in self.by_id.values()]
        pending, active = states.count(LOCKIN), states.count(NORMAL)
        return {"pending": pending, "active": active, "inactive": len(states) - pending - active}

    # -- opening ----------------------------------------------------------------------------------------------

    def fund(self, peer_id: str, amount_sat: int, push_msat: int, *, announce: bool) -> Channel:
        """Open a channel to a connected peer with coins of the wallet.

        Raises:
            RpcError: the peer is not connected, or the wallet holds too little.
        """
        peer = self.node.peers.by_id.get(peer_id)
        if peer is None or peer.link is None:
            raise RpcError(FUNDING_UNKNOWN_PEER, "Unknown peer")
        if push_msat > amount_sat * 1000:
            raise RpcError(LIGHTNINGD, f"push_msat {push_msat} is more than the channel holds")
        txid = self.node.wallet.spend(amount_sat, _FUNDING_FEE_SAT)
        if txid is None:
            raise RpcError(
                FUND_CANNOT_AFFORD,
                f"Could not afford {amount_sat}sat using all {len(self.node.wallet.unspent())} available UTXOs: "
                f"{self.node.wallet.missing(amount_sat + _FUNDING_FEE_SAT)}sat short",
            )
        channel = Channel(
            peer_id=peer_id,
            channel_id=bytes.fromhex(txid)[::-1].hex(),
            funding_txid=txid,
            funding_outnum=0,
            opener="local",
            total_msat=amount_sat * 1000,
            to_us_msat=amount_sat * 1000 - push_msat,
            pushed_msat=push_msat,
            funded_at=self.node.chain.height,
            local=self._own_policy(amount_sat * 1000),
            private=not announce,
        )
        channel.max_to_us_msat = channel.min_to_us_msat = channel.to_us_msat
        self._begin(channel, "user")
        peer.send(
            {
                "type": "open",
                "channel_id": channel.channel_id,
                "txid": txid,
                "total_msat": channel.total_msat,
                "push_msat": push_msat,
                "funded_at": channel.funded_at,
                "private": channel.private,
                "policy": channel.local.listed(),
            }
        )
        return channel

    def _own_policy(self, total_msat: int) -> Policy:
        options = self.node.options
        return Policy(
            fee_base_msat=options.value("fee-base"),
            fee_proportional_millionths=options.value("fee-per-satoshi"),
            cltv_expiry_delta=options.value("cltv-delta"),
            htlc_minimum_msat=options.value("htlc-minimum-msat"),
            htlc_maximum_msat=min(options.value("htlc-maximum-msat"), total_msat - total_msat // 100),
        )

    def _begin(self, channel: Channel, cause: str) -> None:
        self.by_id[channel.channel_id] = channel
        self.save(channel)
        self._tell_state(channel, "unknown", cause, "new channel opened")

    async def _on_open(self, peer: Peer, message: dict[str, Any]) -> None:
        if message["channel_id"] in self.by_id:
            return
        total, push = int(message["total_msat"]), int(message["push_msat"])
        channel = Channel(
            peer_id=peer.node_id,
            channel_id=message["channel_id"],
            funding_txid=message["txid"],
            funding_outnum=0,
            opener="remote",
            total_msat=total,
            to_us_msat=push,
            pushed_msat=push,
            funded_at=int(message["funded_at"]),
            local=self._own_policy(total),
            remote=Policy(**message["policy"]),
            private=bool(message["private"]),
        )
        channel.max_to_us_msat = channel.min_to_us_msat = push
        self._begin(channel, "remote")
        self.node.topics.publish(
            "channel_opened",
            {
                "id": peer.node_id,
                "funding_msat": total,
                "funding_txid": channel.funding_txid,
                "channel_ready": False,
            },
        )
        peer.send({"type": "policy", "channel_id": channel.channel_id, "policy": channel.local.listed()})
        self.confirm(channel)

    # -- confirming -------------------------------------------------------------------------------------------

    def on_block(self) -> None:
        """Look after every channel when the chain has grown."""
        for channel in list(self.by_id.values()):
            self.confirm(channel)

    def confirm(self, channel: Channel) -> None:
        """Say that a channel's funding is deep enough, once it is."""
        depth = self.node.chain.height - channel.funded_at
        if channel.state != LOCKIN or depth < self.node.options.value("funding-confirms"):
            return
        if not channel.short_channel_id:
            # Both sides come to the same number: it follows from the block and the transaction.
            place = 1 + int(channel.funding_txid[:6], 16) % 5000
            channel.short_channel_id = f"{channel.funded_at + 1}x{place}x0"
            self.save(channel)
        self._send_ready(channel)
        self._lock_in(channel, "user" if channel.opener == "local" else "remote")

    def _send_ready(self, channel: Channel) -> None:
        self.node.peers.peer(channel.peer_id).send(
            {"type": "ready", "channel_id": channel.channel_id, "policy": channel.local.listed()}
        )

    async def _on_ready(self, peer: Peer, message: dict[str, Any]) -> None:
        channel = self.by_id.get(message["channel_id"])
        if channel is None or channel.peer_id != peer.node_id:
            return
        channel.remote = Policy(**message["policy"])
        if not channel.peer_ready:
            channel.peer_ready = True
            self.save(channel)
            self._lock_in(channel, "remote")

    def _lock_in(self, channel: Channel, cause: str) -> None:
        if channel.state == LOCKIN and channel.peer_ready and channel.short_channel_id:
            self.change_state(channel, NORMAL, cause, "Lockin complete")
            self.announce(channel)

    def change_state(self, channel: Channel, state: str, cause: str, message: str) -> None:
        """Move a channel to another state and tell who wants to know."""
        old, channel.state = channel.state, state
        channel.state_changes.append(
            {
                "timestamp": iso(time.time_ns()),
                "old_state": old,
                "new_state": state,
                "cause": cause,
                "message": message,
            }
        )
        self.save(channel)
        self._tell_state(channel, old, cause, message)

    def _tell_state(self, channel: Channel, old: str, cause: str, message: str) -> None:
        payload: dict[str, Any] = {
            "peer_id": channel.peer_id,
            "channel_id": channel.channel_id,
            "short_channel_id": channel.short_channel_id or None,
            "timestamp": iso(time.time_ns()),
            "old_state": old,
            "new_state": channel.state,
            "cause": cause,
            "message": message,
        }
        if old == "unknown" and not self.node.release.says_unknown_old_state:
            del payload["old_state"]
        self.node.topics.publish("channel_state_changed", payload)

    # -- announcing -------------------------------------------------------------------------------------------

    def announce(self, channel: Channel) -> None:
        """Tell the network about a public channel and this side's fees."""
        if channel.private or channel.state != NORMAL:
            return
        own = self.node.keys.node_id
        nodes = sorted((own, channel.peer_id))
        direction = direction_of(own, channel.peer_id)
        scid = channel.short_channel_id
        base = {"short_channel_id": scid, "timestamp": self.node.graph.next_timestamp(scid, direction)}
        self.node.graph.add(
            [
                {"kind": "channel", **base, "timestamp": 0, "nodes": nodes, "amount_msat": channel.total_msat},
                {
                    "kind": "update",
                    **base,
                    "direction": direction,
                    "active": True,
                    **channel.local.listed(),
                },
            ]
        )
        self.node.graph.announce_self()

    def announce_all(self) -> None:
        """Announce every public channel, after a start."""
        for channel in self.by_id.values():
            self.announce(channel)

    def set_policy(self, channel: Channel, changes: dict[str, int]) -> None:
        """Change what this side asks for forwarding; tell the peer and the network."""
        for name, value in changes.items():
            setattr(channel.local, name, value)
        self.save(channel)
        self.node.peers.peer(channel.peer_id).send(
            {"type": "policy", "channel_id": channel.channel_id, "policy": channel.local.listed()}
        )
        self.announce(channel)

    async def _on_policy(self, peer: Peer, message: dict[str, Any]) -> None:
        channel = self.by_id.get(message["channel_id"])
        if channel is not None and channel.peer_id == peer.node_id:
            channel.remote = Policy(**message["policy"])
            self.save(channel)

    # -- reconnecting -----------------------------------------------------------------------------------------

    def _reestablish(self, peer: Peer) -> None:
        """Tell a peer that is back where this side is, channel by channel."""
        for channel in self.with_peer(peer.node_id):
            if channel.opener == "local" and channel.state == LOCKIN and not channel.peer_ready:
                peer.send(
                    {
                        "type": "open",
                        "channel_id": channel.channel_id,
                        "txid": channel.funding_txid,
                        "total_msat": channel.total_msat,
                        "push_msat": channel.pushed_msat,
                        "funded_at": channel.funded_at,
                        "private": channel.private,
                        "policy": channel.local.listed(),
                    }
                )
            if channel.short_channel_id:
                self._send_ready(channel)
            incoming = [htlc for htlc in channel.htlcs if htlc.direction == "in" and not htlc.stuck]
            peer.send(
                {
                    "type": "reestablish",
                    "channel_id": channel.channel_id,
                    "state": channel.state,
                    "incoming": [[htlc.number, htlc.outcome] for htlc in incoming],
                }
            )

    async def _on_reestablish(self, peer: Peer, message: dict[str, Any]) -> None:
        """Take up the outcome of what was sent before the link broke; what never arrived has failed."""
        channel = self.by_id.get(message["channel_id"])
        if channel is None or channel.peer_id != peer.node_id:
            return
        if message["state"] == UNILATERAL and channel.is_live:
            self.drop(channel, "remote", "Peer dropped the channel to chain")
        known = {int(number): outcome for number, outcome in message["incoming"]}
        for htlc in [h for h in channel.pending if h.direction == "out" and not h.stuck]:
            outcome = known.get(htlc.number, {"failure": {"code": 4103, "name": "WIRE_TEMPORARY_CHANNEL_FAILURE"}})
            if outcome:
                self.node.htlcs.ended(channel, htlc, outcome)

    # -- faults -----------------------------------------------------------------------------------------------

    def drop(self, channel: Channel, cause: str, message: str) -> None:
        """Give up a channel: it waits for its unilateral close."""
        if channel.state == UNILATERAL:
            return
        self.change_state(channel, UNILATERAL, cause, message)
        if not channel.private and channel.short_channel_id:
            now = int(time.time())
            self.node.graph.add([{"kind": "gone", "short_channel_id": channel.short_channel_id, "timestamp": now}])
        peer = self.node.peers.peer(channel.peer_id)
        if peer.link is not None:
            self._reestablish(peer)

    def drop_named(self, name: str | None) -> Channel:
        """Drop the channel that the fault drop-channel means.

        Raises:
            RpcError: there is none.
        """
        found = self.named(name) if name else [c for c in self.by_id.values() if c.is_live]
        if not found:
            raise RpcError(INVALID_PARAMS, "channel: there is no such channel to drop")
        self.drop(found[0], "local", "Forcibly closed by the fault drop-channel")
        return found[0]

    def add_stuck_htlc(self, blocks: int) -> Htlc:
        """Put an HTLC that never ends on the first live channel; it expires in `blocks`.

        Raises:
            RpcError: there is no live channel.
        """
        channel = next((c for c in self.by_id.values() if c.is_live), None)
        if channel is None:
            raise RpcError(INVALID_PARAMS, "fault: htlc-expiring needs a channel")
        payment_hash = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
        htlc = Htlc(
            number=1_000_000 + len(channel.htlcs),
            direction="in",
            amount_msat=1_000_000,
            payment_hash=payment_hash,
            expiry=self.node.chain.height + blocks,
            index=self.node.htlcs.next_index(),
            stuck=True,
        )
        channel.htlcs.append(htlc)
        self.save(channel)
        return htlc

    def remove_stuck_htlcs(self) -> None:
        """Take away what `add_stuck_htlc` made."""
        for channel in self.by_id.values():
            if any(htlc.stuck for htlc in channel.htlcs):
                channel.htlcs = [htlc for htlc in channel.htlcs if not htlc.stuck]
                self.save(channel)
