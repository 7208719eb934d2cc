"""Who is a member, and on whose word.

Nobody is added because a peer says so: a membership needs a record that an already known member signed, with the
ticket and the joiner's own consent. For one node the latest of its admissions and departures counts, so that all nodes
that know the same records agree, in whatever order the records came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from cl_hive.protocol import records
from cl_hive.protocol.canonical import JSON, digest, members_hash
from cl_hive.protocol.messages import MAX_MEMBERS
from cl_hive.protocol.records import MembershipRecord, RecordError
from cl_hive.protocol.registry import FUTURE_SKEW_SECONDS
from cl_hive.services.limits import Counters
from cl_hive.storage.members import Departure, Member, MemberStore

MEMBER: Final = "member"
MAX_DEPARTED_SENT: Final = 200
_MAX_REMEMBERED_FORGERIES: Final = 1000


class Membership:
    """The member list of this node and its rules."""

    def __init__(
        self, me: str, members: MemberStore, check: records.Check, counters: Counters, now: Callable[[], int]
    ) -> None:
        self.me = me
        self.members = members
        self._check = check
        self._counters = counters
        self._now = now
        self._forgeries: dict[str, None] = {}

    # -- looking ------------------------------------------------------------------------------------------------------

    def own(self) -> Member | None:
        """This node's own membership."""
        return self.members.get(self.me)

    def hive_id(self) -> str:
        """The hive this node belongs to, or ""."""
        own = self.own()
        return str((own.metadata or {}).get("hive_id", "")) if own else ""

    def is_member(self, peer_id: str) -> bool:
        """Whether both this node and the other belong to the hive."""
        return self.members.get(peer_id) is not None and self.own() is not None

    def others(self) -> list[str]:
        """Node ids of all other members."""
        return [member.peer_id for member in self.members.all() if member.peer_id != self.me]

    def hash(self) -> str:
        """What two nodes compare to see whether they list the same members."""
        return members_hash(member.hashed() for member in self.members.all())

    def items(self) -> list[dict[str, Any]]:
        """All members with their proofs, as FULL_SYNC carries them."""
        return [self.item(member) for member in self.members.all()]

    def item(self, member: Member) -> dict[str, Any]:
        """One member with its proof."""
        item: dict[str, Any] = member.hashed()
        if member.addresses:
            item["addresses"] = list(member.addresses)
        record = self.members.record(member.peer_id, member.joined_at)
        if record is not None:
            item["record"] = record.document()
        return item

    def departed(self) -> list[dict[str, Any]]:
        """The latest departures with their proofs."""
        return [departure.payload() for departure in self.members.departures(MAX_DEPARTED_SENT)]

    def lineage(self, member: Member) -> list[dict[str, Any]]:
        """The member, who admitted it, who admitted that one, and so on up to the founder: what a joiner builds on."""
        chain: list[dict[str, Any]] = []
        seen: set[str] = set()
        current: Member | None = member
        while current is not None and current.peer_id not in seen and len(chain) < MAX_MEMBERS:
            seen.add(current.peer_id)
            item = self.item(current)
            chain.append(item)
            if "record" not in item or item["record"]["kind"] == records.GENESIS:
                break
            current = self._admitter(item["record"]["admitted_by"])
        return chain

    # -- changing -----------------------------------------------------------------------------------------------------

    def found(self, record: MembershipRecord, addresses: Sequence[str]) -> None:
        """Become the founder of a new hive."""
        with self.members.store.atomic():
            self._put(record, addresses)

    def admit(self, record: MembershipRecord) -> None:
        """Take in a node whose admission this node itself has just signed."""
        with self.members.store.atomic():
            self._put(record)

    def join(self, own: MembershipRecord, lineage: Sequence[JSON], departed: Sequence[JSON]) -> None:
        """Become a member: the own admission, and the line from the inviter to the founder.

        Args:
            own: this node's admission.
            lineage: items as `lineage` makes them; the first is the inviter, whom the operator's ticket names.
            departed: departures among them.

        Raises:
            RecordError: something does not prove what it claims.
        """
        left = self.members.departure(self.me)
        if left is not None and left.left_at >= own.joined_at:
            raise RecordError("the inviter has not heard yet that this node left; trying again helps")
        own.verify(self._check)
        chain = self._verified_chain(lineage)
        with self.members.store.atomic():
            for item, record in chain:
                self._put_ancestor(item, record, own.hive_id)
            self._put(own)
            for departure in departed:
                self.depart(departure)

    def merge(self, items: Iterable[dict[str, Any]]) -> list[Member]:
        """Take over the members that prove themselves. Returns the new ones.

        Records may build on each other in any order: one that cannot be judged yet waits for the others of the message.
        """
        waiting = self._candidates(items)
        added: list[Member] = []
        progress = True
        while waiting and progress:
            progress = False
            for record in list(waiting):
                reason = self._refusal(record)
                if reason == "unknown_admitter":
                    continue
                waiting.remove(record)
                if reason:
                    self._counters.add(f"member_refused_{reason}")
                    continue
                with self.members.store.atomic():
                    added.append(self._put(record))
                progress = True
        for _ in waiting:
            self._counters.add("member_refused_unknown_admitter")
        return added

    def depart(self, payload: dict[str, Any]) -> bool:
        """Remove a member that left. Returns whether it changed anything.

        The departure counts only against the membership it ended: one from before a later admission is history.
        """
        peer_id, left_at = str(payload["peer_id"]), int(payload["timestamp"])
        member = self.members.get(peer_id)
        if member is None or left_at < member.joined_at or left_at > self._now() + FUTURE_SKEW_SECONDS:
            return False
        if not self._check(records.leave_text(payload), payload["signature"], peer_id):
            self._counters.add("departure_refused_signature")
            return False
        departure = Departure(peer_id, left_at, member.tier, member.joined_at, payload["reason"], payload["signature"])
        with self.members.store.atomic():
            if peer_id == self.me:
                self.members.forget_hive(self.me)
            else:
                self.members.remove(peer_id)
            self.members.put_departure(departure, self._now())
        return True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _admitter(self, peer_id: str) -> Member | None:
        """A member, or one that has left: its admissions from before still stand."""
        if (member := self.members.get(peer_id)) is not None:
            return member
        if (left := self.members.departure(peer_id)) is not None:
            return Member(peer_id, left.tier, left.joined_at)
        return None

    def _candidates(self, items: Iterable[dict[str, Any]]) -> list[MembershipRecord]:
        candidates = []
        for item in items:
            known = self.members.get(item["peer_id"])
            if item["peer_id"] == self.me or (known is not None and known.joined_at >= item["joined_at"]):
                continue
            if "record" not in item:
                self._counters.add("member_refused_no_proof")
                continue
            if digest(item["record"]) in self._forgeries:
                self._counters.add("member_refused_forged")
                continue
            try:
                record = records.parse(item["record"])
            except RecordError:
                self._counters.add("member_refused_malformed")
                continue
            if (record.peer_id, record.joined_at) != (item["peer_id"], item["joined_at"]):
                self._counters.add("member_refused_malformed")
                continue
            candidates.append(record)
        return candidates

    def _refusal(self, record: MembershipRecord) -> str:
        """Why a record is not believed, as a word; "" when it is. The signatures come last: they cost calls."""
        known = self.members.get(record.peer_id)
        left = self.members.departure(record.peer_id)
        if record.hive_id != self.hive_id():
            return "other_hive"
        if record.kind == records.GENESIS:
            return "unproven_founder"
        if known is not None and known.joined_at >= record.joined_at:
            return "known"
        if left is not None and left.left_at >= min(record.joined_at, record.consent_at):
            return "departed"
        if record.joined_at > self._now() + FUTURE_SKEW_SECONDS:
            return "future"
        if self.members.banned(record.peer_id, self._now()):
            return "banned"
        admitter = self._admitter(record.admitted_by)
        if admitter is None or admitter.joined_at > record.joined_at or admitter.tier != MEMBER:
            return "unknown_admitter"
        end = self.members.departure(record.admitted_by)
        if self.members.get(record.admitted_by) is None and end is not None and end.left_at < record.joined_at:
            return "admitter_had_left"
        if known is None and self.members.count() >= MAX_MEMBERS:
            return "full"
        try:
            record.verify(self._check)
        except RecordError:
            while len(self._forgeries) >= _MAX_REMEMBERED_FORGERIES:
                self._forgeries.pop(next(iter(self._forgeries)))
            self._forgeries[digest(record.document())] = None
            return "forged"
        return ""

    def _verified_chain(self, lineage: Sequence[JSON]) -> list[tuple[JSON, MembershipRecord | None]]:
        """The items with their records, each the admitter of the one before. Only the last may be without a record.

        Raises:
            RecordError: a link is missing or not signed.
        """
        chain: list[tuple[JSON, MembershipRecord | None]] = []
        expected = ""
        for position, item in enumerate(lineage):
            if expected and item["peer_id"] != expected:
                raise RecordError("the inviter's line has a gap")
            if item["tier"] != MEMBER:
                raise RecordError("somebody in the inviter's line may not admit")
            record = records.parse(item["record"]) if "record" in item else None
            if record is None:
                if position != len(lineage) - 1:
                    raise RecordError("somebody in the inviter's line proves nothing")
            else:
                if (record.peer_id, record.joined_at) != (item["peer_id"], item["joined_at"]):
                    raise RecordError("a record in the inviter's line is another's")
                record.verify(self._check)
                expected = record.admitted_by
            chain.append((item, record))
        if not chain:
            raise RecordError("the inviter does not say who it is")
        return chain

    def _put_ancestor(self, item: dict[str, Any], record: MembershipRecord | None, hive_id: str) -> None:
        if record is not None:
            if record.hive_id != hive_id:
                raise RecordError("the inviter's line belongs to another hive")
            self.members.put_record(record, self._now())
        self.members.put(
            Member(
                peer_id=item["peer_id"],
                tier=item["tier"],
                joined_at=item["joined_at"],
                metadata={"hive_id": hive_id},
                addresses=tuple(item.get("addresses") or ()),
            )
        )

    def _put(self, record: MembershipRecord, addresses: Sequence[str] = ()) -> Member:
        member = Member(
            peer_id=record.peer_id,
            tier=record.tier,
            joined_at=record.joined_at,
            last_seen=None,
            metadata={"hive_id": record.hive_id},
            addresses=tuple(addresses),
        )
        self.members.put_record(record, self._now())
        self.members.put(member)
        return member
