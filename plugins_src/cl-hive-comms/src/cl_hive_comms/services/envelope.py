"""The management envelope: what an advisor sends, what of it is signed, and how. Pure functions.

{schema_type: "hive:<name>/v1", schema_payload: {…}, nonce, timestamp, signature, credential?, payment_proof?}.
Signed are the first four, as canonical JSON. The last two are carried by the field and mean nothing yet.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hive_kit.canonical import canonical_json
from hive_kit.errors import InvalidParamsError
from hive_kit.keys import verify

MAX_BYTES = 65_535
SKEW_SECONDS = 300
_MAX_INTEGER = 2**63 - 1  # what the database can hold
_HMAC = re.compile(r"(?:hmac-sha256:)?([0-9a-fA-F]{64})")
_BIP340 = re.compile(r"(?:bip340:)?([0-9a-fA-F]{128})")
Kind = Literal["hmac", "bip340"]


@dataclass(frozen=True)
class Envelope:
    """One envelope of the right form; nothing about it is proved yet."""

    schema_type: str
    payload: dict[str, Any]
    nonce: int
    timestamp: int
    kind: Kind
    signature: str

    @property
    def signed_text(self) -> str:
        """Canonical JSON of what the signature covers."""
        return canonical_json(
            {
                "schema_type": self.schema_type,
                "schema_payload": self.payload,
                "nonce": self.nonce,
                "timestamp": self.timestamp,
            }
        )

    def signed_with_token(self, token: str) -> bool:
        """Whether the signature is the HMAC with this token; takes the same time for every wrong one."""
        return self.kind == "hmac" and hmac.compare_digest(hmac_hex(token, self.signed_text), self.signature)

    def signed_with_key(self, public_hex: str, recipient_hex: str) -> bool:
        """Whether the signature is this key's, made for this recipient."""
        return self.kind == "bip340" and verify(
            public_hex, bip340_digest(recipient_hex, self.signed_text), self.signature
        )


def parse(raw: Mapping[str, Any]) -> Envelope:
    """Read an envelope.

    Raises:
        InvalidParamsError: a member is missing or of the wrong form, or it is too long; the sentence names it.
    """
    try:
        size = len(canonical_json(dict(raw)))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidParamsError("the envelope is not JSON: no NaN, no infinity, and less nesting") from error
    if size > MAX_BYTES:
        raise InvalidParamsError(f"message exceeds maximum size ({MAX_BYTES} bytes); send less", size=size)
    schema_type, payload = raw.get("schema_type"), raw.get("schema_payload")
    if not isinstance(schema_type, str) or not schema_type:
        raise InvalidParamsError("missing schema_type: a text such as hive:monitor/v1")
    if not isinstance(payload, dict):
        raise InvalidParamsError("missing schema_payload object")
    kind, signature = _signature(raw.get("signature"))
    return Envelope(schema_type, payload, _integer(raw, "nonce"), _integer(raw, "timestamp"), kind, signature)


def hmac_hex(token: str, signed_text: str) -> str:
    """HMAC-SHA256 as the field makes it: the key is the token's hex text itself."""
    return hmac.new(token.encode(), signed_text.encode(), hashlib.sha256).hexdigest()


def bip340_digest(recipient_hex: str, signed_text: str) -> bytes:
    """What an advisor's key signs. It names the recipient: one key may manage many nodes, and what was said to one of
    them must mean nothing to another."""
    return hashlib.sha256(f"hive-envelope|{recipient_hex}|{signed_text}".encode()).digest()


def _signature(raw: Any) -> tuple[Kind, str]:
    if not isinstance(raw, str) or not raw:
        raise InvalidParamsError("missing signature")
    if match := _HMAC.fullmatch(raw):
        return "hmac", match.group(1).lower()
    if match := _BIP340.fullmatch(raw):
        return "bip340", match.group(1).lower()
    raise InvalidParamsError("invalid signature: give bip340: and 128 hex digits, or hmac-sha256: and 64")


def _integer(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INTEGER:
        raise InvalidParamsError(f"invalid {name}: give a whole number from 0 to {_MAX_INTEGER}")
    return value
