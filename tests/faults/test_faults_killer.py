"""Node killers: a release with which lightningd dies is kept out, and whoever starts lightningd gets the old stack."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import deadman
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import alive
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from faults.rig import NAME, Rig
from waiting import wait_until

Stack = list[dict[str, Any]]
NOTE = f"{NAME}-note"
MERCY = f"{NAME}-mercy"
# What an operator was promised: noticed in two seconds, back in ten. A busy machine must not make liars of both.
NOTICED_SECONDS = 2.0
BACK_SECONDS = 10.0


@pytest.fixture
def old(fresh_rig: Rig) -> Stack:
    stack = [fresh_rig.item("0.1.0", options={NOTE: "old"}), fresh_rig.second()]
    fresh_rig.settle(stack)
    return stack


def killer(rig: Rig, mercy: int = 0) -> Stack:
    """A stack with a release that kills lightningd so many seconds after its start, 0 for in the middle of it."""
    return [rig.item("0.6.6", "kills-lightningd", options={MERCY: mercy}), rig.second()]


def events(rig: Rig, name: str) -> list[dict[str, Any]]:
    last = rig.state().last
    assert last is not None
    return [entry for entry in last.entries if entry["event"] == name]


def assert_quarantined(rig: Rig, stack: Stack) -> None:
    """The release is named by observe and by `disable-plugin`, and has no other line in the configuration."""
    (entry,) = rig.observe()["quarantine"]
    assert (entry["plugin"], entry["digest"]) == (NAME, stack[0]["digest"])
    assert "lightningd died" in entry["reason"]
    include = rig.node.include_file.read_text().splitlines()
    mine = [line for line in include if stack[0]["digest"][:12] in line]
    assert mine == [f"disable-plugin={rig.node.slots_dir}/{NAME}/{stack[0]['digest'][:12]}/bin/{NAME}"]
    assert not any(line.startswith(MERCY) for line in include)


@contextmanager
def supervisor(rig: Rig, pause: float = 0.3) -> Iterator[Callable[[], int]]:
    """Start lightningd again whenever it is gone, as `Restart=on-failure` and restart policies do; count that."""
    done, starts = threading.Event(), 0

    def keep_up() -> None:
        nonlocal starts
        while not done.wait(0.05):
            if not alive(rig.machine.runtime.lightningd_identity(rig.new_pid())) and not done.wait(pause):
                starts += 1
                subprocess.run([str(rig.program), "--daemon"], check=False, capture_output=False)

    thread = threading.Thread(target=keep_up, daemon=True)
    thread.start()
    try:
        yield lambda: starts
    finally:
        done.set()
        thread.join(30)


def test_a_release_that_kills_lightningd_at_its_start_is_kept_out(fresh_rig: Rig, old: Stack) -> None:
    rig, bad = fresh_rig, killer(fresh_rig)
    outcome = rig.run("switched", bad)
    assert (outcome["phase"], outcome["lightningd_restarts"]) == ("reverted", 1), outcome["error"]
    rig.assert_runs(old)
    assert_quarantined(rig, bad)
    # Nothing is open and nothing has changed, so the same stack again is no switch and lifts nothing.
    assert rig.run("switched", old)["changed"] is False
    refused = rig.run("switched", bad)
    assert (refused["phase"], refused["code"]) == ("refused", "quarantined")
    assert "hive_lift_quarantine" in refused["error"]
    # lightningd starts by itself with this configuration, and without the killer.
    rig.stop()
    rig.start()
    rig.assert_runs(old)


def test_a_good_release_lifts_the_quarantine_and_so_does_trying_again(fresh_rig: Rig, old: Stack) -> None:
    rig = fresh_rig
    new = [rig.item("0.2.0", options={NOTE: "new"}), old[1]]
    rig.fault("die-on-plugin-start")
    assert rig.run("switched", new)["phase"] == "reverted"
    # Another change that leaves the plugin as it is does not speak for the quarantined release.
    changed = [{**old[0], "options": {NOTE: "other"}}, old[1]]
    rig.settle(changed)
    assert_quarantined(rig, new)
    rig.assert_runs(changed)
    # It was not the release's fault: tried again it works, and is trusted from then on.
    assert rig.run("switched", new)["code"] == "quarantined"
    outcome = rig.run("switched", new, lift_quarantine=True, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert rig.observe()["quarantine"] == []
    assert "disable-plugin" not in rig.node.include_file.read_text()
    rig.assert_runs(new)


def test_another_release_or_an_uninstall_lifts_it(fresh_rig: Rig, old: Stack) -> None:
    rig, bad = fresh_rig, killer(fresh_rig)
    assert rig.run("switched", bad)["phase"] == "reverted"
    rig.settle([rig.item("0.2.0", options={NOTE: "new"}), old[1]])
    assert rig.observe()["quarantine"] == []
    rig.stop()
    rig.start()
    assert rig.run("switched", bad)["phase"] == "reverted"
    rig.settle([])
    assert rig.observe()["quarantine"] == []
    assert not rig.node.include_file.exists()


def test_death_before_the_confirmation_is_noticed_and_undone_with_nobody_there(fresh_rig: Rig, old: Stack) -> None:
    rig, bad = fresh_rig, killer(fresh_rig, mercy=4)
    assert rig.run("switched", bad)["phase"] == "switched"
    who = rig.machine.identity()
    assert who is not None
    rig.machine.rpc.close()
    wait_until(lambda: not alive(who), 20, "lightningd is dead")
    died = time.time()
    rig.wait_closed(BACK_SECONDS + 5)
    closed = time.time()
    (reverting,) = events(rig, "reverting")
    assert reverting["data"]["by"] == "dead-man"
    assert "lightningd died" in reverting["data"]["reason"]
    assert float(reverting["time"]) - died <= NOTICED_SECONDS
    assert closed - died <= BACK_SECONDS
    rig.assert_runs(old)
    assert_quarantined(rig, bad)
    late = rig.run("confirmed")
    assert late["code"] == "already-reverted"


def test_killed_with_its_engine_it_does_not_wait_for_the_deadline(fresh_rig: Rig, old: Stack) -> None:
    rig, new = fresh_rig, [fresh_rig.item("0.2.0"), old[1]]
    code, _ = rig.crash(f"{Step.WRITE.value}:kill-after", "switched", new, deadman_seconds=300)
    assert code == -signal.SIGKILL
    who = rig.machine.identity()
    assert who is not None
    os.kill(who.pid, signal.SIGKILL)
    rig.wait_closed(BACK_SECONDS + 5)
    rig.assert_runs(old)


@pytest.mark.parametrize("mercy", [0, 3])
def test_two_starters_do_not_fight(fresh_rig: Rig, old: Stack, mercy: int) -> None:
    """systemd, or a container's policy, starts lightningd in the middle of the switch with what is on disk then."""
    rig, bad = fresh_rig, killer(fresh_rig, mercy)
    with supervisor(rig) as starts:
        outcome = rig.run("switched", bad)
        if mercy:
            assert outcome["phase"] == "switched", outcome["error"]
            who = rig.machine.identity()
            rig.machine.rpc.close()
            wait_until(lambda: not alive(who), 20, "lightningd is dead")
            rig.wait_closed(30)
        else:
            assert outcome["phase"] == "reverted"
        wait_until(lambda: rig.machine.answers(1.0), 20, "lightningd answers")
        who = rig.machine.identity()
        rig.assert_runs(old)
        assert starts() <= 4, "it was started again and again"
        assert rig.machine.identity() == who
    assert_quarantined(rig, bad)


