"""The joining side of the handshake. It goes on by itself until the answer is yes, no, or the ticket has expired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cl_hive.errors import AlreadyInHiveError, TicketRefusedError
from cl_hive.protocol import frames, messages, records
from cl_hive.protocol import ticket as tickets
from cl_hive.protocol.records import RecordError
from cl_hive.protocol.ticket import Ticket, TicketError
from cl_hive.services.limits import Counters
from cl_hive.services.membership import MEMBER, Membership
from cl_hive.services.post import Post
from cl_hive.services.signing import Signer
from cl_hive.storage.joins import JoinRequest, JoinStore

# The inviter challenges once in ten seconds, so asking sooner is no use.
PAUSES: Final = (11, 11, 20, 30, 60, 120, 300)


class Joiner:
    """Asks for admission with a ticket."""

    def __init__(
        self,
        membership: Membership,
        joins: JoinStore,
        signer: Signer,
        post: Post,
        counters: Counters,
        now: Callable[[], int],
        release: str,
        own_features: Callable[[], list[str]],
        on_joined: Callable[[str], None],
    ) -> None:
        """Args: release: what the manifest says, `cl-hive v1.2.3`. on_joined: called with the inviter's node id."""
        self._membership = membership
        self._joins = joins
        self._signer = signer
        self._post = post
        self._counters = counters
        self._now = now
        self._release = release
        self._own_features = own_features
        self._on_joined = on_joined
        self._asked: dict[str, str] = {}

    def check(self, encoded: str, peer_id: str = "") -> Ticket:
        """Read a ticket and see whether it is worth asking.

        Args:
            encoded: the text that hive-invite printed.
            peer_id: whom to ask, when the operator says so: only the issuer redeems a ticket.

        Raises:
            AlreadyInHiveError: this node is a member already.
            TicketRefusedError: the ticket cannot work.
            UnavailableError: lightningd does not answer.
        """
        own_hive = self._membership.hive_id()
        try:
            ticket = tickets.decode(encoded)
        except TicketError as error:
            raise TicketRefusedError(f"Invalid ticket format: {error}", reason="unreadable") from error
        if self._membership.own() is not None:
            same = "this" if own_hive == ticket.hive_id else "another"
            raise AlreadyInHiveError(
                f"this node is a member of {own_hive or 'a hive'}, and the ticket is for {same} hive; "
                "leave it first (hive-leave) if you want to join anew",
                hive_id=own_hive,
                same_hive=same == "this",
            )
        if ticket.expired(self._now()):
            raise TicketRefusedError("Ticket has expired; ask the member for a new one", reason="expired")
        if ticket.admin_pubkey == self._membership.me:
            raise TicketRefusedError("this node issued the ticket itself; give it to another node", reason="own")
        if ticket.peer_id not in ("", self._membership.me):
            raise TicketRefusedError(
                f"the ticket was made out to {ticket.peer_id}; ask for one for this node", reason="made_out_to_another"
            )
        if peer_id not in ("", ticket.admin_pubkey):
            raise TicketRefusedError(
                f"only its issuer {ticket.admin_pubkey} redeems this ticket; leave peer_id out", reason="not_issuer"
            )
        if not self._signer.check(ticket.signed_text(), ticket.signature, ticket.admin_pubkey):
            raise TicketRefusedError("the ticket's signature is not its issuer's; ask for a new one", reason="forged")
        return ticket

    def begin(self, ticket: Ticket, encoded: str) -> JoinRequest:
        """Start asking; a request that runs with another ticket is given up."""
        current = self._joins.get()
        if current is None or not current.open or current.ticket != encoded:
            self._joins.begin(encoded, ticket.admin_pubkey, ticket.hive_id, self._now())
        request = self._joins.get()
        assert request is not None
        return request

    def pending(self) -> tuple[str, tuple[str, ...]] | None:
        """(whom to ask, where it listens) when it is time to ask; the caller connects before it calls `attempt`."""
        request = self._joins.get()
        if request is None or not request.open or request.next_try_at > self._now():
            return None
        return request.target, tickets.decode(request.ticket).addresses

    def attempt(self, problem: str = "") -> None:
        """Say HELLO, when it is time. Args: problem: why the inviter could not be reached, "" when it could."""
        request = self._joins.get()
        now = self._now()
        if request is None or not request.open or request.next_try_at > now:
            return
        ticket = tickets.decode(request.ticket)
        if ticket.expired(now):
            self._joins.mark("expired", request.reason or "no answer before the ticket expired", now)
            return
        hello = {
            "pubkey": self._membership.me,
            "protocol_version": frames.VERSION,
            "supported_versions": list(frames.SUPPORTED_VERSIONS),
            "ticket": request.ticket,
        }
        self._joins.tried(now, now + PAUSES[min(request.attempts, len(PAUSES) - 1)])
        self._asked = {"hello": messages.HELLO.event_id(hello)}
        if problem or not self._post.send(request.target, messages.HELLO, hello):
            self._joins.mark("pending", f"not_connected: {problem or 'the inviter is not connected'}", now)

    def on_challenge(self, peer_id: str, payload: dict[str, Any]) -> None:
        """Answer the inviter's challenge."""
        request = self._joins.get()
        if request is None or not request.open or peer_id != request.target or payload["hive_id"] != request.hive_id:
            self._counters.add("challenge_unsolicited")
            return
        me, now = self._membership.me, self._now()
        manifest = {
            "pubkey": me,
            "version": self._release,
            "features": self._own_features(),
            "timestamp": now,
            "nonce": payload["nonce"],
        }
        ticket_digest = tickets.decode(request.ticket).digest()
        attest = {
            "pubkey": me,
            "version": manifest["version"],
            "features": manifest["features"],
            "nonce_signature": self._signer.sign(payload["nonce"]),
            "manifest_signature": self._signer.sign(messages.manifest_text(manifest)),
            "manifest": manifest,
            "consent": {
                "timestamp": now,
                "signature": self._signer.sign(records.consent_text(request.hive_id, me, ticket_digest, now)),
            },
        }
        # Before it is sent: the WELCOME may come while this node restarts.
        self._joins.mark("attested", "", now)
        self._asked["attest"] = messages.ATTEST.event_id(attest)
        self._post.send(peer_id, messages.ATTEST, attest)

    def on_welcome(self, peer_id: str, payload: dict[str, Any]) -> None:
        """The inviter says yes: believe it only if this node asked, and only what is signed."""
        request = self._joins.get()
        now = self._now()
        if request is None or request.status != "attested" or peer_id != request.target:
            self._counters.add("welcome_unsolicited")
            return
        try:
            self._join(peer_id, payload, request)
        except RecordError as error:
            self._counters.add("welcome_refused")
            self._joins.mark("pending", f"bad_welcome: {error}", now)
            return
        self._joins.mark("joined", "", now)
        self._counters.add("joined")
        self._on_joined(peer_id)

    def on_answer(self, peer_id: str, payload: dict[str, Any]) -> bool:
        """A MSG_ACK to the HELLO or ATTEST of this node. Returns whether it was one."""
        request = self._joins.get()
        if request is None or peer_id != request.target or payload["ack_msg_id"] not in self._asked.values():
            return False
        if not request.open:
            return True
        reason = "".join(letter if letter.isprintable() else "?" for letter in payload.get("reason", "refused"))
        status = payload["status"]
        if status == "invalid":
            self._joins.mark("refused", reason, self._now())
        elif status == "retry_later":
            self._joins.mark("pending", reason, self._now())
        return True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _join(self, peer_id: str, payload: dict[str, Any], request: JoinRequest) -> None:
        if payload["hive_id"] != request.hive_id:
            raise RecordError("the WELCOME is to another hive than the ticket")
        if "admission" not in payload:
            raise RecordError("the inviter's release does not prove admissions; upgrade it")
        own = records.parse(payload["admission"])
        if own.peer_id != self._membership.me or own.hive_id != request.hive_id:
            raise RecordError("the admission is another's")
        if own.tier == MEMBER or own.kind != records.ADMISSION:
            raise RecordError("the admission gives another tier than the ticket")
        if self._membership.own() is not None:
            raise RecordError("this node became a member of a hive meanwhile")
        lineage = payload.get("lineage") or []
        if not lineage or lineage[0].get("peer_id") != peer_id:
            raise RecordError("the inviter does not say who it is")
        self._membership.join(own, lineage, payload.get("departed") or [])
