"""Decentralised identifiers that a node makes alone: the same node always gets the same one.

A DID names the hash of a document. This one holds nothing but what the node is, so that provisioning again, after a
lost database or on a second machine with the same node, gives the DID that others already know.
"""

from __future__ import annotations

import base64
import hashlib
import re

from hive_kit.canonical import canonical_json

PREFIX = "did:cid:"
# Base32 in lower case, and a total length from 60 to 128 characters.
PATTERN = r"did:cid:b[a-z2-7]{51,119}"
NODE_ID = r"0[23][0-9a-f]{64}"

_CID_VERSION = b"\x01"
_JSON_CODEC = b"\x80\x04"  # 0x0200 as a varint
_SHA2_256 = b"\x12\x20"  # and the length of its digest


def document(node_id: str, network: str) -> dict[str, object]:
    """What the local DID of a node is the hash of."""
    return {
        "type": "agent",
        "registration": {"version": 1, "type": "agent", "registry": "local"},
        "data": {"node_pubkey": node_id, "network": network},
    }


def local_did(node_id: str, network: str) -> str:
    """The DID of the node: `did:cid:` and the CIDv1 (json, sha2-256, base32) of its document.

    Args:
        node_id: 66 lower-case hex digits.
        network: lightningd's name of it.
    """
    digest = hashlib.sha256(canonical_json(document(node_id, network)).encode()).digest()
    cid = _CID_VERSION + _JSON_CODEC + _SHA2_256 + digest
    return f"{PREFIX}b{base64.b32encode(cid).decode().rstrip('=').lower()}"


def is_did(text: str) -> bool:
    """Whether the text has the form of a DID of this kind."""
    return re.fullmatch(PATTERN, text) is not None
