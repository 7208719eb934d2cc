"""A network of nodes in one process, with a clock of its own: for tests of the protocol, with all that can go wrong."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from hive_kit.errors import UnavailableError
from hive_kit.node import UNKNOWN_METHOD, RpcError
from hive_kit.options import Options
from hive_kit.restored import read_note
from hive_kit.store import Store

from cl_hive.app import HiveApplication
from cl_hive.main import SPEC
from cl_hive.migrations import MIGRATIONS
from cl_hive.options import OPTIONS, Settings
from cl_hive.protocol import frames, messages, records
from cl_hive.protocol.canonical import fleet_hash
from cl_hive.protocol.messages import state_rows
from cl_hive.protocol.records import MembershipRecord
from cl_hive.protocol.registry import MessageSpec
from cl_hive.protocol.ticket import Ticket
from cl_hive.services.hive import Hive
from cl_hive.services.lightning import Identity, Lightning
from cl_hive.services.siblings import Siblings
from cl_hive.testing_wallet import Ledger, SimWallet

T = TypeVar("T")
START: Final = 1_800_000_000
TICK: Final = 2
_ZBASE: Final = "ybndrfg8ejkmcpqxot1uwisza345h769"
RELEASE: Final = "cl-hive v0.1.0"


def node_id(name: str) -> str:
    """The node id of a name, always the same."""
    return "02" + hashlib.sha256(name.encode()).hexdigest()


def signature(signer: str, text: str) -> str:
    """A signature that only depends on signer and text; the network knows whose it is, as nobody else can make it."""
    stream = b"".join(hashlib.sha256(f"{signer}|{i}|{text}".encode()).digest() for i in range(4))
    return "".join(_ZBASE[byte % 32] for byte in stream[:104])


@dataclass
class Faults:
    """What the network does to messages: shares from 0 to 1, delays in seconds."""

    loss: float = 0.0
    duplication: float = 0.0
    longest_delay: int = 0


class Desk(HiveApplication):
    """The RPC methods of a simulated node: the same code, on one thread."""

    def __init__(self, node: SimNode) -> None:
        self._node = node

    @property
    def hive(self) -> Hive:
        """The node's hive."""
        return self._node.hive

    def command(self, work: Callable[[Hive], T]) -> T:
        """Run it here and now."""
        return work(self._node.hive)


