"""What somebody outside can send to get in, and what becomes of it: nothing but a count and an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cl_hive.errors import AlreadyInHiveError, TicketRefusedError
from cl_hive.protocol import messages, records
from cl_hive.protocol import ticket as tickets
from cl_hive.testing import Network, node_id, signature, welcome

Fleet = Callable[..., Network]


@pytest.fixture
def trio(fleet: Fleet) -> Network:
    """alpha, bravo and charlie in a hive; mallory outside, connected to all and with channels."""
    network = fleet("alpha", "bravo", "charlie")
    network.add("mallory").start()
    network.mesh(["alpha", "bravo", "charlie", "mallory"])
    network.run(70)  # rate limits of the founding are over
    return network


def member_sets(network: Network) -> list[set[str]]:
    return [network.nodes[name].members() for name in ("alpha", "bravo", "charlie")]


def untouched(network: Network) -> bool:
    return member_sets(network) == [{"alpha", "bravo", "charlie"}] * 3


def hello(network: Network, sender: str, target: str, ticket: str | None) -> None:
    payload: dict[str, Any] = {"pubkey": network.nodes[sender].id}
    if ticket is not None:
        payload["ticket"] = ticket
    network.forge(sender, target, messages.HELLO.number, payload)
    network.run(2)


def refused(network: Network, code: str) -> bool:
    counted = network.nodes["alpha"].hive.counters.get(f"join_refused_{code}") == 1
    return counted and untouched(network)


# -- tickets ---


def make_ticket(network: Network, **changes: Any) -> str:
    alpha = network.nodes["alpha"]
    ticket = alpha.hive.gatekeeper.issue("test-hive", 24)
    if not changes:
        return ticket.encode()
    changed = replace(ticket, **changes)
    if "signature" not in changes:
        changed = replace(changed, signature=signature(alpha.id, changed.signed_text()))
    return changed.encode()


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("forged", {"signature": signature(node_id("mallory"), "anything")}),
        ("expired", {"issued_at": 1_700_000_000, "expires_at": 1_700_003_600}),
        ("not_yet", {"issued_at": 1_900_000_000, "expires_at": 1_900_003_600}),
        ("other_hive", {"hive_id": "another"}),
        ("not_issuer", {"admin_pubkey": node_id("bravo")}),
        ("made_out_to_another", {"peer_id": node_id("charlie")}),
        ("no_secret", {"secret": ""}),
        ("tier", {"initial_tier": "member"}),
        ("missing_features", {"requirements": 2}),
        ("missing_features", {"requirements": 64}),
    ],
)
def test_a_bad_ticket_is_refused_with_a_word(trio: Network, code: str, changes: dict[str, Any]) -> None:
    hello(trio, "mallory", "alpha", make_ticket(trio, **changes))
    assert refused(trio, code)
    answers = [json.loads(data[4:]) for _, data in trio.nodes["mallory"].inbox if b'"type":32881' in data]
    assert answers[-1]["payload"]["reason"].startswith(code)


def test_no_ticket_or_rubbish_is_refused(trio: Network) -> None:
    hello(trio, "mallory", "alpha", None)
    assert refused(trio, "no_ticket")
    hello(trio, "mallory", "alpha", "rubbish")
    assert refused(trio, "unreadable")


def test_a_ticket_for_one_admits_one(trio: Network) -> None:
    ticket = make_ticket(trio)
    trio.nodes["mallory"].hive.join(ticket, "")
    trio.until(lambda: "mallory" in trio.nodes["alpha"].members(), 60, "mallory is in")
    eve = trio.add("eve")
    eve.start()
    trio.mesh(["alpha", "eve"])
    eve.hive.join(ticket, "")
    trio.run(6)
    request = eve.hive.join_request()
    assert request is not None
    assert (request.status, request.reason.split(":")[0]) == ("refused", "used")
    assert request.ticket == ""
    assert eve.members() == set()


def test_a_ticket_stays_used_when_its_user_has_left(trio: Network) -> None:
    ticket = make_ticket(trio)
    trio.nodes["mallory"].hive.join(ticket, "")
    trio.until(lambda: "mallory" in trio.nodes["alpha"].members(), 60, "mallory is in")
    trio.nodes["mallory"].hive.leave("bye")
    trio.run(4)
    hello(trio, "bravo", "alpha", ticket)  # a member may ask again, a stranger not
    eve = trio.add("eve")
    eve.start()
    trio.mesh(["alpha", "eve"])
    hello(trio, "eve", "alpha", ticket)
    assert trio.nodes["alpha"].hive.counters.get("join_refused_used") == 1


def test_the_signed_part_that_travels_with_an_admission_admits_nobody(trio: Network) -> None:
    alpha, bravo = trio.nodes["alpha"], trio.nodes["bravo"]
    member = bravo.hive.membership.members.get(bravo.id)
    assert member is not None
    record = alpha.hive.membership.members.record(bravo.id, member.joined_at)
    assert record is not None
    assert record.ticket is not None
    assert record.ticket.secret == ""
    hello(trio, "mallory", "alpha", record.ticket.encode())
    assert refused(trio, "no_secret")


def test_the_operator_is_told_before_anything_is_sent(trio: Network) -> None:
    mallory = trio.nodes["mallory"].hive
    good = make_ticket(trio)
    for ticket, peer, said in [
        ("rubbish", "", "Invalid ticket format"),
        (make_ticket(trio, issued_at=1_700_000_000, expires_at=1_700_003_600), "", "Ticket has expired"),
        (make_ticket(trio, signature=signature(node_id("eve"), "x")), "", "signature"),
        (make_ticket(trio, peer_id=node_id("eve")), "", "made out to"),
        (good, node_id("bravo"), "only its issuer"),
    ]:
        with pytest.raises(TicketRefusedError, match=said):
            mallory.join(ticket, peer)
    with pytest.raises(AlreadyInHiveError):
        trio.nodes["alpha"].hive.join(good, "")
    assert mallory.join_request() is None


# -- handshake ---


def test_no_channel_no_admission_until_there_is_one(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    eve = network.add("eve")
    eve.start()
    network.link(network.nodes["alpha"].id, eve.id)
    eve.hive.join(network.nodes["alpha"].hive.invite(24, 0, "neophyte", 1, "")["ticket"], "")
    network.run(20)
    request = eve.hive.join_request()
    assert request is not None
    assert (request.status, request.reason) == ("pending", "no_channel: open a channel with this node first")
    network.link(network.nodes["alpha"].id, eve.id, channel=True)
    network.until(lambda: "eve" in network.nodes["bravo"].members(), 120, "eve is in")


def test_the_hive_takes_no_more_than_its_limit(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", hive_max_members=3)
    for name in ("charlie", "delta"):
        network.add(name).start()
    network.mesh(["alpha", "charlie", "delta"])
    alpha = network.nodes["alpha"].hive
    tickets_for_two = [alpha.invite(24, 0, "neophyte", 1, "")["ticket"] for _ in range(2)]
    network.nodes["charlie"].hive.join(tickets_for_two[0], "")
    network.nodes["delta"].hive.join(tickets_for_two[1], "")
    network.run(20)
    assert alpha.membership.members.count() == 3
    assert alpha.counters.get("join_refused_full") >= 1


def test_banned_nodes_stay_out(trio: Network) -> None:
    alpha = trio.nodes["alpha"].hive
    alpha.membership.members.store.execute(
        "INSERT INTO hive_bans (peer_id, reporter, banned_at) VALUES (?, ?, ?)", (node_id("mallory"), "x", 1)
    )
    hello(trio, "mallory", "alpha", make_ticket(trio))
    assert refused(trio, "banned")


def test_a_replayed_attest_admits_nobody(trio: Network) -> None:
    ticket = make_ticket(trio)
    alpha, mallory = trio.nodes["alpha"], trio.nodes["mallory"]
    mallory.hive.join(ticket, "")
    trio.until(lambda: "mallory" in alpha.members(), 60, "mallory is in")
    attest = next(data for sender, _, data in trio.log if sender == mallory.id and b'"type":32773' in data)
    mallory.hive.leave("to come back by replay")
    trio.run(20)
    trio.add("eve")
    trio.mesh(["alpha", "eve"])
    for sender in ("mallory", "eve"):
        trio.post(trio.nodes[sender].id, alpha.id, attest)
    # With a challenge open as well:
    hello(trio, "mallory", "alpha", ticket)
    trio.post(mallory.id, alpha.id, attest)
    trio.run(2)
    assert alpha.hive.counters.get("attest_unsolicited") == 3
    assert untouched(trio)


@pytest.mark.parametrize(
    "broken", ["nonce_signature", "manifest_signature", "consent", "no consent", "stale", "pubkey"]
)
def test_an_attest_with_one_wrong_part_is_refused(trio: Network, broken: str) -> None:
    alpha, mallory = trio.nodes["alpha"], trio.nodes["mallory"]
    mallory.stop()
    ticket = make_ticket(trio)
    hello(trio, "mallory", "alpha", ticket)
    challenge = next(json.loads(d[4:])["payload"] for _, d in reversed(mallory.inbox) if b'"type":32771' in d)
    moment = trio.now() - (400 if broken == "stale" else 0)
    manifest = {
        "pubkey": mallory.id if broken != "pubkey" else node_id("eve"),
        "version": "x",
        "features": [],
        "timestamp": moment,
        "nonce": challenge["nonce"],
    }
    text = records.consent_text("test-hive", mallory.id, tickets.decode(ticket).digest(), moment)
    attest: dict[str, Any] = {
        **{key: manifest[key] for key in ("pubkey", "version", "features")},
        "manifest": manifest,
        "nonce_signature": signature(mallory.id, challenge["nonce"]),
        "manifest_signature": signature(mallory.id, messages.manifest_text(manifest)),
        "consent": {"timestamp": moment, "signature": signature(mallory.id, text)},
    }
    wrong = signature(node_id("eve"), "x")
    if broken == "no consent":
        del attest["consent"]
    elif broken == "consent":
        attest["consent"]["signature"] = wrong
    elif broken.endswith("signature"):
        attest[broken] = wrong
    trio.forge("mallory", "alpha", messages.ATTEST.number, attest)
    trio.run(2)
    assert untouched(trio)
    assert not any(b'"type":32775' in data for _, data in mallory.inbox)
    assert alpha.hive.counters.get("received_ATTEST") == 3  # bravo's, charlie's and this one


def test_an_unsolicited_welcome_makes_nobody_a_member(network: Network) -> None:
    for name in ("mallory", "victim"):
        network.add(name).start()
    network.mesh(["mallory", "victim"])
    network.forge("mallory", "victim", messages.WELCOME.number, welcome(network, "mallory", "victim"))
    network.run(2)
    victim = network.nodes["victim"]
    assert victim.members() == set()
    assert victim.hive.counters.get("welcome_unsolicited") == 1


def test_while_a_join_is_pending_only_the_inviter_is_believed(trio: Network) -> None:
    victim = trio.add("victim")
    victim.start()
    trio.mesh(["alpha", "mallory", "victim"])
    ticket = make_ticket(trio)
    trio.nodes["alpha"].stop()
    victim.hive.join(ticket, "")
    trio.run(2)
    trio.forge("mallory", "victim", messages.CHALLENGE.number, {"nonce": "00" * 32, "hive_id": "test-hive"})
    trio.forge("mallory", "victim", messages.WELCOME.number, welcome(trio, "mallory", "victim"))
    trio.run(2)
    assert victim.members() == set()
    assert victim.hive.counters.get("challenge_unsolicited") == 1
    assert victim.hive.counters.get("welcome_unsolicited") == 1
    # Also when the answer to alpha's challenge is on its way, and only alpha's WELCOME is awaited:
    victim.hive.joins.mark("attested", "", trio.now())
    trio.forge("mallory", "victim", messages.WELCOME.number, welcome(trio, "mallory", "victim"))
    trio.run(0)
    assert victim.members() == set()
    assert victim.hive.counters.get("welcome_unsolicited") == 2
