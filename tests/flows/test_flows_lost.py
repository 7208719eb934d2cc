"""The line to a node drops in the middle of a batch: no rescue sees it, nobody else is touched, the node saves itself.

A lost node is one of which nothing is known: the report says so, and the same command finishes the work later.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flows.flow_fleet import PLUGIN, Fleet, Shelf
from waiting import wait_until

VERSIONS = itertools.cycle(["0.1.1", "0.1.0"])
TOGETHER = {"hive_waves": ["100%"], "hive_separate_channel_peers": False}


@pytest.fixture(scope="module")
def pair(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two nodes that run 0.1.0; each test takes them to the other version, at last."""
    fleet = Fleet(tmp_path_factory.mktemp("pair"), shelf)
    try:
        fleet.up(2)
        fleet.good("rollout", **TOGETHER)
        yield fleet
    finally:
        fleet.down()


def to(version: str) -> dict[str, Any]:
    return {"hive_release_versions": {PLUGIN: version}}


def results(fleet: Fleet) -> dict[str, str]:
    return {node: facts["result"] for node, facts in fleet.report["nodes"].items()}


def transactions(fleet: Fleet, node: str) -> list[str]:
    """What was ever begun on the node. Staging is no transaction: it touches nothing that runs."""
    return [entry["txn"] for entry in fleet.journal(node) if entry["event"] == "begin"]


def events(fleet: Fleet, node: str) -> list[str]:
    """What the newest transaction of the node went through."""
    journal = fleet.journal(node)
    txn = next(entry["txn"] for entry in reversed(journal) if entry["txn"])
    return [entry["event"] for entry in journal if entry["txn"] == txn]


@pytest.fixture
def lose(pair: Fleet) -> Iterator[Callable[..., None]]:
    """A function that lets the line to a node drop at the next event of a kind; the line is back after the test."""

    def drop(node: str, event: str, answer: bool) -> None:
        pair.lose(node, event, answer, since=len(pair.journal(node)))

    yield drop
    for path in (pair.inventory / "host_vars").glob("*.yml"):
        path.unlink()


def ends_well(fleet: Fleet, version: str, pids: dict[str, int]) -> None:
    """The nodes answer again: the same command finishes the work, in the same lightningds."""
    for path in (fleet.inventory / "host_vars").glob("*.yml"):
        path.unlink()
    fleet.good("rollout", **to(version), **TOGETHER)
    assert [fleet.version(node) for node in fleet.nodes] == [version, version]
    assert fleet.pids() == pids
    for node in fleet.nodes:
        assert not (fleet.sandbox / node / "hive/lock.json").exists()


def test_the_answer_of_the_switch_is_lost(pair: Fleet, lose: Callable[..., None]) -> None:
    """SSH drops after the switch and before the confirmation: the dead-man reverts, the next stage never starts."""
    before, version, pids = pair.version("alpha"), next(VERSIONS), pair.pids()
    untouched = transactions(pair, "bravo")
    lose("alpha", "switched", answer=True)
    outcome = pair.bad("rollout", **to(version), hive_deadman_seconds=4)
    assert "UNREACHABLE" in outcome.text or "cannot be reached" in outcome.text
    assert pair.report["result"] == "failed"
    assert results(pair) == {"alpha": "unreachable", "bravo": "untouched"}
    assert transactions(pair, "bravo") == untouched
    wait_until(lambda: "reverted" in events(pair, "alpha"), 60, "the dead-man of alpha reverts")
    wait_until(lambda: pair.version("alpha") == before, 10, "alpha runs what it ran before")
    ends_well(pair, version, pids)


def test_the_answer_of_the_confirmation_is_lost(pair: Fleet, lose: Callable[..., None]) -> None:
    """The node has confirmed and nobody knows: the run fails all the same, and the next one finds it done."""
    version, pids = next(VERSIONS), pair.pids()
    untouched = transactions(pair, "bravo")
    lose("alpha", "confirmed", answer=True)
    pair.bad("rollout", **to(version))
    assert pair.report["result"] == "failed"
    assert results(pair) == {"alpha": "unreachable", "bravo": "untouched"}
    assert transactions(pair, "bravo") == untouched
    assert (pair.version("alpha"), events(pair, "alpha")[-1]) == (version, "confirmed")
    ends_well(pair, version, pids)


@pytest.mark.parametrize("lost", ["alpha", "bravo"])
def test_one_of_a_batch_is_lost_whichever_comes_first(pair: Fleet, lose: Callable[..., None], lost: str) -> None:
    """Tasks that run once for a batch ask its first host: also when that is the one that was lost."""
    before, version, pids = pair.version("alpha"), next(VERSIONS), pair.pids()
    other = {"alpha": "bravo", "bravo": "alpha"}[lost]
    lose(lost, "switched", answer=False)
    outcome = pair.bad("rollout", **to(version), **TOGETHER, hive_deadman_seconds=5)
    assert "verdict: healthy" not in outcome.text
    assert pair.report["result"] == "failed"
    assert results(pair) == {lost: "unreachable", other: "reverted"}
    assert pair.version(other) == before
    wait_until(lambda: "reverted" in events(pair, lost), 60, "the dead-man reverts")
    wait_until(lambda: pair.version(lost) == before, 10, "the node runs what it ran before")
    ends_well(pair, version, pids)


def test_lost_while_it_is_staged_nothing_is_switched(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(2)
    fleet.lose("bravo", "accepted")
    outcome = fleet.bad("rollout")
    assert "bravo could not be reached" in outcome.text or "bravo cannot be reached" in outcome.text
    assert [fleet.version(node) for node in fleet.nodes] == ["", ""]
    assert not any(entry["event"] == "begin" for node in fleet.nodes for entry in fleet.journal(node))


def test_a_node_that_is_away_when_its_stage_begins_costs_nobody_the_report(pair: Fleet) -> None:
    """The canary is kept, the report says who was lost, and the same command goes on when the node is back."""
    before, version, pids = pair.version("bravo"), next(VERSIONS), pair.pids()
    pair.host(
        "bravo",
        ansible_connection="dropping",
        ansible_drop_journal=str(pair.sandbox / "alpha/hive/journal.jsonl"),
        ansible_drop_event="confirmed",
        ansible_drop_since=len(pair.journal("alpha")),
        ansible_drop_answer=False,
    )
    outcome = pair.bad("rollout", **to(version))
    assert "bravo cannot be reached" in outcome.text
    assert results(pair) == {"alpha": "confirmed", "bravo": "unreachable"}
    assert [pair.version(node) for node in pair.nodes] == [version, before]
    ends_well(pair, version, pids)
