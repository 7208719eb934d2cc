"""Signed records of membership: they prove to anybody who joined, who let them in and who left, whoever brings them.

A membership travels as the record that created it. `genesis` is signed by the founder, `admission` by the member who
issued the ticket, and holds the ticket and the joiner's signed consent. A departure is the MEMBER_LEFT of the leaver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cl_hive.protocol import fields
from cl_hive.protocol import ticket as tickets
from cl_hive.protocol.canonical import canonical_json
from cl_hive.protocol.ticket import Ticket, TicketError

GENESIS: Final = "genesis"
ADMISSION: Final = "admission"
FOUNDER_TIER: Final = "member"
# The consent is fresh when the admission is made, so that nobody is admitted a second time with an old one.
CONSENT_SECONDS: Final = 600

# check(text, signature, signer) answers whether the signature is the signer's.
Check = Callable[[str, str, str], bool]

_CONSENT: Final = fields.record({"timestamp": fields.timestamp, "signature": fields.signature})
_COMMON: Final[dict[str, fields.Validator]] = {
    "hive_id": tickets.HIVE_ID,
    "peer_id": fields.pubkey,
    "joined_at": fields.timestamp,
    "signature": fields.signature,
}
_ADMISSION: Final[dict[str, fields.Validator]] = {
    **_COMMON,
    "tier": fields.choice((tickets.JOINER_TIER,)),
    "admitted_by": fields.pubkey,
    "ticket": fields.table(20),
    "consent": _CONSENT,
}
DEPARTURE: Final[dict[str, fields.Validator]] = {
    "peer_id": fields.pubkey,
    "timestamp": fields.timestamp,
    "reason": fields.text(fields.MAX_REASON),
    "signature": fields.signature,
}


class RecordError(ValueError):
    """The record proves nothing; the text says why."""


def genesis_text(hive_id: str, peer_id: str, joined_at: int) -> str:
    """What a founder signs."""
    return "hive:genesis:" + canonical_json({"hive_id": hive_id, "peer_id": peer_id, "joined_at": joined_at})


def consent_text(hive_id: str, peer_id: str, ticket_digest: str, timestamp: int) -> str:
    """What a joiner signs, so that nobody is made a member without wanting it."""
    return "hive:join:" + canonical_json(
        {"hive_id": hive_id, "peer_id": peer_id, "ticket": ticket_digest, "timestamp": timestamp}
    )


def admission_text(hive_id: str, peer_id: str, tier: str, joined_at: int, admitted_by: str, ticket_digest: str) -> str:
    """What the admitting member signs."""
    return "hive:admission:" + canonical_json(
        {
            "hive_id": hive_id,
            "peer_id": peer_id,
            "tier": tier,
            "joined_at": joined_at,
            "admitted_by": admitted_by,
            "ticket": ticket_digest,
        }
    )


def leave_text(payload: Mapping[str, Any]) -> str:
    """What a leaving member signs."""
    return f"hive:leave:{payload['peer_id']}:{payload['timestamp']}:{payload['reason']}"


def nostr_text(peer_id: str, nostr_pubkey: str, timestamp: int) -> str:
    """What a node signs to say which Nostr key speaks for it."""
    return f"hive:nostr:{peer_id}:{nostr_pubkey}:{timestamp}"


@dataclass(frozen=True)
class MembershipRecord:
    """A record whose form is right; `verify` tells whether its signatures are.

    Args:
        kind: `genesis` or `admission`.
        hive_id: which hive.
        peer_id: whose membership.
        tier: tier the record gives.
        joined_at: unix seconds.
        admitted_by: node id of the signer; for a genesis the founder itself.
        signature: of the signer.
        ticket: of an admission.
        consent_at: unix seconds of the joiner's consent, 0 for a genesis.
        consent_signature: of the joiner.
    """

    kind: str
    hive_id: str
    peer_id: str
    tier: str
    joined_at: int
    admitted_by: str
    signature: str
    ticket: Ticket | None = None
    consent_at: int = 0
    consent_signature: str = ""

    def document(self) -> dict[str, Any]:
        """The record as JSON."""
        body: dict[str, Any] = {
            "kind": self.kind,
            "hive_id": self.hive_id,
            "peer_id": self.peer_id,
            "joined_at": self.joined_at,
            "signature": self.signature,
        }
        if self.ticket is not None:
            body |= {
                "tier": self.tier,
                "admitted_by": self.admitted_by,
                "ticket": self.ticket.to_record(),
                "consent": {"timestamp": self.consent_at, "signature": self.consent_signature},
            }
        return body

    def verify(self, check: Check) -> None:
        """Check everything that can be checked without knowing who is a member.

        Raises:
            RecordError: a signature or a relation between the fields is wrong.
        """
        if self.ticket is None:
            if not check(genesis_text(self.hive_id, self.peer_id, self.joined_at), self.signature, self.peer_id):
                raise RecordError("the founder did not sign the genesis")
            return
        ticket = self.ticket
        if ticket.hive_id != self.hive_id:
            raise RecordError("the ticket is for another hive")
        if ticket.admin_pubkey != self.admitted_by:
            raise RecordError("the ticket was issued by another member than the one who admitted")
        if ticket.peer_id not in ("", self.peer_id):
            raise RecordError("the ticket was made out to another node")
        if self.peer_id == self.admitted_by:
            raise RecordError("nobody admits itself")
        skew = tickets.CLOCK_SKEW_SECONDS
        if not ticket.issued_at - skew <= self.joined_at < ticket.expires_at + skew:
            raise RecordError("the admission lies outside the ticket's time")
        if abs(self.joined_at - self.consent_at) > CONSENT_SECONDS:
            raise RecordError("the joiner's consent is of another time than the admission")
        ticket_digest = ticket.digest()
        admission = admission_text(
            self.hive_id, self.peer_id, self.tier, self.joined_at, self.admitted_by, ticket_digest
        )
        if not check(ticket.signed_text(), ticket.signature, self.admitted_by):
            raise RecordError("the ticket's signature is not its issuer's")
        consent = consent_text(self.hive_id, self.peer_id, ticket_digest, self.consent_at)
        if not check(consent, self.consent_signature, self.peer_id):
            raise RecordError("the joiner did not sign its consent")
        if not check(admission, self.signature, self.admitted_by):
            raise RecordError("the admission's signature is not the admitting member's")


def parse(document: object) -> MembershipRecord:
    """Read a record.

    Raises:
        RecordError: the form is wrong.
    """
    if not isinstance(document, dict):
        raise RecordError("the record is not an object")
    kind = document.get("kind")
    if kind == GENESIS:
        if problem := fields.problem_of(document, _COMMON, {}):
            raise RecordError(f"the genesis record {problem}")
        return MembershipRecord(
            kind=GENESIS,
            hive_id=document["hive_id"],
            peer_id=document["peer_id"],
            tier=FOUNDER_TIER,
            joined_at=document["joined_at"],
            admitted_by=document["peer_id"],
            signature=document["signature"],
        )
    if kind != ADMISSION:
        raise RecordError("the record is of a kind that is not known here")
    if problem := fields.problem_of(document, _ADMISSION, {}):
        raise RecordError(f"the admission record {problem}")
    try:
        ticket = tickets.from_document({k: v for k, v in document["ticket"].items() if k != "secret"})
    except TicketError as error:
        raise RecordError(str(error)) from error
    return MembershipRecord(
        kind=ADMISSION,
        hive_id=document["hive_id"],
        peer_id=document["peer_id"],
        tier=document["tier"],
        joined_at=document["joined_at"],
        admitted_by=document["admitted_by"],
        signature=document["signature"],
        ticket=ticket,
        consent_at=document["consent"]["timestamp"],
        consent_signature=document["consent"]["signature"],
    )