def test_a_release_that_kills_every_start_is_taken_out_of_the_configuration(fresh_rig: Rig, old: Stack) -> None:
    """The engine died with the new include in place: each start by systemd dies again until the dead-man steps in."""
    rig, bad = fresh_rig, killer(fresh_rig, mercy=1)
    code, _ = rig.crash(f"{Step.WRITE.value}:kill-after", "switched", bad, deadman_seconds=300)
    assert code == -signal.SIGKILL
    with supervisor(rig, pause=0.1):
        rig.wait_closed(40)
        wait_until(lambda: rig.machine.answers(1.0), 20, "lightningd answers")
        rig.assert_runs(old)
    assert_quarantined(rig, bad)


@pytest.mark.parametrize("action", ["kill", "kill-after", "error"])
def test_interrupted_while_it_brings_lightningd_back(fresh_rig: Rig, old: Stack, action: str) -> None:
    rig, bad = fresh_rig, killer(fresh_rig)
    code, _ = rig.crash(f"{Step.QUARANTINE.value}:{action}", "switched", bad, deadman_seconds=300)
    assert code == (1 if action == "error" else -signal.SIGKILL), "the failpoint was not reached"
    if action != "kill":
        assert rig.run("reverted")["phase"] == "reverted"
    # Else the dead-man alone sees that lightningd is gone, long before its deadline.
    rig.wait_closed(BACK_SECONDS + 10)
    rig.assert_runs(old)
    assert_quarantined(rig, bad)


def test_after_a_start_of_the_machine_an_open_switch_is_undone_and_nobody_is_blamed(fresh_rig: Rig, old: Stack) -> None:
    rig, new = fresh_rig, [fresh_rig.item("0.2.0"), old[1]]
    assert rig.run("switched", new, deadman_seconds=300)["phase"] == "switched"
    rig.reboot()
    assert rig.observe()["deadman"]["alive"] is False
    found = deadman.ensure(rig.node)
    assert found is not None
    assert found["rearmed"] is True
    rig.wait_closed(20)
    (reverting,) = events(rig, "reverting")
    assert reverting["data"]["reason"] == deadman.STARTED_ANEW
    rig.assert_runs(old)
    facts = rig.observe()
    assert (facts["quarantine"], facts["deadman"]) == ([], None)
    assert deadman.ensure(rig.node) is None


def test_a_dead_man_that_was_killed_is_armed_again_with_the_time_that_is_left(fresh_rig: Rig, old: Stack) -> None:
    rig, new = fresh_rig, [fresh_rig.item("0.2.0"), old[1]]
    assert rig.run("switched", new, deadman_seconds=300)["phase"] == "switched"
    before = rig.observe()["deadman"]
    assert before["alive"] is True
    assert deadman.ensure(rig.node) == {
        "transaction": rig.state().transaction.id,  # type: ignore[union-attr]
        "deadline": before["deadline"],
        "alive": True,
    }
    rig.end_deadman()
    wait_until(lambda: not rig.observe()["deadman"]["alive"], 10, "the dead-man is gone")
    found = deadman.ensure(rig.node)
    assert found is not None
    assert found["rearmed"] is True
    assert abs(found["deadline"] - before["deadline"]) < 5
    assert rig.observe()["deadman"]["alive"] is True
    assert rig.run("confirmed")["phase"] == "confirmed"
    rig.assert_runs(new)
