"""The parts of the hive, one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cl_hive.migrations import MIGRATIONS
from cl_hive.protocol import features, messages
from cl_hive.protocol.canonical import canonical_json
from cl_hive.protocol.registry import MessageSpec, Rate
from cl_hive.services import vpn
from cl_hive.services.gossip import RELAY_TTL, reason_to_speak, relayed
from cl_hive.services.lightning import Lightning
from cl_hive.services.limits import Counters, RateLimiter, Waiting
from cl_hive.services.signing import Signer
from cl_hive.services.sync import pages
from cl_hive.storage import outbox as outbox_store
from cl_hive.storage.outbox import Outbox, retry_delay
from cl_hive.testing import node_id, signature
from hive_kit.errors import UnavailableError
from hive_kit.node import RpcError
from hive_kit.siblings import Probe, Sibling
from hive_kit.store import Store
from hive_kit.testing import FakeNode
from hypothesis import given
from hypothesis import strategies as st

ALPHA, BRAVO, CHARLIE = node_id("alpha"), node_id("bravo"), node_id("charlie")
NOW = 1_800_000_000


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "cl_hive.db", "cl-hive", MIGRATIONS, "0.1.0") as opened:
        yield opened


# -- limits ---


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_a_window_slides() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    assert [limiter.allow("a", Rate(2, 10)) for _ in range(3)] == [True, True, False]
    assert limiter.allow("b", Rate(2, 10))
    clock.time = 9.9
    assert not limiter.allow("a", Rate(2, 10))
    clock.time = 10
    assert limiter.allow("a", Rate(2, 10))


def test_a_clock_that_goes_back_locks_nobody_out() -> None:
    clock = Clock()
    clock.time = 1000
    limiter = RateLimiter(clock)
    assert limiter.allow("a", Rate(1, 10))
    clock.time = 5
    assert limiter.allow("a", Rate(1, 10))


def test_memory_is_bounded() -> None:
    limiter = RateLimiter(Clock(), max_keys=3)
    for key in "abcd":
        limiter.allow(key, Rate(1, 10))
    assert limiter.allow("a", Rate(1, 10))  # forgotten
    assert not limiter.allow("d", Rate(1, 10))


def test_waiting_messages_are_counted_and_lost_ones_forgotten() -> None:
    clock = Clock()
    waiting = Waiting(2, clock)
    assert [waiting.enter(peer) for peer in "aaab"] == [True, True, False, True]
    waiting.leave("a")
    waiting.leave("nobody")
    assert [waiting.enter("a"), waiting.enter("a")] == [True, False]
    clock.time = 60
    assert waiting.enter("a")
    assert waiting.refused == 2


def test_counters_are_sorted() -> None:
    counters = Counters()
    for name in "bab":
        counters.add(name)
    assert counters.as_dict() == {"a": 1, "b": 2}


# -- vpn ---


@pytest.mark.parametrize(
    ("mode", "required", "address", "spec", "expected"),
    [
        ("any", "all", "", messages.GOSSIP, "accept"),
        ("vpn-only", "all", "10.8.0.5", messages.HELLO, "accept"),
        ("vpn-only", "all", "10.8.0.5:9735", messages.HELLO, "accept"),
        ("vpn-only", "all", "[fd00::1]:9735", messages.HELLO, "accept"),
        ("vpn-only", "all", "1.2.3.4", messages.HELLO, "refuse"),
        ("vpn-only", "all", "", messages.HELLO, "refuse"),
        ("vpn-only", "all", "abcdef.onion", messages.HELLO, "refuse"),
        ("vpn-only", "none", "1.2.3.4", messages.HELLO, "accept"),
        ("vpn-only", "gossip", "1.2.3.4", messages.GOSSIP, "refuse"),
        ("vpn-only", "gossip", "1.2.3.4", messages.FULL_SYNC, "accept"),
        ("vpn-only", "gossip,sync", "1.2.3.4", messages.FULL_SYNC, "refuse"),
        ("vpn-preferred", "all", "1.2.3.4", messages.GOSSIP, "accept-outside"),
        ("vpn-preferred", "all", "10.8.0.5", messages.GOSSIP, "accept"),
    ],
)
def test_the_vpn_gate(mode: str, required: str, address: str, spec: MessageSpec, expected: str) -> None:
    subnets = ("10.8.0.0/24", "fd00::/8")
    assert vpn.verdict(mode, frozenset(required.split(",")), subnets, address, spec) == expected


# -- features ---


def test_requirements_are_the_bits_of_bolt_9() -> None:
    assert features.missing(1, 1 << 63) == []
    assert features.missing(1, 1 << 162) == []
    assert features.missing(15, 0) == ["splice", "dual-fund", "anchor", "onion-messages"]
    assert features.missing(4, features.parse_features("0898880a8a59a1")) == []
    assert features.missing(16, 0) == ["requirement bits 16"]
    assert features.names(1 << 39) == ["onion-messages"]
    assert (features.parse_features(""), features.parse_features("xyz")) == (0, 0)


# -- gossip ---


STATE = {"capacity_sats": 1000, "fee_policy": {"fee_ppm": 1}, "topology": [BRAVO], "timestamp": NOW}


@pytest.mark.parametrize(
    ("changes", "later", "expected"),
    [
        ({}, 0, ""),
        ({}, 299, ""),
        ({}, 300, "heartbeat"),
        ({}, -5, "heartbeat"),
        ({"capacity_sats": 1100}, 20, ""),
        ({"capacity_sats": 1101}, 20, "capacity"),
        ({"capacity_sats": 899}, 20, "capacity"),
        ({"capacity_sats": 899}, 9, ""),
        ({"fee_policy": {"fee_ppm": 2}}, 20, "fee_policy"),
        ({"topology": []}, 20, "topology"),
        ({"nostr": {"pubkey": "x"}}, 20, "nostr"),
    ],
)
def test_when_a_gossip_is_due(changes: dict[str, Any], later: int, expected: str) -> None:
    assert reason_to_speak(STATE, {**STATE, **changes}, NOW + later, 0.10, 300) == expected


def test_the_first_gossip_is_always_due() -> None:
    assert reason_to_speak(None, STATE, NOW, 0.1, 300) == "first"


def test_a_gossip_is_passed_on_a_few_times_and_never_in_circles() -> None:
    payload: dict[str, Any] = {"sender_id": ALPHA, "timestamp": NOW}
    hops = 0
    for hop in range(10):
        onward = relayed(payload, node_id(str(hop)), "id")
        if onward is None:
            break
        payload, hops = onward, hops + 1
    assert hops == RELAY_TTL - 1
    assert payload["_relay"]["relay_path"] == [node_id("0"), node_id("1")]
    assert payload["_relay"]["origin"] == ALPHA
    fresh = relayed({"sender_id": ALPHA, "timestamp": NOW}, BRAVO, "id")
    assert fresh is not None
    assert relayed(fresh, BRAVO, "id") is None
    for odd in ({"ttl": "x"}, {"ttl": True}, {"relay_path": 5}, {"ttl": 0}, {"ttl": 3, "relay_path": ["x"] * 10}):
        assert relayed({"sender_id": ALPHA, "timestamp": NOW, "_relay": odd}, BRAVO, "id") is None
    greedy = relayed({"sender_id": ALPHA, "timestamp": NOW, "_relay": {"ttl": 99}}, BRAVO, "id")
    assert greedy is not None
    assert greedy["_relay"]["ttl"] == RELAY_TTL - 1


# -- sync ---


entries = st.lists(st.integers(1, 80).map(lambda n: {"x": "y" * n}), max_size=15)


@given(entries, entries, entries)
def test_pages_hold_everything_once_and_fit(a: list[Any], b: list[Any], c: list[Any]) -> None:
    cut = list(pages(a, b, c, 200))
    for position, whole in enumerate((a, b, c)):
        assert [entry for page in cut for entry in page[position]] == whole
    for page in cut:
        sizes = [len(canonical_json(entry)) + 1 for part in page for entry in part]
        assert sum(sizes) <= 200
        assert sizes


# -- outbox ---


def test_retries_double_up_to_an_hour() -> None:
    assert [retry_delay(n, 0) for n in (1, 2, 3, 8, 30)] == [30, 60, 120, 3600, 3600]
    assert retry_delay(1, 1) == 37


def test_a_parcel_is_sent_until_it_is_acknowledged(store: Store) -> None:
    outbox = Outbox(store)
    outbox.add("m", BRAVO, 1, {"a": 1}, NOW)
    outbox.add("m", BRAVO, 1, {"a": 1}, NOW)
    (parcel,) = outbox.due(NOW)
    assert (parcel.payload, parcel.retry_count) == ({"a": 1}, 0)
    outbox.sent(parcel, NOW)
    assert outbox.due(NOW + 29) == []
    assert len(outbox.due(NOW + 38)) == 1
    assert not outbox.acked("m", CHARLIE, NOW)
    assert outbox.acked("m", BRAVO, NOW)
    assert not outbox.acked("m", BRAVO, NOW)
    assert outbox.due(NOW + 4000) == []
    assert outbox.counts() == {"acked": 1}


def test_a_parcel_is_given_up_after_a_day_or_twenty_tries(store: Store) -> None:
    outbox = Outbox(store)
    outbox.add("m", BRAVO, 1, {}, NOW)
    time = NOW
    for _ in range(outbox_store.MAX_TRIES):
        time += 4600
        for parcel in outbox.due(min(time, NOW + 86_399)):
            outbox.sent(parcel, min(time, NOW + 1))
    assert outbox.counts() == {"failed": 1}
    outbox.add("n", BRAVO, 1, {}, NOW)
    assert outbox.due(NOW + 86_400) == []
    assert outbox.counts() == {"expired": 1, "failed": 1}
    outbox.prune(NOW + 3 * 86_400)
    assert outbox.counts() == {}


def test_one_peer_does_not_fill_the_line(store: Store) -> None:
    outbox = Outbox(store)
    for number in range(30):
        outbox.add(str(number), BRAVO, 1, {}, NOW)
    outbox.add("x", CHARLIE, 1, {}, NOW)
    due = outbox.due(NOW)
    assert [parcel.peer_id for parcel in due].count(BRAVO) == 10
    assert due[-1].peer_id == CHARLIE


def test_a_full_outbox_drops_its_oldest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_store, "MAX_OUTBOX_ROWS", 3)
    outbox = Outbox(store)
    for number in range(5):
        outbox.add(str(number), node_id(str(number)), 1, {}, NOW)
    assert [parcel.msg_id for parcel in outbox.due(NOW)] == ["2", "3", "4"]


def test_an_event_is_remembered_once(store: Store) -> None:
    outbox = Outbox(store)
    assert outbox.remember("e", "MEMBER_LEFT", BRAVO, NOW, NOW)
    assert not outbox.remember("e", "MEMBER_LEFT", BRAVO, NOW, NOW)
    assert outbox.is_known("e")
    outbox.prune(NOW + 31 * 86_400)
    assert not outbox.is_known("e")


# -- signing ---


def archon_signs(params: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "signature": signature(ALPHA, f"{params['domain']}|{params['message']}")}


def signing_node(archon: Callable[[dict[str, Any]], dict[str, Any]] | Exception | dict[str, Any]) -> FakeNode:
    return FakeNode(
        {
            "signmessage": lambda p: {"zbase": signature(ALPHA, p["message"])},
            "checkmessage": lambda p: {"verified": signature(p["pubkey"], p["message"]) == p["zbase"]},
            "hive-archon-status": {"ok": True},
            "hive-archon-sign-message": archon,
        }
    )


def signer_with(node: FakeNode) -> Signer:
    archon = Sibling(Probe("cl-hive-archon", "hive-archon-status"), node)
    archon.look()
    return Signer(Lightning(node), archon)


def test_archon_signs_with_the_domain_in_front() -> None:
    signer = signer_with(signing_node(archon_signs))
    text = signer.sign("text")
    assert text == signature(ALPHA, "hive|text")
    assert signer.backend == "archon"
    assert signer.check("text", text, ALPHA)
    assert signer.check("text", signature(ALPHA, "text"), ALPHA)
    assert not signer.check("text", text, BRAVO)
    assert not signer.check("other", text, ALPHA)
    assert not signer.check("text", "", ALPHA)


@pytest.mark.parametrize(
    "failure",
    [
        {"ok": True, "signature": ""},
        {"ok": True},
        {"ok": False, "error": "no"},
        UnavailableError("did not answer"),
        RpcError("hive-archon-sign-message", 6003, "refused"),
        RpcError("hive-archon-sign-message", -32601, "Unknown command"),
    ],
)
def test_without_a_signature_of_archon_the_node_signs(failure: Any) -> None:
    signer = signer_with(signing_node(failure))
    assert signer.sign("text") == signature(ALPHA, "text")
    assert (signer.counts.archon, signer.counts.node, signer.counts.fallbacks) == (0, 1, 1)


def test_when_archon_returns_it_signs_again() -> None:
    node = signing_node(RpcError("hive-archon-sign-message", -32601, "Unknown command"))
    signer = signer_with(node)
    signer.sign("text")
    assert signer.backend == "node"
    node.answers["hive-archon-sign-message"] = archon_signs
    assert signer.archon is not None
    signer.archon.look()
    assert signer.sign("text") == signature(ALPHA, "hive|text")


def test_nothing_leaves_unsigned() -> None:
    node = signing_node(archon_signs)
    for answer in ({"zbase": ""}, UnavailableError("did not answer"), RpcError("signmessage", -1, "no")):
        node.answers["signmessage"] = answer
        with pytest.raises(UnavailableError):
            Signer(Lightning(node)).sign("text")


# -- lightningd ---


def test_addresses_are_what_others_can_reach() -> None:
    node = FakeNode(
        {
            "getinfo": {
                "id": ALPHA,
                "address": [{"type": "ipv4", "address": "1.2.3.4", "port": 9735}],
                "binding": [
                    {"type": "ipv4", "address": "0.0.0.0", "port": 9735},
                    {"type": "ipv6", "address": "::1", "port": 9736},
                    {"type": "local socket", "socket": "/x"},
                ],
                "our_features": {"init": "8000000000"},
            }
        }
    )
    identity = Lightning(node).identity()
    assert identity.addresses == ("1.2.3.4:9735", "[::1]:9736")
    assert features.names(identity.features) == ["onion-messages"]


def test_channels_are_summed() -> None:
    rows = [
        {"state": "CHANNELD_NORMAL", "peer_id": BRAVO, "total_msat": 3_000_000, "to_us_msat": 1_500_999},
        {"state": "CHANNELD_NORMAL", "peer_id": ALPHA, "total_msat": "1000000msat", "to_us_msat": "0msat"},
        {"state": "ONCHAIN", "peer_id": CHARLIE, "total_msat": 9_000_000, "to_us_msat": 9_000_000},
    ]
    summary = Lightning(FakeNode({"listpeerchannels": {"channels": rows}})).channels()
    assert (summary.capacity_sats, summary.available_sats) == (4000, 1500)
    assert summary.topology == tuple(sorted([ALPHA, BRAVO]))
    assert Lightning(FakeNode({"listpeerchannels": {"channels": []}})).channels().fee_policy == {}


def test_a_message_too_long_for_lightningd_is_never_handed_to_it() -> None:
    node = FakeNode({"sendcustommsg": {}})
    with pytest.raises(ValueError, match="65536"):
        Lightning(node).send(BRAVO, b"x" * 65_536)
    assert node.calls == []
    assert Lightning(node).send(BRAVO, b"x" * 65_535)


def test_connect_tries_the_addresses_and_then_gossip() -> None:
    def connect(params: dict[str, Any]) -> dict[str, Any]:
        if "@" in params["id"]:
            raise RpcError("connect", 400, "refused")
        return {"id": BRAVO}

    node = FakeNode({"connect": connect})
    assert Lightning(node).connect(BRAVO, ["1.2.3.4:9735"]) == ""
    assert [params["id"] for _, params in node.calls] == [f"{BRAVO}@1.2.3.4:9735", BRAVO]
    node.answers["connect"] = RpcError("connect", 400, "All addresses failed")
    assert Lightning(node).connect(BRAVO, []) == "All addresses failed"