@dataclass
class SimNode:
    """One lightningd with the plugin, or with only an attacker behind it when `hive` is never asked."""

    name: str
    network: Network
    path: Path
    options: dict[str, Any] = field(default_factory=dict)
    features: str = "08a0880a8a59a1"
    frozen: bool = False

    def __post_init__(self) -> None:
        self.id = node_id(self.name)
        self.inbox: list[tuple[str, bytes]] = []
        self._store: Store | None = None
        self.running: Hive | None = None
        self.wallet = SimWallet(self.id, self.network.ledger)

    @property
    def hive(self) -> Hive:
        """The plugin; started when first asked for."""
        if self.running is None:
            self.start()
        assert self.running is not None
        return self.running

    def start(self) -> None:
        """Start the plugin on what its database holds."""
        self._store = Store.open(self.path, "cl-hive", MIGRATIONS, "0.1.0")
        options = Options(OPTIONS, self.options, self.path.parent)
        lightning = Lightning(self)
        self.running = Hive(
            Identity(self.id, (f"127.0.0.1:{9735 + self.network.number(self.id)}",)),
            self._store,
            lightning,
            Settings(options),
            Siblings(),
            RELEASE,
            self.network.now,
            read_note(self.path),
        )

    def stop(self) -> None:
        """The plugin is gone; lightningd and its connections stay."""
        if self._store is not None:
            self._store.close()
        self.running = None

    def rpc(self, method: str, **params: Any) -> dict[str, Any]:
        """What the operator's call answers."""
        return SPEC.method(method).call(Desk(self), params)

    def members(self) -> set[str]:
        """Names of the members this node lists."""
        names = {node.id: node.name for node in self.network.nodes.values()}
        return {names[member.peer_id] for member in self.hive.membership.members.all()}

    # -- lightningd ---------------------------------------------------------------------------------------------------

    def call(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30.0) -> dict[str, Any]:
        """See `hive_kit.node.Node.call`."""
        given = dict(params or {})
        if self.frozen:
            raise UnavailableError(f"{method} did not answer within {timeout:g} s")
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "signmessage": lambda p: {"zbase": signature(self.id, p["message"])},
            "checkmessage": lambda p: {"verified": signature(p["pubkey"], p["message"]) == p["zbase"]},
            "sendcustommsg": self._send,
            "listpeers": self._peers,
            "listpeerchannels": self._channels,
            "connect": self._connect,
            **self.wallet.methods(),
        }
        if method not in answers:
            raise RpcError(method, UNKNOWN_METHOD, f"Unknown command '{method}'")
        return answers[method](given)

    def _send(self, params: dict[str, Any]) -> dict[str, Any]:
        target = params["node_id"]
        if not self.network.linked(self.id, target):
            raise RpcError("sendcustommsg", -32600, f"No such peer: {target}")
        self.network.post(self.id, target, bytes.fromhex(params["msg"]))
        return {"status": "Message sent to connectd for delivery"}

    def _peers(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("id")
        rows = [
            {"id": node.id, "connected": True, "features": node.features, "netaddr": ["127.0.0.1:9735"]}
            for node in self.network.nodes.values()
            if self.network.linked(self.id, node.id) and wanted in (None, node.id)
        ]
        return {"peers": rows}

    def _channels(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("id")
        rows = [
            {
                "peer_id": peer,
                "state": "CHANNELD_NORMAL",
                "total_msat": 2_000_000_000,
                "to_us_msat": 1_000_000_000,
                "fee_base_msat": 1000,
                "fee_proportional_millionths": 10,
            }
            for peer in sorted(self.network.channels_of(self.id))
            if wanted in (None, peer)
        ]
        return {"channels": rows}

    def _connect(self, params: dict[str, Any]) -> dict[str, Any]:
        peer = str(params["id"]).split("@", maxsplit=1)[0]
        if peer not in {node.id for node in self.network.nodes.values()}:
            raise RpcError("connect", 400, "All addresses failed")
        self.network.link(self.id, peer)
        return {"id": peer}


class Network:
    """Nodes, links between them, and messages under way."""

    def __init__(self, directory: Path, seed: int = 0) -> None:
        """Args: directory: for the databases. seed: of everything that happens by chance."""
        self.directory = directory
        self.nodes: dict[str, SimNode] = {}
        self.faults = Faults()
        self.time = START
        self.ledger = Ledger(self.now)
        self.log: list[tuple[str, str, bytes]] = []
        self._links: set[frozenset[str]] = set()
        self._channels: set[frozenset[str]] = set()
        self._chance = random.Random(seed)
        self._queue: list[tuple[int, int, str, str, bytes]] = []
        self._order = itertools.count()

    def now(self) -> int:
        """Unix seconds of the network's clock."""
        return self.time

    def add(self, name: str, **options: Any) -> SimNode:
        """A new node; options by name, with underscores."""
        given = {key.replace("_", "-"): value for key, value in options.items()}
        node = SimNode(name, self, self.directory / f"{name}.db", given)
        self.nodes[name] = node
        return node

    def number(self, peer: str) -> int:
        """Position of a node, for its address."""
        return [node.id for node in self.nodes.values()].index(peer)

    def link(self, one: str, other: str, channel: bool = False) -> None:
        """Connect two nodes (ids); with a channel or without."""
        pair = frozenset((one, other))
        if channel:
            self._channels.add(pair)
        if pair in self._links:
            return
        self._links.add(pair)
        for here, there in ((one, other), (other, one)):
            node = self._node(here)
            if node.running is not None:
                node.running.connected(there, "127.0.0.1")

    def unlink(self, one: str, other: str) -> None:
        """Disconnect two nodes."""
        self._links.discard(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            node = self._node(here)
            if node.running is not None:
                node.running.disconnected(there)

    def mesh(self, names: Iterable[str]) -> None:
        """Connect all with all, with channels."""
        for one, other in itertools.combinations(names, 2):
            self.link(self.nodes[one].id, self.nodes[other].id, channel=True)

    def line(self, names: list[str]) -> None:
        """Connect each with the next, with channels."""
        for one, other in itertools.pairwise(names):
            self.link(self.nodes[one].id, self.nodes[other].id, channel=True)

    def linked(self, one: str, other: str) -> bool:
        """Whether two nodes are connected."""
        return frozenset((one, other)) in self._links

    def channels_of(self, one: str) -> set[str]:
        """Node ids with a channel to this node."""
        return {peer for pair in self._channels if one in pair for peer in pair if peer != one}

    def post(self, sender: str, target: str, data: bytes) -> None:
        """Put a message on its way; the faults decide what becomes of it."""
        self.log.append((sender, target, data))
        copies = 1 + (self._chance.random() < self.faults.duplication)
        for _ in range(copies):
            if self._chance.random() >= self.faults.loss:
                delay = self._chance.randint(0, self.faults.longest_delay)
                heapq.heappush(self._queue, (self.time + delay, next(self._order), sender, target, data))

    def forge(self, sender: str, target: str, type_number: int, payload: dict[str, Any]) -> None:
        """Send whatever an attacker likes from a node (names)."""
        data = frames.encode(type_number, payload)
        self.post(self.nodes[sender].id, self.nodes[target].id, data)

    def run(self, seconds: int) -> None:
        """Let time pass."""
        end = self.time + seconds
        while True:
            self._deliver()
            for node in self.nodes.values():
                if node.running is not None and not node.frozen:
                    node.running.tick(self._reach(node))
            self._deliver()
            if self.time >= end:
                return
            self.time += TICK

    def until(self, predicate: Callable[[], bool], seconds: int, what: str) -> int:
        """Let time pass until something holds. Returns how many seconds it took.

        Raises:
            AssertionError: it never did.
        """
        begin = self.time
        while not predicate():
            if self.time - begin >= seconds:
                raise AssertionError(f"after {seconds} s of the network's time still not: {what}")
            self.run(TICK)
        return self.time - begin

    def _reach(self, node: SimNode) -> str:
        assert node.running is not None
        pending = node.running.joiner.pending()
        if pending is None or self.linked(node.id, pending[0]):
            return ""
        return node.running.lightning.connect(pending[0], pending[1])

    def _deliver(self) -> None:
        while self._queue and self._queue[0][0] <= self.time:
            _, _, sender, target, data = heapq.heappop(self._queue)
            node = self._node(target)
            node.inbox.append((sender, data))
            if node.running is not None and self.linked(sender, target):
                node.running.receive(sender, data)

    def _node(self, peer: str) -> SimNode:
        return next(node for node in self.nodes.values() if node.id == peer)


# -- what an attacker can make: everything that its own key can sign ---


def signed_by(node: SimNode, spec: MessageSpec, payload: dict[str, Any]) -> dict[str, Any]:
    """The payload with a signature of this node."""
    assert spec.signed is not None
    return {**payload, "signature": signature(node.id, spec.signed.text(payload))}


def full_sync(sender: SimNode, network: Network, **parts: Any) -> dict[str, Any]:
    """A signed FULL_SYNC with these members, states and departed."""
    states = parts.get("states", [])
    body = {
        "sender_id": sender.id,
        "fleet_hash": fleet_hash(state_rows(states)),
        "timestamp": network.now(),
        "states": states,
        "members": parts.get("members", []),
        "departed": parts.get("departed", []),
    }
    return signed_by(sender, messages.FULL_SYNC, body)


def admission(network: Network, admitter: str, joiner: str, consent_by: str = "", **changes: Any) -> MembershipRecord:
    """An admission as the admitter would make it; the consent may be somebody else's signature."""
    by, who, now = node_id(admitter), node_id(joiner), network.now()
    ticket = Ticket(by, "test-hive", 0, now, now + 3600, serial="ab" * 32)
    ticket = replace(ticket, signature=signature(by, ticket.signed_text()))
    consent = signature(node_id(consent_by or joiner), records.consent_text("test-hive", who, ticket.digest(), now))
    text = records.admission_text("test-hive", who, "neophyte", now, by, ticket.digest())
    record = MembershipRecord(
        records.ADMISSION, "test-hive", who, "neophyte", now, by, signature(by, text), ticket, now, consent
    )
    return replace(record, **changes)


def item(record: MembershipRecord, tier: str = "neophyte") -> dict[str, Any]:
    """A member as FULL_SYNC carries it."""
    return {
        "peer_id": record.peer_id,
        "tier": tier,
        "joined_at": record.joined_at,
        "record": record.document(),
    }


def welcome(network: Network, sender: str, joiner: str) -> dict[str, Any]:
    """A WELCOME of a hive that the sender pretends to have founded, complete with the joiner's signature."""
    by = network.nodes[sender]
    now = network.now()
    genesis = {
        "kind": "genesis",
        "hive_id": "test-hive",
        "peer_id": by.id,
        "joined_at": now,
        "signature": signature(by.id, records.genesis_text("test-hive", by.id, now)),
    }
    return {
        "hive_id": "test-hive",
        "tier": "neophyte",
        "member_count": 2,
        "state_hash": "",
        "admission": admission(network, sender, joiner).document(),
        "lineage": [{"peer_id": by.id, "tier": "member", "joined_at": now, "record": genesis}],
    }
