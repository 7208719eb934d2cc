"""The link between two fakes: lines of JSON over a loopback connection, after both have proved who they are.

It takes the place of BOLT 8 and is no encryption: it never leaves the machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coincurve import PublicKey

if TYPE_CHECKING:
    from .keys import NodeKeys

LINE_BYTES = 4 * 1024 * 1024
_HANDSHAKE_SECONDS = 10

# Types of peer messages that lightningd keeps to itself: a plugin cannot send them.
INTERNAL_TYPES = {
    1: "WIRE_WARNING",
    2: "WIRE_STFU",
    7: "WIRE_PEER_STORAGE",
    9: "WIRE_PEER_STORAGE_RETRIEVAL",
    16: "WIRE_INIT",
    17: "WIRE_ERROR",
    18: "WIRE_PING",
    19: "WIRE_PONG",
    32: "WIRE_OPEN_CHANNEL",
    33: "WIRE_ACCEPT_CHANNEL",
    34: "WIRE_FUNDING_CREATED",
    35: "WIRE_FUNDING_SIGNED",
    36: "WIRE_CHANNEL_READY",
    38: "WIRE_SHUTDOWN",
    39: "WIRE_CLOSING_SIGNED",
    64: "WIRE_OPEN_CHANNEL2",
    65: "WIRE_ACCEPT_CHANNEL2",
    66: "WIRE_TX_ADD_INPUT",
    67: "WIRE_TX_ADD_OUTPUT",
    68: "WIRE_TX_REMOVE_INPUT",
    69: "WIRE_TX_REMOVE_OUTPUT",
    70: "WIRE_TX_COMPLETE",
    71: "WIRE_TX_SIGNATURES",
    72: "WIRE_TX_INIT_RBF",
    73: "WIRE_TX_ACK_RBF",
    74: "WIRE_TX_ABORT",
    128: "WIRE_UPDATE_ADD_HTLC",
    130: "WIRE_UPDATE_FULFILL_HTLC",
    131: "WIRE_UPDATE_FAIL_HTLC",
    132: "WIRE_COMMITMENT_SIGNED",
    133: "WIRE_REVOKE_AND_ACK",
    134: "WIRE_UPDATE_FEE",
    135: "WIRE_UPDATE_FAIL_MALFORMED_HTLC",
    136: "WIRE_CHANNEL_REESTABLISH",
    256: "WIRE_CHANNEL_ANNOUNCEMENT",
    257: "WIRE_NODE_ANNOUNCEMENT",
    258: "WIRE_CHANNEL_UPDATE",
    259: "WIRE_ANNOUNCEMENT_SIGNATURES",
    261: "WIRE_QUERY_SHORT_CHANNEL_IDS",
    262: "WIRE_REPLY_SHORT_CHANNEL_IDS_END",
    263: "WIRE_QUERY_CHANNEL_RANGE",
    264: "WIRE_REPLY_CHANNEL_RANGE",
    265: "WIRE_GOSSIP_TIMESTAMP_FILTER",
    513: "WIRE_ONION_MESSAGE",
}


class HandshakeError(Exception):
    """The other side is not who it should be, or does not speak this language."""


@dataclass(eq=False)
class Link:
    """A connection to a node that has proved its id. `direction` is "out" when this side opened it."""

    peer_id: str
    direction: str
    host: str
    port: int
    features: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, message: dict[str, Any]) -> None:
        """Send one message; on a closing link it is lost."""
        if not self.writer.is_closing():
            self.writer.write(_line(message))

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message, None when the link is down."""
        try:
            return await _read(self.reader)
        except (OSError, HandshakeError):
            return None

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


async def handshake(
    keys: NodeKeys,
    features: str,
    expected: str | None,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Link:
    """Exchange ids and proofs.

    Args:
        keys: of this node.
        features: this node's, in hex.
        expected: id that the other side must have; None on the side that was called.

    Raises:
        HandshakeError: it has another id, or no proof of it.
        OSError: the connection broke.
        TimeoutError: it does not answer.
    """
    async with asyncio.timeout(_HANDSHAKE_SECONDS):
        nonce = secrets.token_hex(32)
        writer.write(_line({"type": "hello", "id": keys.node_id, "to": expected, "features": features, "nonce": nonce}))
        hello = await _read(reader)
        peer_id = str(hello.get("id"))
        if expected not in (None, peer_id) or hello.get("to") not in (None, keys.node_id):
            raise HandshakeError("Cryptographic handshake: peer closed connection (wrong key?)")
        digest = _proof_digest(str(hello.get("nonce")), keys.node_id)
        writer.write(_line({"type": "proof", "signature": keys.sign_digest(digest).hex()}))
        proof = await _read(reader)
        _check_proof(peer_id, _proof_digest(nonce, peer_id), str(proof.get("signature")))
    host, port = writer.get_extra_info("peername")[:2]
    direction = "in" if expected is None else "out"
    return Link(peer_id, direction, host, port, str(hello.get("features", "")), reader, writer)


def _proof_digest(nonce: str, node_id: str) -> bytes:
    return hashlib.sha256(f"sandbox link {nonce} {node_id}".encode()).digest()


def _check_proof(peer_id: str, digest: bytes, signature: str) -> None:
    try:
        signer = PublicKey.from_signature_and_message(bytes.fromhex(signature), digest, hasher=None)
    except ValueError as error:
        raise HandshakeError(f"no proof of the node id: {error}") from None
    if signer.format().hex() != peer_id:
        raise HandshakeError("the proof is of another node id")


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("peer closed connection") from None
    except asyncio.LimitOverrunError:
        raise HandshakeError("a line too long") from None
    try:
        message = json.loads(line)
    except ValueError:
        raise HandshakeError("no JSON") from None
    if not isinstance(message, dict):
        raise HandshakeError("no JSON object")
    return message
