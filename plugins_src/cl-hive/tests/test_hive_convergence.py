"""Fleets that form, lose messages, restart and shrink: in the end all list the same members."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cl_hive.errors import AlreadyInHiveError, CannotLeaveError
from cl_hive.testing import Faults, Network

Fleet = Callable[..., Network]


def agree(network: Network, *names: str) -> bool:
    """Whether these nodes list exactly each other and know the same states."""
    nodes = [network.nodes[name] for name in names]
    return all(node.members() == set(names) for node in nodes) and len({node.hive.sync.hashes() for node in nodes}) == 1


def test_two_that_joined_the_same_member_list_each_other(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie")
    network.until(lambda: agree(network, "alpha", "bravo", "charlie"), 120, "all know the same")
    tiers = {m.peer_id: m.tier for m in network.nodes["bravo"].hive.membership.members.all()}
    assert tiers == {
        network.nodes["alpha"].id: "member",
        network.nodes["bravo"].id: "neophyte",
        network.nodes["charlie"].id: "neophyte",
    }


def test_forming_takes_seconds_when_nothing_is_lost(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie")
    assert network.time - 1_800_000_000 <= 10


def test_members_in_a_line_learn_of_each_other(network: Network) -> None:
    names = ["alpha", "bravo", "charlie", "delta"]
    for name in names:
        network.add(name, hive_join_requires_channel=False).start()
    network.line(["charlie", "alpha", "bravo"])
    alpha = network.nodes["alpha"].hive
    alpha.genesis("")
    ticket = alpha.invite(24, 0, "neophyte", 3, "")["ticket"]
    network.nodes["bravo"].hive.join(ticket, "")
    network.nodes["charlie"].hive.join(ticket, "")
    network.nodes["delta"].hive.join(ticket, "")  # connects by the address in the ticket
    network.until(lambda: agree(network, *names), 700, "all know the same")
    assert not network.linked(network.nodes["bravo"].id, network.nodes["charlie"].id)


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_network_only_delays(network: Network, seed: int) -> None:
    network.__init__(network.directory, seed)  # type: ignore[misc]
    network.faults = Faults(loss=0.25, duplication=0.3, longest_delay=15)
    names = ["alpha", "bravo", "charlie", "delta"]
    for name in names:
        network.add(name).start()
    network.mesh(names)
    alpha = network.nodes["alpha"].hive
    alpha.genesis("test-hive")
    for name in names[1:]:
        network.nodes[name].hive.join(alpha.invite(24, 0, "neophyte", 1, "")["ticket"], "")
    network.until(lambda: all(network.nodes[n].members() == set(names) for n in names), 3000, "all list each other")
    network.faults = Faults()
    network.until(lambda: agree(network, *names), 700, "all know the same")


def test_what_was_missed_while_the_plugin_was_down_heals_after_its_restart(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie")
    network.nodes["charlie"].stop()
    delta = network.add("delta")
    delta.start()
    network.mesh(["alpha", "bravo", "charlie", "delta"])
    delta.hive.join(network.nodes["alpha"].hive.invite(24, 0, "neophyte", 1, "")["ticket"], "")
    network.until(lambda: delta.members() == {"alpha", "bravo", "charlie", "delta"}, 120, "delta is in")
    network.nodes["charlie"].start()
    network.until(lambda: agree(network, "alpha", "bravo", "charlie", "delta"), 120, "charlie has caught up")


def test_a_leaver_is_gone_everywhere_also_where_it_was_not_heard(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie", "delta")
    network.nodes["delta"].stop()
    reply = network.nodes["charlie"].hive.leave("moving")
    assert (reply["status"], reply["former_tier"]) == ("left", "neophyte")
    assert network.nodes["charlie"].members() == set()
    network.run(4)
    assert network.nodes["alpha"].members() == network.nodes["bravo"].members() == {"alpha", "bravo", "delta"}
    charlie = network.nodes["charlie"].id
    network.unlink(charlie, network.nodes["delta"].id)  # it will never hear it from the leaver
    network.nodes["delta"].start()
    network.until(lambda: agree(network, "alpha", "bravo", "delta"), 120, "delta heard it from the others")


def test_a_leaver_is_acknowledged_even_when_the_first_acknowledgement_is_lost(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    network.run(20)
    bravo = network.nodes["bravo"].hive
    network.faults = Faults(loss=1.0)
    bravo.leave("voluntary")
    network.run(4)
    network.faults = Faults()
    network.until(lambda: bravo.outbox.counts() == {"acked": 1}, 120, "alpha has acknowledged")
    assert network.nodes["alpha"].members() == {"alpha"}
    alpha = network.nodes["alpha"].hive
    again = next(d for s, t, d in network.log if s == network.nodes["bravo"].id and b"32797" in d)
    before = alpha.counters.get("sent_MSG_ACK")
    alpha.receive(network.nodes["bravo"].id, again)
    assert alpha.counters.get("sent_MSG_ACK") == before + 1


def test_who_left_can_join_again(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie")
    network.nodes["charlie"].hive.leave("moving")
    network.run(4)
    ticket = network.nodes["alpha"].hive.invite(24, 0, "neophyte", 1, "")["ticket"]
    network.nodes["charlie"].hive.join(ticket, "")
    network.until(lambda: agree(network, "alpha", "bravo", "charlie"), 200, "charlie is back everywhere")


def test_the_last_one_who_can_admit_cannot_leave(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    with pytest.raises(CannotLeaveError, match="promote"):
        network.nodes["alpha"].hive.leave("bye")
    assert network.nodes["alpha"].members() == {"alpha", "bravo"}


def test_a_member_that_lost_its_database_gets_its_membership_back(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie")
    network.run(20)
    bravo = network.nodes["bravo"]
    joined = network.nodes["alpha"].hive.membership.members.get(bravo.id)
    bravo.stop()
    for file in network.directory.glob("bravo.db*"):
        file.unlink()
    bravo.start()
    bravo.hive.join(network.nodes["alpha"].hive.invite(24, 0, "neophyte", 1, "")["ticket"], "")
    network.until(lambda: bravo.members() == {"alpha", "bravo", "charlie"}, 20, "bravo is back")
    again = network.nodes["alpha"].hive.membership.members.get(bravo.id)
    assert joined is not None
    assert again is not None
    assert again.hashed() == joined.hashed()
    # Its gossip goes on after the version the others know, or they would not listen.
    network.until(lambda: agree(network, "alpha", "bravo", "charlie"), 700, "bravo is heard again")


def test_after_a_restore_the_own_version_goes_on_after_the_one_others_know(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    bravo = network.nodes["bravo"]
    bravo.stop()
    backup = {file: file.read_bytes() for file in network.directory.glob("bravo.db*")}
    bravo.start()
    network.run(1600)
    known = network.nodes["alpha"].hive.states.version(bravo.id)
    assert known >= 5
    bravo.stop()
    for file in network.directory.glob("bravo.db*"):
        file.write_bytes(backup.get(file, b""))
    bravo.start()
    network.until(lambda: network.nodes["alpha"].hive.states.version(bravo.id) > known, 100, "alpha listens again")
    assert bravo.hive.counters.get("own_version_raised") >= 1


def test_genesis_and_join_say_that_there_is_a_hive_already(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    with pytest.raises(AlreadyInHiveError, match="test-hive") as caught:
        network.nodes["alpha"].hive.genesis("test-hive")
    assert (caught.value.code, caught.value.data["hive_id"]) == (6101, "test-hive")
    ticket = network.nodes["alpha"].hive.invite(24, 0, "neophyte", 1, "")["ticket"]
    with pytest.raises(AlreadyInHiveError) as caught:
        network.nodes["bravo"].hive.join(ticket, "")
    assert caught.value.data == {"hive_id": "test-hive", "same_hive": True}


def test_the_own_gossip_version_survives_a_restart(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    network.run(650)
    bravo = network.nodes["bravo"]
    before = bravo.hive.states.version(bravo.id)
    assert before >= 2
    bravo.stop()
    bravo.start()
    network.run(350)
    assert bravo.hive.states.version(bravo.id) > before
    assert network.nodes["alpha"].hive.states.version(bravo.id) == bravo.hive.states.version(bravo.id)


def test_news_are_passed_on_at_once_by_those_between(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie")
    network.unlink(network.nodes["alpha"].id, network.nodes["charlie"].id)
    network.add("delta").start()
    network.mesh(["alpha", "delta"])
    network.run(20)
    network.nodes["delta"].hive.join(network.nodes["alpha"].hive.invite(24, 0, "neophyte", 1, "")["ticket"], "")
    network.until(lambda: "delta" in network.nodes["charlie"].members(), 6, "charlie heard of delta through bravo")
    network.nodes["delta"].hive.leave("bye")
    network.until(lambda: "delta" not in network.nodes["charlie"].members(), 6, "charlie heard that delta left")


def test_a_difference_that_cannot_heal_costs_little(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    network.add("ghost")
    network.run(120)
    network.nodes["bravo"].hive.membership.members.store.execute(
        "INSERT INTO hive_members (peer_id, joined_at) VALUES (?, 5)", (network.nodes["ghost"].id,)
    )
    network.log.clear()
    network.run(2 * 3600)
    syncs = [data for _, _, data in network.log if b'"type":32781' in data]
    assert 2 <= len(syncs) <= 2 * 8  # after 1, 2, 4, 8, ... minutes, from both sides
    assert network.nodes["alpha"].members() == {"alpha", "bravo"}
    view = network.nodes["alpha"].hive.sync
    assert view.differ_since(network.now() - 1800) == [network.nodes["bravo"].id]


def test_both_sides_of_a_split_learn_from_each_other_in_seconds(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo", "charlie")
    alpha, bravo, charlie = (network.nodes[name] for name in ("alpha", "bravo", "charlie"))
    for other in (alpha, charlie):
        network.unlink(bravo.id, other.id)
    network.run(700)
    assert bravo.hive.sync.hashes() != charlie.hive.sync.hashes()
    network.link(bravo.id, charlie.id)
    network.until(lambda: agree(network, "alpha", "bravo", "charlie"), 30, "all know the same")
    network.until(
        lambda: [bravo.hive.sync.view(), charlie.hive.sync.view()[bravo.id]] == [{charlie.id: True}, True],
        20,
        "both know that they agree",
    )


def test_a_quiet_fleet_stays_quiet(fleet: Fleet) -> None:
    """Once all agree, only heartbeats cross the wire: no exchange feeds itself."""
    network = fleet("alpha", "bravo", "charlie")
    network.run(120)
    network.log.clear()
    network.run(300)
    kinds = [data for _, _, data in network.log if b'"type":32781' in data]
    assert kinds == []
    assert len(network.log) <= 3 * 2 * 6
