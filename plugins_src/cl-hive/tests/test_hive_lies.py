"""What a member, or somebody who pretends to be one, can say: only what it can prove is believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cl_hive.protocol import frames, messages, records
from cl_hive.protocol.registry import MessageSpec
from cl_hive.testing import Network, admission, full_sync, item, node_id, signature, signed_by

Fleet = Callable[..., Network]


@pytest.fixture
def trio(fleet: Fleet) -> Network:
    """alpha (member), bravo and charlie (neophytes), a stranger mallory connected to all."""
    network = fleet("alpha", "bravo", "charlie")
    network.add("mallory")
    network.mesh(["alpha", "bravo", "charlie", "mallory"])
    network.run(70)
    return network


def untouched(network: Network) -> bool:
    return all(network.nodes[n].members() == {"alpha", "bravo", "charlie"} for n in ("alpha", "bravo", "charlie"))


def say(network: Network, sender: str, target: str, spec: MessageSpec, payload: dict[str, Any]) -> None:
    network.forge(sender, target, spec.number, payload)
    network.run(2)


def say_members(network: Network, sender: str, target: str, *members: dict[str, Any]) -> None:
    body = full_sync(network.nodes[sender], network, members=list(members))
    say(network, sender, target, messages.FULL_SYNC, body)


def count(network: Network, name: str, counter: str) -> int:
    return network.nodes[name].hive.counters.get(counter)


# -- members ---


def test_a_member_adds_nobody_on_its_word(trio: Network) -> None:
    bare = {"peer_id": node_id("mallory"), "tier": "member", "joined_at": trio.now()}
    say_members(trio, "alpha", "bravo", bare)  # not even the founder
    assert untouched(trio)
    assert count(trio, "bravo", "member_refused_no_proof") == 1


def test_a_neophyte_cannot_admit(trio: Network) -> None:
    say_members(trio, "bravo", "charlie", item(admission(trio, "bravo", "mallory")))
    assert untouched(trio)
    assert count(trio, "charlie", "member_refused_unknown_admitter") == 1


def test_a_stranger_cannot_admit_either(trio: Network) -> None:
    say_members(trio, "bravo", "charlie", item(admission(trio, "mallory", "eve")), item(admission(trio, "eve", "zoe")))
    assert untouched(trio)
    assert count(trio, "charlie", "member_refused_unknown_admitter") == 2


@pytest.mark.parametrize(
    "change",
    [
        {"signature": signature(node_id("bravo"), "x")},
        {"peer_id": node_id("eve")},
        {"consent_signature": signature(node_id("bravo"), "x")},
        {"consent_at": 1_700_000_000},
        {"joined_at": 1_800_000_999},
    ],
)
def test_a_forged_admission_is_refused_and_not_looked_at_twice(trio: Network, change: dict[str, Any]) -> None:
    forged = item(replace(admission(trio, "alpha", "mallory"), **change))
    say_members(trio, "bravo", "charlie", forged)
    say_members(trio, "bravo", "charlie", forged)
    assert untouched(trio)
    refusals = trio.nodes["charlie"].hive.counters.as_dict()
    assert refusals.get("member_refused_forged", 0) + refusals.get("member_refused_future", 0) == 2


def test_nobody_is_made_a_member_without_its_consent(trio: Network) -> None:
    """Alpha may admit, but mallory never asked: the consent was signed by bravo."""
    say_members(trio, "alpha", "charlie", item(admission(trio, "alpha", "mallory", consent_by="bravo")))
    assert untouched(trio)
    assert count(trio, "charlie", "member_refused_forged") == 1


def test_a_second_founder_is_none(trio: Network) -> None:
    now = trio.now()
    text = records.genesis_text("test-hive", node_id("mallory"), now)
    genesis = {
        "kind": "genesis",
        "hive_id": "test-hive",
        "peer_id": node_id("mallory"),
        "joined_at": now,
        "signature": signature(node_id("mallory"), text),
    }
    entry = {"peer_id": node_id("mallory"), "tier": "member", "joined_at": now, "record": genesis}
    say_members(trio, "bravo", "charlie", entry)
    assert untouched(trio)
    assert count(trio, "charlie", "member_refused_unproven_founder") == 1


def test_tiers_and_dates_are_not_changed_by_hearsay(trio: Network) -> None:
    bravo = trio.nodes["charlie"].hive.membership.members.get(node_id("bravo"))
    assert bravo is not None
    for tier, joined_at in [("member", bravo.joined_at), ("member", bravo.joined_at + 5), ("neophyte", 1)]:
        entry = {"peer_id": bravo.peer_id, "tier": tier, "joined_at": joined_at}
        say_members(trio, "alpha", "charlie", entry)
    assert trio.nodes["charlie"].hive.membership.members.get(bravo.peer_id) is not None
    assert trio.nodes["charlie"].hive.membership.members.get(bravo.peer_id).tier == "neophyte"  # type: ignore[union-attr]


def test_an_old_admission_does_not_bring_back_who_left(trio: Network) -> None:
    charlie = trio.nodes["charlie"]
    before = trio.nodes["bravo"].hive.membership.item(
        next(m for m in trio.nodes["bravo"].hive.membership.members.all() if m.peer_id == charlie.id)
    )
    charlie.hive.leave("bye")
    trio.run(4)
    say_members(trio, "bravo", "alpha", before)
    assert trio.nodes["alpha"].members() == {"alpha", "bravo"}
    assert count(trio, "alpha", "member_refused_departed") == 1


def test_an_old_departure_does_not_remove_who_came_back(trio: Network) -> None:
    charlie = trio.nodes["charlie"]
    charlie.hive.leave("bye")
    trio.run(4)
    left = trio.nodes["alpha"].hive.membership.departed()
    charlie.hive.join(trio.nodes["alpha"].hive.invite(24, 0, "neophyte", 1, "")["ticket"], "")
    trio.until(lambda: untouched(trio), 120, "charlie is back")
    say(trio, "bravo", "alpha", messages.FULL_SYNC, full_sync(trio.nodes["bravo"], trio, departed=left))
    replay = next(d for s, _, d in trio.log if s == charlie.id and b'"type":32797' in d)
    trio.post(charlie.id, trio.nodes["bravo"].id, replay)
    trio.run(2)
    assert untouched(trio)


def test_nobody_leaves_on_anothers_word(trio: Network) -> None:
    payload = {"peer_id": node_id("charlie"), "timestamp": trio.now(), "reason": "voluntary"}
    forged = signed_by(trio.nodes["bravo"], messages.MEMBER_LEFT, payload)
    say(trio, "bravo", "alpha", messages.MEMBER_LEFT, forged)
    say(trio, "bravo", "alpha", messages.FULL_SYNC, full_sync(trio.nodes["bravo"], trio, departed=[forged]))
    future = {**payload, "peer_id": node_id("bravo"), "timestamp": trio.now() + 1000}
    signed = signed_by(trio.nodes["bravo"], messages.MEMBER_LEFT, future)
    say(trio, "bravo", "alpha", messages.FULL_SYNC, full_sync(trio.nodes["bravo"], trio, departed=[signed]))
    assert untouched(trio)
    assert count(trio, "alpha", "dropped_signature") == 1
    assert count(trio, "alpha", "departure_refused_signature") == 1


def test_who_has_left_admits_nobody_afterwards(trio: Network) -> None:
    alpha, charlie = trio.nodes["alpha"].hive, trio.nodes["charlie"].hive
    late = item(admission(trio, "alpha", "mallory"))
    left = {"peer_id": node_id("alpha"), "timestamp": trio.now() - 10, "reason": "voluntary"}
    assert charlie.membership.depart(signed_by(trio.nodes["alpha"], messages.MEMBER_LEFT, left))
    assert alpha.membership.own() is not None
    say_members(trio, "bravo", "charlie", late)
    assert "mallory" not in trio.nodes["charlie"].members()
    assert count(trio, "charlie", "member_refused_admitter_had_left") == 1


def test_what_was_admitted_before_the_admitter_left_stands(trio: Network) -> None:
    trio.nodes["charlie"].stop()
    record = item(admission(trio, "alpha", "mallory"))
    trio.run(20)
    left = {"peer_id": node_id("alpha"), "timestamp": trio.now(), "reason": "voluntary"}
    signed = signed_by(trio.nodes["alpha"], messages.MEMBER_LEFT, left)
    trio.nodes["charlie"].start()
    charlie = trio.nodes["charlie"].hive
    assert charlie.membership.depart(signed)
    assert [member.peer_id for member in charlie.membership.merge([record])] == [node_id("mallory")]


# -- states ---


def state_of(trio: Network, name: str, **changes: Any) -> dict[str, Any]:
    state = dict(trio.nodes[name].hive.states.signed(node_id(name)) or {})
    changed = {**state, **changes}
    return signed_by(trio.nodes[name], messages.GOSSIP, changed) if "signature" not in changes else changed


@pytest.mark.parametrize(
    ("changes", "counter"),
    [
        ({"capacity_sats": 1, "available_sats": 2}, "dropped_malformed"),
        ({"topology": ["x"]}, "dropped_malformed"),
        ({"fee_policy": {"a": {"b": 1}}}, "dropped_malformed"),
        ({"peer_id": node_id("charlie")}, "dropped_malformed"),
        ({"timestamp": 1_700_000_000}, "dropped_stale"),
        ({"timestamp": 1_900_000_000}, "dropped_stale"),
        ({"signature": signature(node_id("mallory"), "x")}, "dropped_signature"),
        ({"sender_id": node_id("mallory"), "peer_id": node_id("mallory")}, "dropped_known"),
    ],
)
def test_a_state_that_is_wrong_is_dropped(trio: Network, changes: dict[str, Any], counter: str) -> None:
    version = trio.nodes["bravo"].hive.states.version(node_id("bravo")) + 1
    payload = state_of(trio, "bravo", **({"timestamp": trio.now(), "version": version} | changes))
    before = count(trio, "alpha", counter)
    say(trio, "bravo", "alpha", messages.GOSSIP, payload)
    assert count(trio, "alpha", counter) == before + 1
    assert trio.nodes["alpha"].hive.states.version(node_id("bravo")) == version - 1


def test_an_older_version_never_replaces_a_newer_one(trio: Network) -> None:
    bravo = trio.nodes["bravo"]
    old = state_of(trio, "bravo", timestamp=trio.now())
    trio.run(310)
    known = trio.nodes["alpha"].hive.states.signed(bravo.id)
    say(trio, "bravo", "alpha", messages.GOSSIP, {**old})
    body = full_sync(trio.nodes["charlie"], trio, states=[old])
    say(trio, "charlie", "alpha", messages.FULL_SYNC, body)
    assert trio.nodes["alpha"].hive.states.signed(bravo.id) == known


def test_a_member_cannot_make_up_anothers_state(trio: Network) -> None:
    state = state_of(trio, "charlie", version=99, capacity_sats=10**9, timestamp=trio.now())
    state["signature"] = signature(node_id("bravo"), messages.gossip_text(state))
    say(trio, "bravo", "alpha", messages.FULL_SYNC, full_sync(trio.nodes["bravo"], trio, states=[state]))
    say(trio, "bravo", "alpha", messages.GOSSIP, state)
    assert trio.nodes["alpha"].hive.states.version(node_id("charlie")) < 99
    assert count(trio, "alpha", "state_refused_signature") == 1
    assert count(trio, "alpha", "dropped_signature") == 1


def test_a_full_sync_that_is_not_what_its_signature_says_is_dropped(trio: Network) -> None:
    bravo = trio.nodes["bravo"]
    body = full_sync(bravo, trio)
    changed = {**body, "members": [{"peer_id": node_id("mallory"), "tier": "member", "joined_at": 5}]}
    say(trio, "bravo", "alpha", messages.FULL_SYNC, changed)
    wrong_hash = signed_by(bravo, messages.FULL_SYNC, {**body, "fleet_hash": "00" * 32})
    say(trio, "bravo", "alpha", messages.FULL_SYNC, wrong_hash)
    old = signed_by(bravo, messages.FULL_SYNC, {**body, "timestamp": trio.now() - 4000})
    say(trio, "bravo", "alpha", messages.FULL_SYNC, old)
    relayed = full_sync(trio.nodes["charlie"], trio)
    say(trio, "bravo", "alpha", messages.FULL_SYNC, relayed)
    counters = trio.nodes["alpha"].hive.counters
    assert (
        counters.get("dropped_signature"),
        counters.get("dropped_malformed"),
        counters.get("dropped_stale"),
        counters.get("dropped_speaks_for_another"),
    ) == (1, 1, 1, 1)


# -- strangers and rubbish ---


def test_strangers_are_not_heard(trio: Network) -> None:
    mallory = trio.nodes["mallory"]
    hashes = {"sender_id": mallory.id, "fleet_hash": "", "timestamp": trio.now(), "peer_count": 1}
    say(trio, "mallory", "alpha", messages.STATE_HASH, signed_by(mallory, messages.STATE_HASH, hashes))
    say(trio, "mallory", "alpha", messages.FULL_SYNC, full_sync(mallory, trio))
    left = {"peer_id": node_id("charlie"), "timestamp": trio.now(), "reason": "x"}
    say(trio, "mallory", "alpha", messages.MEMBER_LEFT, signed_by(trio.nodes["charlie"], messages.MEMBER_LEFT, left))
    assert count(trio, "alpha", "dropped_stranger") == 3
    assert untouched(trio)
    assert not any(b'"type":32781' in data for _, data in mallory.inbox)


def test_rubbish_is_counted_and_nothing_else(trio: Network) -> None:
    alpha = trio.nodes["alpha"].hive
    before = alpha.counters.as_dict()
    bad = {
        "oversize": b"HIVE" + b"x" * frames.MAX_BYTES,
        "json": b"HIVE{nothing",
        "shape": b"HIVE[]",
        "version": b'HIVE{"type":32769,"version":3,"payload":{}}',
        "type": b'HIVE{"type":32800,"version":1,"payload":{}}',
        "malformed": b'HIVE{"type":32769,"version":1,"payload":{"pubkey":1}}',
    }
    for data in (*bad.values(), b"\x00\x07other plugins have messages too", b""):
        alpha.receive(node_id("mallory"), data)
    grown = {name: n - before.get(name, 0) for name, n in alpha.counters.as_dict().items() if n != before.get(name, 0)}
    assert grown == {f"dropped_{name}": 1 for name in bad}


def test_a_flood_is_limited(trio: Network) -> None:
    for _ in range(200):
        trio.forge("mallory", "alpha", messages.HELLO.number, {"pubkey": node_id("mallory")})
    trio.run(0)
    answers = [data for _, data in trio.nodes["mallory"].inbox if b'"type":32881' in data]
    assert len(answers) == 12
    assert count(trio, "alpha", "dropped_rate") == 188


def test_a_silent_lightningd_loses_messages_but_breaks_nothing(trio: Network) -> None:
    alpha = trio.nodes["alpha"]
    alpha.frozen = True
    trio.run(310)
    assert count(trio, "alpha", "dropped_unavailable") > 0
    alpha.frozen = False
    trio.until(
        lambda: len({trio.nodes[n].hive.sync.hashes() for n in ("alpha", "bravo", "charlie")}) == 1, 700, "healed"
    )
