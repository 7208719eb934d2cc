"""The invitation: base64 of a JSON object that a member signed. Whoever holds it may ask that member for admission.

The signed part travels on with every admission, so that all members can verify it. The secret does not: it is shown to
the issuer alone, so that a ticket for several nodes is no use to those who only see its signed part.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Final

from cl_hive.protocol import fields, frames
from cl_hive.protocol.canonical import canonical_json, digest, sha256_hex

MAX_ENCODED: Final = 10_240
MAX_HOURS: Final = 24 * 365
MAX_USES: Final = 100
CLOCK_SKEW_SECONDS: Final = 300
JOINER_TIER: Final = "neophyte"
HIVE_ID: Final[fields.Validator] = fields.text(64)

_REQUIRED: Final[dict[str, fields.Validator]] = {
    "admin_pubkey": fields.pubkey,
    "hive_id": HIVE_ID,
    "requirements": fields.integer(0, 255),
    "issued_at": fields.timestamp,
    "expires_at": fields.timestamp,
    "initial_tier": fields.choice(("neophyte", "member")),
    "signature": fields.signature,
}
_OPTIONAL: Final[dict[str, fields.Validator]] = {
    "max_uses": fields.integer(1, MAX_USES),
    "peer_id": fields.pubkey,
    "serial": fields.hex_text(64),
    "secret": fields.hex_text(32),
    "addresses": fields.list_of(fields.text(128), 8),
}


class TicketError(ValueError):
    """The ticket cannot be used; the text is the sentence for the operator."""


@dataclass(frozen=True)
class Ticket:
    """An invitation.

    Args:
        admin_pubkey: node id of the member who issued it, and who alone redeems it.
        hive_id: the hive it invites to.
        requirements: bits of `features.REQUIREMENTS` the joiner's node must offer.
        issued_at: unix seconds.
        expires_at: unix seconds; from this second on it is void.
        initial_tier: tier of the joiner.
        max_uses: how many different nodes may join with it.
        peer_id: the only node that may use it, or "" for whoever holds it.
        serial: sha256 of the secret; "" on tickets of the field, which nobody here redeems.
        addresses: host:port where the issuer listens, so that the joiner can connect.
        signature: zbase32 over `signed_text()`.
        secret: 32 hex characters; "" in the part that travels with an admission.
    """

    admin_pubkey: str
    hive_id: str
    requirements: int
    issued_at: int
    expires_at: int
    initial_tier: str = JOINER_TIER
    max_uses: int = 1
    peer_id: str = ""
    serial: str = ""
    addresses: tuple[str, ...] = ()
    signature: str = field(default="", compare=False)
    secret: str = field(default="", compare=False, repr=False)
    # A newer release may add fields: they are signed with the rest, so they are kept.
    extra: dict[str, Any] = field(default_factory=dict, compare=False)

    def document(self) -> dict[str, Any]:
        """The signed fields as JSON."""
        body: dict[str, Any] = {
            **self.extra,
            "admin_pubkey": self.admin_pubkey,
            "hive_id": self.hive_id,
            "requirements": self.requirements,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
            "initial_tier": self.initial_tier,
        }
        # Absent, not empty, so that a ticket of the field keeps the text it was signed with.
        if self.serial:
            body |= {"serial": self.serial, "max_uses": self.max_uses}
        if self.peer_id:
            body["peer_id"] = self.peer_id
        if self.addresses:
            body["addresses"] = list(self.addresses)
        return body

    def signed_text(self) -> str:
        """What the issuer signs: canonical JSON of every field but the signature and the secret."""
        return canonical_json(self.document())

    def digest(self) -> str:
        """Names the ticket in records, without giving it away."""
        return digest(self.document())

    def encode(self) -> str:
        """The text that is handed to the joiner."""
        whole = self.to_record() | ({"secret": self.secret} if self.secret else {})
        return base64.b64encode(canonical_json(whole).encode()).decode()

    def expired(self, now: int) -> bool:
        """Whether its time is over."""
        return now >= self.expires_at

    def redeemable(self) -> bool:
        """Whether the holder has the secret, not only the signed part."""
        return bool(self.secret) and sha256_hex(self.secret) == self.serial

    def to_record(self) -> dict[str, Any]:
        """The ticket as it travels inside an admission record."""
        return {**self.document(), "signature": self.signature}


def decode(encoded: str) -> Ticket:
    """Read a ticket; its signature is not checked here.

    Raises:
        TicketError: it is not a ticket.
    """
    if len(encoded) > MAX_ENCODED:
        raise TicketError(f"the ticket is longer than {MAX_ENCODED} characters; paste what hive-invite printed")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
        document = frames.loads(text)
        frames.check_plain(document)
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise TicketError("the ticket cannot be read; paste the whole text that hive-invite printed") from error
    return from_document(document)


def from_document(document: object) -> Ticket:
    """A ticket from its JSON.

    Raises:
        TicketError: a field is missing or wrong.
    """
    if problem := fields.problem_of(document, _REQUIRED, _OPTIONAL):
        raise TicketError(f"the ticket {problem}; ask the member for a new one")
    assert isinstance(document, dict)
    known = {*_REQUIRED, *_OPTIONAL}
    if len(json.dumps(document)) > MAX_ENCODED:
        raise TicketError(f"the ticket is longer than {MAX_ENCODED} characters; ask the member for a new one")
    ticket = Ticket(
        admin_pubkey=document["admin_pubkey"],
        hive_id=document["hive_id"],
        requirements=document["requirements"],
        issued_at=document["issued_at"],
        expires_at=document["expires_at"],
        initial_tier=document["initial_tier"],
        max_uses=document.get("max_uses") or 1,
        peer_id=document.get("peer_id") or "",
        serial=document.get("serial") or "",
        addresses=tuple(document.get("addresses") or ()),
        signature=document["signature"],
        secret=document.get("secret") or "",
        extra={key: value for key, value in document.items() if key not in known},
    )
    if ticket.expires_at <= ticket.issued_at:
        raise TicketError("the ticket ends before it begins; ask the member for a new one")
    whole = ticket.to_record() | ({"secret": ticket.secret} if ticket.secret else {})
    if whole != document or (ticket.secret and not ticket.redeemable()):
        raise TicketError("the ticket has fields that contradict each other; ask the member for a new one")
    return ticket
