"""The hive of one node, put together. One thread at a time: the application sees to that, with its event thread."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from hive_kit.errors import InvalidParamsError, LimitError
from hive_kit.restored import Restored
from hive_kit.store import Store

from cl_hive.errors import AlreadyInHiveError, CannotLeaveError, NotInHiveError, NotMemberTierError
from cl_hive.options import Settings
from cl_hive.protocol import features, fields, messages, records
from cl_hive.protocol import ticket as tickets
from cl_hive.protocol.frames import Frame
from cl_hive.protocol.records import MembershipRecord
from cl_hive.services.actions import Actions
from cl_hive.services.bindings import Bindings
from cl_hive.services.dispatcher import Dispatcher
from cl_hive.services.gatekeeper import Gatekeeper
from cl_hive.services.gossip import Gossip
from cl_hive.services.joiner import Joiner
from cl_hive.services.lightning import Identity, Lightning
from cl_hive.services.limits import Counters, RateLimiter
from cl_hive.services.membership import MEMBER, Membership
from cl_hive.services.post import Post
from cl_hive.services.settlement import Settlement
from cl_hive.services.settlement_execution import Executions
from cl_hive.services.settlement_hold import Hold
from cl_hive.services.settlement_inputs import Inputs
from cl_hive.services.settlement_payer import Payer
from cl_hive.services.siblings import Siblings
from cl_hive.services.signing import Signer
from cl_hive.services.sync import Sync
from cl_hive.storage.actions import ActionStore
from cl_hive.storage.bindings import BindingStore
from cl_hive.storage.joins import JoinRequest, JoinStore
from cl_hive.storage.members import Member, MemberStore
from cl_hive.storage.outbox import Outbox
from cl_hive.storage.settlement_inputs import InputStore
from cl_hive.storage.settlement_payments import PaymentStore
from cl_hive.storage.settlements import SettlementStore
from cl_hive.storage.states import StateStore

PEERS_SECONDS: Final = 60
LOOK_SECONDS: Final = 60
PRUNE_SECONDS: Final = 3600
GENESIS_TICKET_HOURS: Final = tickets.MAX_HOURS


class Hive:
    """Everything between the database and lightningd."""

    def __init__(
        self,
        identity: Identity,
        store: Store,
        lightning: Lightning,
        settings: Settings,
        siblings: Siblings,
        release: str,
        now: Callable[[], int],
        restored: Restored | None = None,
    ) -> None:
        """Args: release: of the plugin, for others. now: unix seconds. restored: the newest restore of the database."""
        self.identity = identity
        self.siblings = siblings
        self.settings = settings
        self.counters = Counters()
        self.lightning = lightning
        self.signer = Signer(lightning, siblings.archon)
        self.outbox = Outbox(store)
        self.joins = JoinStore(store)
        self.states = StateStore(store)
        self.membership = Membership(identity.node_id, MemberStore(store), self.signer.check, self.counters, now)
        self._now = now
        # Connected peers, and where from ("" when lightningd did not say).
        self._peers: dict[str, str] = {}
        self._due: dict[str, int] = {}
        limiter = RateLimiter(now)
        me = identity.node_id
        self.post = Post(me, lightning, self.signer, self.outbox, self.counters, now)
        self.bindings = Bindings(me, BindingStore(store), self.signer, self.counters, now)
        self.gossip = Gossip(
            self.membership,
            self.states,
            self.bindings,
            lightning,
            self.signer,
            self.post,
            settings,
            self.counters,
            now,
            identity.addresses,
            siblings.comms,
        )
        self.sync = Sync(
            self.membership,
            self.gossip,
            self.states,
            self.post,
            self.counters,
            limiter,
            now,
            lambda: self._connected,
        )
        self.gatekeeper = Gatekeeper(
            self.membership,
            lightning,
            self.signer,
            self.post,
            settings,
            self.counters,
            limiter,
            now,
            self.gossip.fleet_hash,
            self._admitted,
        )
        self.joiner = Joiner(
            self.membership,
            self.joins,
            self.signer,
            self.post,
            self.counters,
            now,
            release,
            lambda: features.names(identity.features),
            self._joined,
        )
        self.payer, self.settlement = self._settlement(store, lightning, restored)
        self.dispatcher = Dispatcher(
            self.membership,
            self.signer,
            settings,
            self.counters,
            limiter,
            now,
            lambda peer: self._peers.get(peer, ""),
            handlers={
                "HELLO": self.gatekeeper.on_hello,
                "CHALLENGE": self.joiner.on_challenge,
                "ATTEST": self.gatekeeper.on_attest,
                "WELCOME": self.joiner.on_welcome,
                "GOSSIP": lambda peer, payload: self.gossip.on_gossip(peer, payload, self._connected),
                "STATE_HASH": self.sync.on_state_hash,
                "FULL_SYNC": self.sync.on_full_sync,
                "MEMBER_LEFT": self._on_member_left,
                "MSG_ACK": self._on_ack,
                **self.settlement.handlers(),
            },
            worthwhile={
                "GOSSIP": self.gossip.is_news,
                "MEMBER_LEFT": self._left_before,
                "MSG_ACK": self._awaited,
            },
        )

    # -- what lightningd tells ----------------------------------------------------------------------------------------

    def receive(self, peer_id: str, data: bytes) -> None:
        """A custom message."""
        self._peers.setdefault(peer_id, "")
        self.dispatcher.receive(peer_id, data)

    def inject(self, node_id: str, frame: Frame) -> None:
        """A message that came another way, of a member whose key was verified and is bound."""
        self.dispatcher.handle(node_id, frame)

    def connected(self, peer_id: str, address: str) -> None:
        """A peer connected; members exchange what they know."""
        self._peers[peer_id] = address
        self.sync.greet([peer_id])
        self.settlement.greet(peer_id)
        self._due.pop("deliver", None)

    def disconnected(self, peer_id: str) -> None:
        """A peer is gone."""
        self._peers.pop(peer_id, None)
        self.sync.forget(peer_id)

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, join_problem: str = "") -> None:
        """What time brings: to be called every few seconds.

        Args:
            join_problem: why the inviter that `joiner.pending` names could not be reached.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        if self._is_due("peers", PEERS_SECONDS):
            self._look_around()
        self.joiner.attempt(join_problem)
        if self._is_due("deliver", 5):
            self.post.deliver(self._connected)
        if self._is_due("look", LOOK_SECONDS):
            self.refresh()
        if self._is_due("heartbeat", self.settings.heartbeat_seconds):
            self.sync.send_hash(self._connected)
        # Also greets those whose connect notification was missed, as before a restart.
        self.sync.tick()
        if self._is_due("prune", PRUNE_SECONDS):
            self.outbox.prune(self._now())
        self.settlement.tick()

    def look_soon(self) -> None:
        """Look at the own node with the next tick: something about it has changed."""
        self._due.pop("look", None)

    def refresh(self) -> None:
        """Gossip this node's state when it changed."""
        if self.gossip.refresh(self._connected):
            self.sync.send_hash(self._connected)

    # -- what the operator asks ---------------------------------------------------------------------------------------

    def genesis(self, hive_id: str) -> dict[str, Any]:
        """Found a hive.

        Raises:
            AlreadyInHiveError: this node belongs to one.
            InvalidParamsError: the name is none.
        """
        membership, now = self.membership, self._now()
        if membership.own() is not None:
            raise AlreadyInHiveError(
                f"Genesis already performed: this node is a member of {membership.hive_id()}",
                hive_id=membership.hive_id(),
            )
        hive_id = hive_id or f"hive_{secrets.token_hex(8)}"
        if not hive_id.isprintable() or (problem := tickets.HIVE_ID(hive_id)):
            raise InvalidParamsError(
                f"hive_id: {'holds unprintable characters' if not hive_id.isprintable() else problem}"
            )
        left = membership.members.departure(membership.me)
        joined_at = max(now, left.left_at + 1 if left else 0)
        signature = self.signer.sign(records.genesis_text(hive_id, membership.me, joined_at))
        founder = MembershipRecord(
            records.GENESIS, hive_id, membership.me, records.FOUNDER_TIER, joined_at, membership.me, signature
        )
        # Good for the founder itself alone: a year is long for a credential that somebody may find.
        ticket = self.gatekeeper.issue(hive_id, GENESIS_TICKET_HOURS, peer_id=membership.me)
        membership.found(founder, self.identity.addresses)
        request = self.joins.get()
        if request is not None and request.open:
            self.joins.mark("refused", "this node founded a hive of its own", now)
        self.gossip.refresh(self._connected)
        return {
            "status": "genesis_complete",
            "hive_id": hive_id,
            "admin_pubkey": membership.me,
            "genesis_ticket": ticket.encode(),
        }

    def invite(self, hours: int, requirements: int, tier: str, uses: int, peer_id: str) -> dict[str, Any]:
        """Issue a ticket.

        Raises:
            NotInHiveError, NotMemberTierError: this node may not invite.
            InvalidParamsError: nobody joins with that tier, or a requirement bit is unknown.
            LimitError: the hive is full.
        """
        own = self._require_own()
        if own.tier != MEMBER:
            raise NotMemberTierError(
                f"permission_denied: inviting needs tier member, this node is {own.tier}; ask a member to invite",
                current_tier=own.tier,
                required_tier=MEMBER,
            )
        if tier != tickets.JOINER_TIER:
            raise InvalidParamsError(
                f"tier: everybody joins as {tickets.JOINER_TIER} and becomes {MEMBER} by promotion"
            )
        if unknown := requirements & ~features.ALL_BITS:
            names = ", ".join(f"{item.bit} {item.name}" for item in features.REQUIREMENTS)
            raise InvalidParamsError(f"requirements: nobody knows bits {unknown}; known are {names}")
        if peer_id == self.membership.me:
            raise InvalidParamsError("peer_id: this node is a member already; name the node that shall join")
        count = self.membership.members.count()
        if count >= self.settings.max_members:
            raise LimitError(
                f"the hive has {count} members; raise hive-max-members to admit more",
                count=count,
                max_members=self.settings.max_members,
            )
        ticket = self.gatekeeper.issue(
            self.membership.hive_id(), hours, requirements, uses, peer_id, self.identity.addresses[:8]
        )
        return {
            "status": "ticket_generated",
            "ticket": ticket.encode(),
            "hive_id": ticket.hive_id,
            "valid_hours": hours,
            "expires_at": ticket.expires_at,
            "max_uses": uses,
            "peer_id": peer_id,
            "initial_tier": tier,
            "instructions": "on the node that shall join: lightning-cli hive-join ticket=<ticket>",
        }

    def join(self, encoded: str, peer_id: str) -> dict[str, Any]:
        """Ask for admission; the answer comes later, in hive-status.

        Raises:
            AlreadyInHiveError, TicketRefusedError: see Joiner.check.
        """
        ticket = self.joiner.check(encoded, peer_id)
        request = self.joiner.begin(ticket, encoded)
        return {
            "status": "join_requested",
            "target_peer": request.target,
            "hive_id": request.hive_id,
            "message": "the member was asked; hive-status shows the answer under join",
        }

    def leave(self, reason: str) -> dict[str, Any]:
        """Leave the hive and forget it.

        Raises:
            NotInHiveError: there is none.
            CannotLeaveError: nobody could admit any more.
        """
        own = self._require_own()
        admitting = [member for member in self.membership.members.all() if member.tier == MEMBER]
        if own.tier == MEMBER and len(admitting) == 1:
            raise CannotLeaveError(
                "cannot_leave: this is the only node of tier member; promote another one first",
                members=self.membership.members.count(),
            )
        now = max(self._now(), own.joined_at)
        payload = self.post.sign(
            messages.MEMBER_LEFT, {"peer_id": self.membership.me, "timestamp": now, "reason": reason}
        )
        self.post.reliable(self.membership.others(), messages.MEMBER_LEFT, payload)
        self.membership.depart(payload)
        self.post.deliver(self._connected)
        return {
            "status": "left",
            "peer_id": self.membership.me,
            "former_tier": own.tier,
            "reason": reason,
            "message": "this node left the hive; members that are away hear of it within a day, or from each other",
        }

    def join_request(self) -> JoinRequest | None:
        """The last join this node asked for."""
        return self.joins.get()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _settlement(self, store: Store, lightning: Lightning, restored: Restored | None) -> tuple[Payer, Settlement]:
        me, now, wallet = self.identity.node_id, self._now, lightning.wallet
        payments, inputs = PaymentStore(store), InputStore(store)
        payer = Payer(me, payments, inputs, wallet, now)

        def deliver() -> None:
            self.post.deliver(self._connected)

        executions = Executions(
            self.membership,
            SettlementStore(store),
            inputs,
            payments,
            Actions(ActionStore(store), now),
            Hold(me, restored, payments, payer, wallet, now),
            self.post,
            self.counters,
            now,
            deliver,
        )
        settlement = Settlement(
            self.membership,
            Inputs(
                self.membership,
                inputs,
                self.states,
                wallet,
                self.post,
                self.counters,
                now,
                lambda: self._connected,
                lambda period: self.settlement.is_open(period),
            ),
            executions,
            self.post,
            self.counters,
            now,
            deliver,
        )
        return payer, settlement

    @property
    def _connected(self) -> set[str]:
        return set(self._peers)

    def _require_own(self) -> Member:
        own = self.membership.own()
        if own is None:
            raise NotInHiveError("not_a_member: this node belongs to no hive; found one (hive-genesis) or join one")
        return own

    def _is_due(self, name: str, seconds: int) -> bool:
        now = self._now()
        last = self._due.get(name)
        if last is not None and 0 <= now - last < seconds:
            return False
        self._due[name] = now
        return True

    def _look_around(self) -> None:
        before, now = self._peers, self.lightning.connected()
        # What the notification said stands: it is the newer knowledge when an address is missing.
        self._peers = {peer: address or before.get(peer, "") for peer, address in now.items()}
        for peer in before.keys() - now.keys():
            self.sync.forget(peer)

    def _admitted(self, member: Member) -> None:
        self.sync.announce([member])
        self.sync.greet([member.peer_id])

    def _joined(self, inviter: str) -> None:
        self._peers.setdefault(inviter, "")
        self.gossip.refresh(self._connected)
        self.sync.greet([inviter])

    def _on_member_left(self, peer_id: str, payload: dict[str, Any]) -> None:
        message_id = messages.MEMBER_LEFT.event_id(payload)
        actor = payload["peer_id"]
        if actor != peer_id and not self.membership.is_member(peer_id):
            self.counters.add("dropped_stranger")
            return
        if not self.outbox.is_known(message_id):
            departure = {key: payload[key] for key in records.DEPARTURE}
            if self.membership.depart(departure):
                self.sync.announce([], [departure], exclude=[peer_id])
            self.outbox.remember(message_id, messages.MEMBER_LEFT.name, actor, payload["timestamp"], self._now())
        if actor == peer_id:
            self.post.acknowledge(peer_id, message_id)

    def _left_before(self, payload: dict[str, Any]) -> bool:
        # The acknowledgement may have been lost: who has left already is answered again.
        return self.membership.is_member(payload["peer_id"]) or self.outbox.is_known(
            messages.MEMBER_LEFT.event_id(payload)
        )

    def _awaited(self, payload: dict[str, Any]) -> bool:
        return bool(fields.is_hex(payload["ack_msg_id"], 32))

    def _on_ack(self, peer_id: str, payload: dict[str, Any]) -> None:
        if self.joiner.on_answer(peer_id, payload):
            return
        if payload["status"] == "invalid":
            self.outbox.refused(payload["ack_msg_id"], peer_id, str(payload.get("reason", "the peer refused it")))
        elif payload["status"] == "ok":
            self.outbox.acked(payload["ack_msg_id"], peer_id, self._now())
