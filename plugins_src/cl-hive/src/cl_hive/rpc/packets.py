"""hive-inject-packet: messages that cl-hive-comms received over another transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hive_kit.app import Method
from hive_kit.errors import BusyError
from hive_kit.params import json_object, text

from cl_hive.app import HiveApplication
from cl_hive.errors import NotCoordinatedError, PacketError, UnmappedSenderError
from cl_hive.protocol import packets
from cl_hive.protocol.frames import FrameError
from cl_hive.protocol.messages import TABLE


@dataclass(frozen=True, kw_only=True)
class InjectParams:
    """The packet, and the Nostr key that comms has verified."""

    payload: dict[str, Any] = json_object()
    source: str = text(default="nostr", pattern=r"[a-z0-9-]{1,32}", shape="1 to 32 lowercase letters")
    pubkey: str = text(default="", pattern=r"[0-9a-f]{64}", shape="64 lowercase hex characters")


def inject(app: HiveApplication, params: InjectParams) -> dict[str, Any]:
    """Queue a message whose sender comms has verified, as a message of the member that the key is bound to."""
    hive = app.hive
    if app.siblings.comms is None or not app.siblings.comms.present:
        hive.counters.add("packet_refused_mode")
        raise NotCoordinatedError(
            f"inject-packet only available in coordinated mode: cl-hive-comms does not run here (mode {app.mode})"
        )
    if not params.pubkey:
        hive.counters.add("packet_refused_unmapped")
        raise UnmappedSenderError("pubkey is missing: a packet without a verified key has no sender")
    try:
        frame = packets.parse(params.payload, TABLE)
    except FrameError as error:
        hive.counters.add("packet_refused_malformed")
        raise PacketError(f"the packet holds no hive message: {error}", reason=error.reason) from error
    sender = hive.bindings.node_of(params.pubkey)
    try:
        app.enqueue(lambda hive: hive.inject(sender, frame))
    except BusyError as error:
        hive.counters.add("packet_refused_busy")
        raise BusyError("queue full, packet dropped; try again") from error
    hive.counters.add("packet_queued")
    return {"result": "queued", "source": params.source, "sender": sender}


METHODS = (
    Method("hive-inject-packet", inject, InjectParams, "Take a message that cl-hive-comms received and verified"),
)
