"""What each node on a route is told. The fake's onion is a list that every node takes the first entry of."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .routes import Hop

# Failure codes of BOLT 4 with their names.
TEMPORARY_CHANNEL_FAILURE = (4103, "WIRE_TEMPORARY_CHANNEL_FAILURE")
UNKNOWN_NEXT_PEER = (16394, "WIRE_UNKNOWN_NEXT_PEER")
FEE_INSUFFICIENT = (4108, "WIRE_FEE_INSUFFICIENT")
INCORRECT_CLTV = (4109, "WIRE_INCORRECT_CLTV_EXPIRY")
EXPIRY_TOO_SOON = (4110, "WIRE_EXPIRY_TOO_SOON")
UNKNOWN_PAYMENT = (16399, "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS")
FINAL_AMOUNT = (19, "WIRE_FINAL_INCORRECT_HTLC_AMOUNT")


def build(hops: list[Hop], height: int, payment_secret: str, total_msat: int) -> list[dict[str, Any]]:
    """Return the onion for the nodes behind the first channel of a route."""
    layers: list[dict[str, Any]] = [
        {"short_channel_id": hop.short_channel_id, "forward_msat": hop.amount_msat, "cltv": height + hop.delay}
        for hop in hops[1:]
    ]
    last = hops[-1]
    final = {
        "forward_msat": last.amount_msat,
        "cltv": height + last.delay,
        "payment_secret": payment_secret,
        "total_msat": total_msat,
    }
    return [*layers, final]


def described(onion: list[dict[str, Any]], payment_hash: str) -> dict[str, Any]:
    """Return the `onion` member of the htlc_accepted hook."""
    layer, rest = onion[0], onion[1:]
    result: dict[str, Any] = {"payload": payload(layer), "type": "tlv"}
    if "short_channel_id" in layer:
        result["short_channel_id"] = layer["short_channel_id"]
    result |= {"forward_msat": layer["forward_msat"], "outgoing_cltv_value": layer["cltv"]}
    if "payment_secret" in layer:
        result |= {"total_msat": layer["total_msat"], "payment_secret": layer["payment_secret"]}
    result["next_onion"] = json.dumps(rest).encode().hex()
    result["shared_secret"] = hashlib.sha256(f"{payment_hash} {layer}".encode()).hexdigest()
    return result


def payload(layer: dict[str, Any]) -> str:
    """Return a layer as the TLV stream of BOLT 4, with its length in front, in hex."""
    stream = _tlv(2, _truncated(layer["forward_msat"])) + _tlv(4, _truncated(layer["cltv"]))
    if "short_channel_id" in layer:
        block, transaction, output = (int(part) for part in layer["short_channel_id"].split("x"))
        scid = block.to_bytes(3, "big") + transaction.to_bytes(3, "big") + output.to_bytes(2, "big")
        stream += _tlv(6, scid)
    if "payment_secret" in layer:
        stream += _tlv(8, bytes.fromhex(layer["payment_secret"]) + _truncated(layer["total_msat"]))
    return (bytes([len(stream)]) + stream).hex()


def _tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind, len(value)]) + value


def _truncated(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def failure(kind: tuple[int, str], node_id: str, channel: str = "") -> dict[str, Any]:
    """Return an outcome that says why an HTLC failed, and where."""
    return {"failure": {"code": kind[0], "name": kind[1], "node": node_id, "channel": channel}}
