"""What this node says of itself, and what it keeps of what others say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hive_kit.siblings import Sibling

from cl_hive.options import Settings
from cl_hive.protocol import messages
from cl_hive.protocol.canonical import data_hash, fleet_hash
from cl_hive.protocol.registry import FUTURE_SKEW_SECONDS
from cl_hive.services.bindings import Bindings
from cl_hive.services.lightning import Lightning
from cl_hive.services.limits import Counters
from cl_hive.services.membership import Membership
from cl_hive.services.post import Post
from cl_hive.services.signing import Signer
from cl_hive.storage.states import StateStore

MIN_SECONDS: Final = 10
RELAY_TTL: Final = 3
MAX_RELAY_PATH: Final = 10
MAX_TOPOLOGY: Final = 200


def reason_to_speak(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], now: int, threshold: float, heartbeat: int
) -> str:
    """Why a new GOSSIP is due, as a word, or "".

    Args:
        before: the last GOSSIP, None for the first.
        after: the state now.
        now: unix seconds.
        threshold: share of the capacity whose change is news.
        heartbeat: seconds after which silence ends anyway.
    """
    if before is None:
        return "first"
    silence = now - before["timestamp"]
    if silence < MIN_SECONDS and silence >= 0:
        return ""
    if abs(after["capacity_sats"] - before["capacity_sats"]) > threshold * max(before["capacity_sats"], 1):
        return "capacity"
    for name in ("fee_policy", "topology", "nostr", "addresses"):
        if after.get(name) != before.get(name):
            return name
    return "heartbeat" if silence >= heartbeat or silence < 0 else ""


def relayed(payload: dict[str, Any], me: str, message_id: str) -> dict[str, Any] | None:
    """The payload as this node passes it on, or None when it has gone far enough."""
    meta = payload.get("_relay") or {}
    ttl, path = meta.get("ttl", RELAY_TTL), meta.get("relay_path", [])
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not isinstance(path, list):
        return None
    ttl = min(ttl, RELAY_TTL) - 1
    if ttl <= 0 or len(path) >= MAX_RELAY_PATH or me in path:
        return None
    origin = payload["sender_id"]
    return {
        **payload,
        "_relay": {
            "msg_id": message_id,
            "ttl": ttl,
            "relay_path": [*path, me],
            "origin": origin,
            "origin_ts": payload["timestamp"],
        },
    }


class Gossip:
    """Own and others' states. Every state is kept as its author signed it, so it can be shown to anybody."""

    def __init__(
        self,
        membership: Membership,
        states: StateStore,
        bindings: Bindings,
        lightning: Lightning,
        signer: Signer,
        post: Post,
        settings: Settings,
        counters: Counters,
        now: Callable[[], int],
        addresses: Iterable[str],
        comms: Sibling | None,
    ) -> None:
        self._membership = membership
        self._states = states
        self._bindings = bindings
        self._lightning = lightning
        self._signer = signer
        self._post = post
        self._settings = settings
        self._counters = counters
        self._now = now
        self._addresses = list(addresses)
        self._comms = comms

    def fleet_hash(self) -> str:
        """What two nodes compare to see whether they know the same versions of the same states."""
        return fleet_hash(self._states.rows())

    def refresh(self, connected: set[str]) -> str:
        """Look at the own node, and tell the connected members when there is something to tell. Returns why, or ""."""
        if self._membership.own() is None:
            return ""
        me, now = self._membership.me, self._now()
        before = self._states.signed(me)
        state = self._own_state()
        reason = reason_to_speak(before, state, now, self._settings.gossip_threshold, self._settings.heartbeat_seconds)
        if not reason and before is not None and before["version"] < self._states.version(me):
            reason = "restored"
        if not reason:
            return ""
        payload = self._post.sign(
            messages.GOSSIP,
            {
                **state,
                "peer_id": me,
                "sender_id": me,
                "timestamp": now,
                "version": self._states.version(me) + 1,
                "state_hash": data_hash(state),
            },
        )
        # Kept before it is said: a version that was heard must never be used again for something else.
        self._states.put(payload)
        self._post.broadcast(connected & set(self._membership.others()), messages.GOSSIP, payload)
        return reason

    def introduce(self, peers: Iterable[str]) -> None:
        """Tell the last GOSSIP to members that may not have heard it."""
        last = self._states.signed(self._membership.me)
        if last is not None and self._now() - last["timestamp"] < messages.HOUR:
            self._post.broadcast(peers, messages.GOSSIP, last)

    def is_news(self, payload: Mapping[str, Any]) -> bool:
        """Whether a state is newer than the one known; asked before its signature is checked."""
        author = payload["sender_id"]
        if author != self._membership.me and not self._membership.is_member(author):
            return False
        return bool(payload["version"] > self._states.version(author))

    def on_gossip(self, peer_id: str, payload: dict[str, Any], connected: set[str]) -> None:
        """Keep a verified state, and pass it on."""
        if not self._keep(payload):
            return
        onward = relayed(payload, self._membership.me, messages.GOSSIP.event_id(payload))
        if onward is not None:
            known = {peer_id, payload["sender_id"], *onward["_relay"]["relay_path"]}
            self._post.broadcast((connected & set(self._membership.others())) - known, messages.GOSSIP, onward)

    def merge(self, states: Iterable[dict[str, Any]]) -> int:
        """Keep the states of a FULL_SYNC that their authors signed. Returns how many were news.

        They may be old, as the author may be away; but a state is never replaced by an older one.
        """
        kept = 0
        for state in states:
            if messages.GOSSIP.problem(state) or state["timestamp"] > self._now() + FUTURE_SKEW_SECONDS:
                self._counters.add("state_refused_malformed")
            elif self.is_news(state):
                if self._signer.check(messages.gossip_text(state), state["signature"], state["sender_id"]):
                    kept += self._keep(state)
                else:
                    self._counters.add("state_refused_signature")
        return kept

    # -- inside -------------------------------------------------------------------------------------------------------

    def _keep(self, payload: dict[str, Any]) -> bool:
        author = payload["sender_id"]
        if author == self._membership.me:
            # A newer state of our own: the database was restored. Go on after it, or nobody would listen to us.
            self._states.raise_version(author, payload["version"])
            self._counters.add("own_version_raised")
            return False
        self._states.put(payload)
        if payload.get("addresses"):
            self._membership.members.set_addresses(author, payload["addresses"])
        if payload.get("nostr"):
            self._bindings.learn(author, payload["nostr"])
        return True

    def _own_state(self) -> dict[str, Any]:
        summary = self._lightning.channels()
        state: dict[str, Any] = {
            "capacity_sats": summary.capacity_sats,
            "available_sats": summary.available_sats,
            "fee_policy": summary.fee_policy,
            "topology": list(summary.topology[:MAX_TOPOLOGY]),
            "capabilities": [],
            "addresses": self._addresses,
            "budget_available_sats": 0,
            "budget_reserved_until": 0,
            "budget_last_update": 0,
        }
        if (announcement := self._bindings.own(self._comms)) is not None:
            state["nostr"] = announcement
        return state
