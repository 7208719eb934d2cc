"""Outgoing messages: encoded, sent to connected peers, and sent again when the type is reliable."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hive_kit.errors import UnavailableError

from cl_hive.protocol import frames, messages
from cl_hive.protocol.registry import MessageSpec
from cl_hive.services.lightning import Lightning
from cl_hive.services.limits import Counters
from cl_hive.services.signing import Signer
from cl_hive.storage.outbox import Outbox


class Post:
    """Sends. Never raises for a peer that cannot be reached: messages get lost anyway, and the protocol heals that."""

    def __init__(
        self,
        me: str,
        lightning: Lightning,
        signer: Signer,
        outbox: Outbox,
        counters: Counters,
        now: Callable[[], int],
    ) -> None:
        self.me = me
        self._lightning = lightning
        self._signer = signer
        self._outbox = outbox
        self._counters = counters
        self._now = now

    def sign(self, spec: MessageSpec, payload: dict[str, Any]) -> dict[str, Any]:
        """The payload with its signature.

        Raises:
            UnavailableError: nobody signs.
        """
        assert spec.signed is not None
        return {**payload, spec.signed.field: self._signer.sign(spec.signed.text(payload))}

    def send(self, peer_id: str, spec: MessageSpec, payload: dict[str, Any]) -> bool:
        """Send once. Returns whether lightningd took it."""
        return self.send_bytes(peer_id, spec, frames.encode(spec.number, payload))

    def send_bytes(self, peer_id: str, spec: MessageSpec, data: bytes) -> bool:
        """Send an encoded frame once. Returns whether lightningd took it."""
        taken = self._lightning.send(peer_id, data)
        self._counters.add(f"sent_{spec.name}" if taken else "send_failed")
        return taken

    def broadcast(self, peers: Iterable[str], spec: MessageSpec, payload: dict[str, Any]) -> int:
        """Send once to each. Returns how many were taken."""
        data = frames.encode(spec.number, payload)
        return sum(self.send_bytes(peer, spec, data) for peer in sorted(peers))

    def acknowledge(self, peer_id: str, message_id: str, status: str = "ok", reason: str = "") -> None:
        """Answer MSG_ACK: `ok`, `invalid` (do not send again) or `retry_later`."""
        payload: dict[str, Any] = {
            "ack_msg_id": message_id,
            "status": status,
            "sender_id": self.me,
            "timestamp": self._now(),
        }
        if reason:
            payload["reason"] = reason
        try:
            self.send(peer_id, messages.MSG_ACK, self.sign(messages.MSG_ACK, payload))
        except UnavailableError:
            self._counters.add("send_failed")  # the sender tries again, and then it is acknowledged

    def reliable(self, peers: Iterable[str], spec: MessageSpec, payload: dict[str, Any]) -> None:
        """Queue a message for each peer; `deliver` sends it until it is acknowledged."""
        message_id = spec.event_id(payload)
        for peer in peers:
            self._outbox.add(message_id, peer, spec.number, payload, self._now())

    def deliver(self, connected: set[str]) -> None:
        """Send what is due. A peer that is not connected costs no try."""
        now = self._now()
        for parcel in self._outbox.due(now):
            spec = messages.TABLE.number(parcel.msg_type)
            if parcel.peer_id not in connected or spec is None:
                continue
            taken = self.send(parcel.peer_id, spec, parcel.payload)
            self._outbox.sent(parcel, now, "" if taken else "the peer is not connected")
