"""The inviting side of the handshake: issues tickets, and admits who redeems one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cl_hive.options import Settings
from cl_hive.protocol import features, messages, records
from cl_hive.protocol import ticket as tickets
from cl_hive.protocol.canonical import sha256_hex
from cl_hive.protocol.frames import FrameError
from cl_hive.protocol.records import MembershipRecord
from cl_hive.protocol.registry import Rate
from cl_hive.protocol.ticket import Ticket, TicketError
from cl_hive.services.lightning import Lightning
from cl_hive.services.limits import Counters, RateLimiter
from cl_hive.services.membership import MEMBER, Membership
from cl_hive.services.post import Post
from cl_hive.services.signing import Signer
from cl_hive.storage.members import Member

CHALLENGE_SECONDS: Final = 300
MAX_PENDING: Final = 1000
FRESH_SECONDS: Final = 300
# Refusals of strangers cost us a signature each, so all of them together are limited.
REFUSALS: Final = Rate(60, 60)


class _RefusalError(Exception):
    """The joiner is not admitted: a word, a sentence for its operator, and whether asking again may help."""

    def __init__(self, code: str, sentence: str, later: bool = False) -> None:
        super().__init__(sentence)
        self.code = code
        self.later = later


@dataclass(frozen=True)
class _Challenge:
    nonce: str
    ticket: Ticket
    issued_at: int


class Gatekeeper:
    """Admits nodes to the hive this node belongs to."""

    def __init__(
        self,
        membership: Membership,
        lightning: Lightning,
        signer: Signer,
        post: Post,
        settings: Settings,
        counters: Counters,
        limiter: RateLimiter,
        now: Callable[[], int],
        fleet_hash: Callable[[], str],
        on_admitted: Callable[[Member], None],
    ) -> None:
        """Args: on_admitted: called after a new member is stored and welcomed."""
        self._membership = membership
        self._lightning = lightning
        self._signer = signer
        self._post = post
        self._settings = settings
        self._counters = counters
        self._limiter = limiter
        self._now = now
        self._fleet_hash = fleet_hash
        self._on_admitted = on_admitted
        self._pending: dict[str, _Challenge] = {}

    def issue(
        self,
        hive_id: str,
        hours: int,
        requirements: int = 0,
        uses: int = 1,
        peer_id: str = "",
        addresses: tuple[str, ...] = (),
    ) -> Ticket:
        """A signed ticket of this node.

        Raises:
            UnavailableError: lightningd does not sign.
        """
        now = self._now()
        secret = secrets.token_hex(16)
        unsigned = Ticket(
            admin_pubkey=self._membership.me,
            hive_id=hive_id,
            requirements=requirements,
            issued_at=now,
            expires_at=now + hours * 3600,
            max_uses=uses,
            peer_id=peer_id,
            serial=sha256_hex(secret),
            addresses=addresses,
            secret=secret,
        )
        return Ticket(**{**vars(unsigned), "signature": self._signer.sign(unsigned.signed_text())})

    def on_hello(self, peer_id: str, payload: dict[str, Any]) -> None:
        """Somebody asks for admission: challenge it, or say why not."""
        try:
            ticket = self._examine(peer_id, payload)
            self._challenge(peer_id, ticket)
        except _RefusalError as no:
            self._refuse(peer_id, messages.HELLO.event_id(payload), no)

    def on_attest(self, peer_id: str, payload: dict[str, Any]) -> None:
        """The answer to a challenge: admit, or say why not. A challenge is good for one answer."""
        challenge = self._pending.get(peer_id)
        if challenge is None or challenge.nonce != payload["manifest"]["nonce"]:
            # A repeated or late one; the answer to the challenge that counts may still be under way.
            self._counters.add("attest_unsolicited")
            return
        del self._pending[peer_id]
        if self._now() - challenge.issued_at > CHALLENGE_SECONDS:
            self._counters.add("attest_late")
            return
        try:
            self._check_attest(peer_id, payload, challenge)
            # Again, as somebody else may have used the ticket or the last place meanwhile.
            self._check_ticket(peer_id, challenge.ticket)
            self._admit(peer_id, payload, challenge.ticket)
        except _RefusalError as no:
            self._refuse(peer_id, messages.ATTEST.event_id(payload), no)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _examine(self, peer_id: str, payload: dict[str, Any]) -> Ticket:
        if payload["pubkey"] != peer_id:
            raise _RefusalError("not_you", "the HELLO names another node than the one that sent it")
        if "ticket" not in payload:
            raise _RefusalError("no_ticket", "admission needs a ticket; ask a member for one (hive-invite)")
        try:
            ticket = tickets.decode(payload["ticket"])
        except TicketError as error:
            raise _RefusalError("unreadable", str(error)) from error
        self._check_ticket(peer_id, ticket)
        if not self._signer.check(ticket.signed_text(), ticket.signature, self._membership.me):
            raise _RefusalError("forged", "this node did not sign the ticket")
        return ticket

    def _check_ticket(self, peer_id: str, ticket: Ticket) -> None:
        membership, now = self._membership, self._now()
        own = membership.own()
        if own is None or own.tier != MEMBER:
            raise _RefusalError("not_admitting", "this node may not admit anybody")
        if ticket.admin_pubkey != membership.me:
            raise _RefusalError("not_issuer", "this node did not issue the ticket; its issuer redeems it")
        if ticket.hive_id != membership.hive_id():
            raise _RefusalError("other_hive", "the ticket is for another hive")
        if ticket.expired(now):
            raise _RefusalError("expired", "the ticket has expired; ask for a new one")
        if ticket.issued_at > now + FRESH_SECONDS:
            raise _RefusalError("not_yet", "the ticket is not valid yet; check the clocks", later=True)
        if ticket.initial_tier != tickets.JOINER_TIER:
            raise _RefusalError("tier", f"everybody joins as {tickets.JOINER_TIER}")
        if not ticket.redeemable():
            raise _RefusalError("no_secret", "the ticket is incomplete; paste the whole text that hive-invite printed")
        if ticket.peer_id not in ("", peer_id):
            raise _RefusalError("made_out_to_another", "the ticket was made out to another node")
        if membership.members.banned(peer_id, now):
            raise _RefusalError("banned", "this node is banned")
        if membership.members.get(peer_id) is not None:
            return  # it lost our WELCOME, or its database: it gets the same answer again
        if len(membership.members.ticket_users(ticket.digest()) - {peer_id}) >= ticket.max_uses:
            raise _RefusalError("used", "the ticket was used already; ask for a new one")
        if membership.members.count() >= min(self._settings.max_members, messages.MAX_MEMBERS):
            raise _RefusalError(
                "full", f"the hive has {membership.members.count()} members and takes no more", later=True
            )
        if absent := features.missing(ticket.requirements, self._lightning.features(peer_id)):
            raise _RefusalError("missing_features", f"the ticket asks for {', '.join(absent)}")
        if self._settings.requires_channel and not self._lightning.has_channel(peer_id):
            raise _RefusalError("no_channel", "open a channel with this node first", later=True)

    def _challenge(self, peer_id: str, ticket: Ticket) -> None:
        if not self._limiter.allow(("challenge", peer_id), messages.CHALLENGE_RATE):
            raise _RefusalError("busy", "one challenge in ten seconds; wait", later=True)
        now = self._now()
        if len(self._pending) >= MAX_PENDING:
            self._pending = {p: c for p, c in self._pending.items() if now - c.issued_at <= CHALLENGE_SECONDS}
        if len(self._pending) >= MAX_PENDING and peer_id not in self._pending:
            # Nobody's challenge is thrown away for a newcomer: a flood would empty the table.
            raise _RefusalError("busy", "too many nodes ask for admission; wait", later=True)
        nonce = secrets.token_hex(32)
        self._pending[peer_id] = _Challenge(nonce, ticket, now)
        self._post.send(peer_id, messages.CHALLENGE, {"nonce": nonce, "hive_id": ticket.hive_id})

    def _check_attest(self, peer_id: str, payload: dict[str, Any], challenge: _Challenge) -> None:
        manifest, now = payload["manifest"], self._now()
        same = all(manifest[key] == payload[key] for key in ("pubkey", "version", "features"))
        if payload["pubkey"] != peer_id or not same:
            raise _RefusalError("not_you", "the ATTEST names another node than the one that sent it")
        if "consent" not in payload:
            raise _RefusalError("no_consent", "the joiner's release does not sign its consent; upgrade it")
        consent = payload["consent"]
        if any(abs(now - moment) > FRESH_SECONDS for moment in (manifest["timestamp"], consent["timestamp"])):
            raise _RefusalError("stale", "the ATTEST is of another time; check the clocks", later=True)
        text = records.consent_text(challenge.ticket.hive_id, peer_id, challenge.ticket.digest(), consent["timestamp"])
        signed = (
            (challenge.nonce, payload["nonce_signature"]),
            (messages.manifest_text(manifest), payload["manifest_signature"]),
            (text, consent["signature"]),
        )
        if not all(self._signer.check(what, signature, peer_id) for what, signature in signed):
            raise _RefusalError("bad_signature", "a signature of the ATTEST is not the joiner's")

    def _admit(self, peer_id: str, payload: dict[str, Any], ticket: Ticket) -> None:
        members, now = self._membership.members, self._now()
        known = members.get(peer_id)
        record = members.record(peer_id, known.joined_at) if known else None
        if record is None:
            consent = payload["consent"]
            left = members.departure(peer_id)
            if left is not None and left.left_at >= consent["timestamp"]:
                raise _RefusalError("just_left", "it left the hive this very second; try again", later=True)
            own = self._membership.own()
            assert own is not None
            joined_at = max(now, own.joined_at, known.joined_at + 1 if known else 0, left.left_at + 1 if left else 0)
            record = self._signed_record(peer_id, joined_at, ticket, consent)
            self._membership.admit(record)
            members.put_capabilities(peer_id, payload["features"], payload["version"], now)
            self._counters.add("admitted")
            self._welcome(peer_id, record)
            member = members.get(peer_id)
            assert member is not None
            self._on_admitted(member)
        else:
            self._counters.add("welcomed_again")
            self._welcome(peer_id, record)

    def _signed_record(self, peer_id: str, joined_at: int, ticket: Ticket, consent: dict[str, Any]) -> MembershipRecord:
        me, tier = self._membership.me, tickets.JOINER_TIER
        text = records.admission_text(ticket.hive_id, peer_id, tier, joined_at, me, ticket.digest())
        return MembershipRecord(
            kind=records.ADMISSION,
            hive_id=ticket.hive_id,
            peer_id=peer_id,
            tier=tier,
            joined_at=joined_at,
            admitted_by=me,
            signature=self._signer.sign(text),
            ticket=Ticket(**{**vars(ticket), "secret": ""}),
            consent_at=consent["timestamp"],
            consent_signature=consent["signature"],
        )

    def _welcome(self, peer_id: str, record: MembershipRecord) -> None:
        membership = self._membership
        own = membership.own()
        member = membership.members.get(peer_id)
        assert own is not None
        assert member is not None
        lineage = membership.lineage(own)
        line = {item["peer_id"] for item in lineage}
        payload = {
            "hive_id": record.hive_id,
            "tier": member.tier,
            "member_count": membership.members.count(),
            "state_hash": self._fleet_hash(),
            "admission": record.document(),
            "lineage": lineage,
            "departed": [left for left in membership.departed() if left["peer_id"] in line],
        }
        try:
            self._post.send(peer_id, messages.WELCOME, payload)
        except FrameError:
            self._counters.add("welcome_oversize")

    def _refuse(self, peer_id: str, message_id: str, no: _RefusalError) -> None:
        self._counters.add(f"join_refused_{no.code}")
        if no.code != "not_you" and self._limiter.allow("refusals", REFUSALS):
            self._post.acknowledge(peer_id, message_id, "retry_later" if no.later else "invalid", f"{no.code}: {no}")
