"""Anti-entropy: members compare hashes and send each other what the other may lack. It heals whatever got lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cl_hive.protocol import messages
from cl_hive.protocol.canonical import canonical_json, fleet_hash
from cl_hive.protocol.frames import MAX_BYTES
from cl_hive.protocol.messages import state_rows
from cl_hive.protocol.registry import Rate
from cl_hive.services.gossip import Gossip
from cl_hive.services.limits import Counters, RateLimiter
from cl_hive.services.membership import Membership
from cl_hive.services.post import Post
from cl_hive.storage.members import Member
from cl_hive.storage.states import StateStore

COOLDOWN_SECONDS: Final = 60
LONGEST_COOLDOWN_SECONDS: Final = 3600
# Gossip that is under way makes fleet hashes differ for a moment: time for it to arrive.
GRACE_SECONDS: Final = 6
FULL_SYNCS: Final = Rate(10, 60)
# Room for the envelope, the signature and the keys around the entries.
PAGE_BYTES: Final = MAX_BYTES - 4096


@dataclass
class PeerView:
    """What is known of one connected member: its hashes, and when it was last sent something."""

    theirs: tuple[str, str] = ("", "")
    in_sync: bool | None = None
    hash_sent: tuple[str, str] = ("", "")
    hash_sent_at: int = 0
    differs_since: int = 0
    recheck_at: int = 0
    full_pair: tuple[str, str] | None = None
    full_sent_at: int = 0
    pause: int = COOLDOWN_SECONDS


def pages(
    members: Sequence[dict[str, Any]], states: Sequence[dict[str, Any]], departed: Sequence[dict[str, Any]], room: int
) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]]:
    """Cut a view of the hive into parts that fit a message each. Every part can be merged alone."""
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]] = ([], [], [])
    used = 0
    for kind, entries in enumerate((members, states, departed)):
        for entry in entries:
            size = len(canonical_json(entry)) + 1
            if used and used + size > room:
                yield parts
                parts, used = ([], [], []), 0
            parts[kind].append(entry)
            used += size
    if used:
        yield parts


class Sync:
    """Compares with each connected member."""

    def __init__(
        self,
        membership: Membership,
        gossip: Gossip,
        states: StateStore,
        post: Post,
        counters: Counters,
        limiter: RateLimiter,
        now: Callable[[], int],
        connected: Callable[[], set[str]],
    ) -> None:
        self._membership = membership
        self._gossip = gossip
        self._states = states
        self._post = post
        self._counters = counters
        self._limiter = limiter
        self._now = now
        self._connected = connected
        self._peers: dict[str, PeerView] = {}

    def hashes(self) -> tuple[str, str]:
        """(fleet hash, membership hash) of this node."""
        return self._gossip.fleet_hash(), self._membership.hash()

    def view(self) -> dict[str, bool | None]:
        """Connected members, and whether they know the same as this node; None until they said something."""
        return {peer: self._view(peer).in_sync for peer in sorted(self._reachable())}

    def differ_since(self, moment: int) -> list[str]:
        """Connected members that have known something else since before a moment."""
        return [peer for peer in sorted(self._reachable()) if 0 < self._view(peer).differs_since <= moment]

    def greet(self, peers: Iterable[str]) -> None:
        """Exchange states and hashes with members that were just connected or just became known."""
        reachable = self._reachable().intersection(peers)
        self._gossip.introduce(reachable)
        self.send_hash(reachable)

    def send_hash(self, peers: Iterable[str]) -> None:
        """Tell members what this node knows, as a hash."""
        if self._membership.own() is None:
            return
        fleet, members = self.hashes()
        targets = sorted(self._reachable().intersection(peers))
        if not targets:
            return
        payload = self._post.sign(
            messages.STATE_HASH,
            {
                "sender_id": self._membership.me,
                "fleet_hash": fleet,
                "membership_hash": members,
                "timestamp": self._now(),
                "peer_count": self._membership.members.count(),
            },
        )
        for peer in targets:
            view = self._view(peer)
            view.hash_sent, view.hash_sent_at = (fleet, members), self._now()
        self._post.broadcast(targets, messages.STATE_HASH, payload)

    def announce(
        self, members: Sequence[Member], departed: Sequence[dict[str, Any]] = (), exclude: Iterable[str] = ()
    ) -> None:
        """Tell the connected members of newcomers and leavers at once, instead of waiting for the next comparison."""
        targets = self._reachable().difference(exclude, (member.peer_id for member in members))
        if targets and (members or departed):
            items = [self._membership.item(member) for member in members]
            self._send_pages(targets, pages(items, (), departed, PAGE_BYTES))

    def on_state_hash(self, peer_id: str, payload: dict[str, Any]) -> None:
        """Compare; on a difference send all this node knows, and its hash, so that the other does the same."""
        ours = self.hashes()
        theirs = (payload["fleet_hash"], payload.get("membership_hash") or ours[1])
        view = self._view(peer_id)
        view.theirs, view.in_sync = theirs, ours == theirs
        if view.in_sync:
            view.pause, view.differs_since, view.recheck_at, view.full_pair = COOLDOWN_SECONDS, 0, 0, None
            # The other does not know that we agree, unless it has heard exactly this from us lately.
            if view.hash_sent != ours or abs(self._now() - view.hash_sent_at) >= COOLDOWN_SECONDS // 2:
                self.send_hash([peer_id])
            return
        self._counters.add("sync_differences")
        view.differs_since = view.differs_since or self._now()
        if ours[1] == theirs[1] and abs(self._now() - view.differs_since) < GRACE_SECONDS:
            view.recheck_at = view.differs_since + GRACE_SECONDS
            return
        if self._may_send_full(peer_id, view, ours, theirs):
            self._send_full(peer_id)
            self.send_hash([peer_id])

    def on_full_sync(self, peer_id: str, payload: dict[str, Any]) -> None:
        """Take over what proves itself, and tell it on."""
        departed = [left for left in payload.get("departed") or () if self._membership.depart(left)]
        if self._membership.own() is None:
            return  # it was this node that had left
        added = self._membership.merge(payload.get("members") or ())
        self._gossip.merge(payload["states"])
        self.announce(added, departed, exclude=[peer_id])
        self.greet(member.peer_id for member in added)

    def tick(self) -> None:
        """Ask members again that were different, or never answered."""
        self.send_hash([peer for peer in self._reachable() if self._is_overdue(self._view(peer))])

    def forget(self, peer_id: str) -> None:
        """The peer disconnected: what it knew is of no interest any more."""
        self._peers.pop(peer_id, None)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _is_overdue(self, view: PeerView) -> bool:
        now = self._now()
        if view.in_sync:
            return False
        if view.recheck_at and now >= view.recheck_at:
            view.recheck_at = 0
            return True
        return abs(now - view.hash_sent_at) >= view.pause

    def _reachable(self) -> set[str]:
        return self._connected().intersection(self._membership.others())

    def _view(self, peer_id: str) -> PeerView:
        return self._peers.setdefault(peer_id, PeerView())

    def _may_send_full(self, peer_id: str, view: PeerView, ours: tuple[str, str], theirs: tuple[str, str]) -> bool:
        now = self._now()
        # States change and heal with every heartbeat; a difference in members is the same one until they change.
        pair = (ours[1], theirs[1]) if ours[1] != theirs[1] else (ours[0], theirs[0])
        if view.full_pair == pair:
            # Nothing changed since the last exchange, so another one will not help soon.
            if abs(now - view.full_sent_at) < view.pause:
                return False
            view.pause = min(view.pause * 2, LONGEST_COOLDOWN_SECONDS)
        else:
            view.pause = COOLDOWN_SECONDS
        if not self._limiter.allow(("full", peer_id), FULL_SYNCS):
            return False
        view.full_pair, view.full_sent_at = pair, now
        return True

    def _send_full(self, peer_id: str) -> None:
        self._counters.add("full_syncs_sent")
        states = self._states.signed_states()
        self._send_pages([peer_id], pages(self._membership.items(), states, self._membership.departed(), PAGE_BYTES))

    def _send_pages(
        self,
        targets: Iterable[str],
        parts: Iterable[tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]],
    ) -> None:
        peers = sorted(targets)
        for members, states, departed in parts:
            body = {
                "sender_id": self._membership.me,
                "fleet_hash": fleet_hash(state_rows(states)),
                "timestamp": self._now(),
                "states": states,
                "members": members,
                "departed": departed,
            }
            self._post.broadcast(peers, messages.FULL_SYNC, self._post.sign(messages.FULL_SYNC, body))
