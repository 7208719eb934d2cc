"""How far a rollout goes: windows, nodes that are away or may fail, and fleets that are kept whole or not at all."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from flows.flow_fleet import PLUGIN, Fleet, Shelf

pytestmark = pytest.mark.timeout(900)

ONE_BY_ONE = {"hive_waves": [1]}
AWAY = {
    "ansible_connection": "ssh",
    "ansible_host": "127.0.0.1",
    "ansible_port": 9,
    "ansible_ssh_args": "-o ControlMaster=no -o ConnectTimeout=2",
}


@pytest.fixture(scope="module")
def three(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three nodes without plugins at first; the tests of this module come one after the other."""
    fleet = Fleet(tmp_path_factory.mktemp("three"), shelf)
    try:
        fleet.up(3)
        yield fleet
    finally:
        fleet.down()


def versions(fleet: Fleet) -> list[str]:
    return [fleet.version(node) for node in fleet.nodes]


def results(fleet: Fleet) -> dict[str, str]:
    return {node: facts["result"] for node, facts in fleet.report["nodes"].items()}


def test_outside_its_windows_it_says_when_the_next_one_opens(three: Fleet) -> None:
    day = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=3)
    window = {"days": [day.strftime("%a").lower()], "start": "02:00", "end": "02:30"}
    outcome = three.bad("rollout", hive_maintenance_windows=[window])
    assert day.strftime("%Y-%m-%d 02:00 UTC") in outcome.sentence("No stage begins outside hive_maintenance_windows")
    assert versions(three) == ["", "", ""]
    assert three.report["result"] == "refused"


def test_a_fleet_that_is_kept_whole_or_not_at_all(three: Fleet) -> None:
    """The last of three cannot be switched: the two that were healthy for long go back too."""
    pids = three.pids()
    three.fault("charlie", "refuse-plugin-start")
    outcome = three.bad("rollout", **ONE_BY_ONE, hive_commit="fleet")
    assert "Nothing of this rollout is kept" in outcome.sentence("charlie was not healthy")
    assert versions(three) == ["", "", ""]
    assert three.pids() == pids
    for node in three.nodes:
        events = [entry["event"] for entry in three.journal(node)]
        assert "confirmed" not in events
        assert events[-1] == "reverted"
    assert set(results(three).values()) == {"reverted"}
    three.fault("charlie", "clear")


def test_one_node_may_fail_when_the_operator_says_so(three: Fleet) -> None:
    three.fault("bravo", "refuse-plugin-start")
    outcome = three.good("rollout", **ONE_BY_ONE, hive_failure_budget=1)
    assert versions(three) == ["0.1.0", "", "0.1.0"]
    assert results(three) == {"alpha": "confirmed", "bravo": "reverted", "charlie": "confirmed"}
    assert "bravo" in outcome.text
    three.fault("bravo", "clear")


def test_a_node_that_is_away_is_left_for_a_later_run(three: Fleet) -> None:
    path = three.host("charlie", **AWAY)
    wanted: dict[str, Any] = {"hive_release_versions": {PLUGIN: "0.1.1"}, "hive_unreachable": "leave"}
    outcome = three.good("rollout", **wanted, **ONE_BY_ONE)
    path.unlink()
    assert "left out: charlie cannot be reached" in outcome.text
    assert versions(three) == ["0.1.1", "0.1.1", "0.1.0"]
    three.good("rollout", **wanted, hive_commit="fleet")
    assert versions(three) == ["0.1.1", "0.1.1", "0.1.1"]
