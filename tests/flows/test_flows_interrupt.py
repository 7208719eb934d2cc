"""ansible-playbook is killed at a moment of a rollout; the same command, given again, ends healthy.

Moments are named by what the nodes' journals or the output say, not by time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flows.flow_fleet import PLUGIN, Fleet, Running, Shelf
from waiting import wait_until

VERSIONS = itertools.cycle(["0.1.1", "0.1.0"])


@pytest.fixture(scope="module")
def pair(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two nodes with 0.1.0 that have both releases staged; each test takes them to the other version."""
    fleet = Fleet(tmp_path_factory.mktemp("pair"), shelf, {"hive_deadman_seconds": 45})
    fleet.up(2)
    for version in ("0.1.1", "0.1.0"):
        fleet.good("rollout", **to(version), hive_waves=["100%"], hive_separate_channel_peers=False)
    yield fleet
    fleet.down()


def to(version: str) -> dict[str, Any]:
    return {"hive_release_versions": {PLUGIN: version}}


class Moment:
    """When to kill: `steps` of the journal of one node, or words of the output."""

    def __init__(self, fleet: Fleet, run: Running) -> None:
        self.fleet, self.run = fleet, run
        self.seen = {node: len(fleet.journal(node)) for node in fleet.nodes}

    def reached(self, name: str) -> bool:
        node, _, wanted = name.partition(": ")
        if node == "says":
            return wanted in self.run.text
        return any(
            wanted in (entry["event"], f"{entry['event']} {entry['data'].get('step', '')}")
            for entry in self.fleet.journal(node)[self.seen[node] :]
        )


MOMENTS = [
    "says: plan digest",
    "alpha: begin",
    "alpha: intent guard",
    "alpha: intent prune",
    "alpha: intent backup",
    "alpha: intent arm",
    "alpha: intent stop",
    "alpha: intent start",
    "alpha: intent write",
    "alpha: intent verify",
    "alpha: intent switched",
    "alpha: switched",
    "says: verdict: healthy",
    "alpha: intent confirm",
    "alpha: confirmed",
    "bravo: begin",
    "bravo: intent start",
    "bravo: switched",
    "bravo: confirmed",
]


def killed_at(fleet: Fleet, moment: str, version: str, kill: Callable[[Running], None]) -> None:
    run = fleet.start("rollout", **to(version), hive_soak_seconds=1)
    watch = Moment(fleet, run)

    def due() -> bool:
        assert run.process.poll() is None or watch.reached(moment), run.text
        return watch.reached(moment)

    wait_until(due, 120, f"{moment} of the rollout", interval=0.002)
    kill(run)


def ends_healthy(fleet: Fleet, version: str, pids: dict[str, int]) -> None:
    outcome = fleet.good("rollout", **to(version))
    assert [fleet.version(node) for node in fleet.nodes] == [version, version], outcome.text
    assert fleet.pids() == pids
    assert fleet.report["result"] in ("success", "unchanged")
    for node in fleet.nodes:
        assert not (fleet.sandbox / node / "hive/lock.json").exists()
        assert fleet.journal(node)[-1]["event"] not in ("switched", "begin", "intent")
    assert not list(fleet.reports.glob(".running-*"))
    assert "Nothing to change" in fleet.good("rollout", **to(version)).text


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_everything_is_killed(pair: Fleet, moment: str) -> None:
    version, pids = next(VERSIONS), pair.pids()
    killed_at(pair, moment, version, Running.kill)
    ends_healthy(pair, version, pids)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["alpha: intent stop", "alpha: switched", "bravo: begin"])
def test_only_the_process_group_is_killed(pair: Fleet, moment: str) -> None:
    version, pids = next(VERSIONS), pair.pids()
    killed_at(pair, moment, version, Running.kill_group)
    ends_healthy(pair, version, pids)


def test_every_step_of_the_journal_has_its_moment(pair: Fleet) -> None:
    """Whatever the first node writes in a whole run is a moment at which the tests above kill."""
    version, seen = next(VERSIONS), len(pair.journal("alpha"))
    pair.good("rollout", **to(version))
    written = pair.journal("alpha")[seen:]
    steps = {f"intent {entry['data']['step']}" for entry in written if entry["event"] == "intent"}
    assert len(steps) > 5
    assert steps <= {moment.removeprefix("alpha: ") for moment in MOMENTS}


@pytest.mark.slow
def test_nobody_comes_back_and_the_dead_man_reverts(pair: Fleet) -> None:
    before, pids = pair.version("alpha"), pair.pids()
    version = next(VERSIONS)
    run = pair.start("rollout", **to(version), hive_soak_seconds=60, hive_deadman_seconds=3)
    wait_until(lambda: pair.version("alpha") == version, 120, "the canary runs the new release")
    run.kill()
    wait_until(lambda: pair.journal("alpha")[-1]["event"] != "switched", 60, "the dead-man goes to work")
    wait_until(lambda: pair.version("alpha") == before, 60, "the canary runs what it ran before")
    assert pair.pids() == pids
    ends_healthy(pair, version, pids)
