"""lightningd itself dies, hangs, or is not fit to be worked on."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import alive
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from faults.rig import NAME, Rig
from waiting import wait_until

Stack = list[dict[str, Any]]
NOTE = f"{NAME}-note"


@pytest.fixture
def stacks(fresh_rig: Rig) -> tuple[Stack, Stack]:
    rig = fresh_rig
    old = [rig.item("0.1.0", options={NOTE: "old"}), rig.second()]
    rig.settle(old)
    return old, [rig.item("0.2.0", options={NOTE: "new"}), old[1]]


@pytest.mark.parametrize("fault", ["die-on-plugin-stop", "die-on-plugin-start"])
def test_when_lightningd_dies_it_comes_back_with_the_old_stack(
    fresh_rig: Rig, stacks: tuple[Stack, Stack], fault: str
) -> None:
    rig, (old, new) = fresh_rig, stacks
    before = rig.machine.identity()
    rig.fault(fault)
    outcome = rig.run("switched", new)
    assert outcome["phase"] == "reverted"
    assert outcome["lightningd_restarts"] == 1
    assert "started again without the new plugins" in outcome["error"]
    assert rig.machine.identity() not in (None, before)
    rig.assert_runs(old)


def test_killed_together_with_lightningd_the_dead_man_brings_both_back(
    fresh_rig: Rig, stacks: tuple[Stack, Stack]
) -> None:
    rig, (old, new) = fresh_rig, stacks
    code, _ = rig.crash(f"{Step.WRITE.value}:kill-after", "switched", new, deadman_seconds=2)
    assert code == -signal.SIGKILL
    who = rig.machine.identity()
    assert who is not None
    os.kill(who.pid, signal.SIGKILL)
    wait_until(lambda: not alive(who), 10, "lightningd is dead")
    rig.wait_closed(40)
    rig.assert_runs(old)
    reverted = [e for e in rig.state().last.entries if e["event"] == "reverted"]  # type: ignore[union-attr]
    assert reverted[0]["data"]["restarts"] == 1


def test_a_node_without_lightningd_is_refused(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (_, new) = fresh_rig, stacks
    rig.stop()
    assert rig.node.socket.exists(), "a stale socket is left, and nobody listens"
    outcome = rig.run("switched", new)
    assert (outcome["phase"], outcome["code"]) == ("refused", "lightningd-down")
    assert not (rig.node.state_dir / "lock.json").exists()


def test_after_a_restart_options_in_memory_do_not_crash_lightningd(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    """lightningd has read our options at its start: giving one while another's owner is down would crash it."""
    rig, (old, _) = fresh_rig, stacks
    both = [rig.item("0.1.0", options={NOTE: "old"}), rig.second(options={"hive-fixture-second-note": "second"})]
    rig.settle(both)
    rig.stop()
    rig.start()
    rig.assert_runs(both)
    before = rig.machine.identity()
    changed = [rig.item("0.2.0", options={NOTE: "new"}), rig.second("0.2.0", {"hive-fixture-second-note": "other"})]
    outcome = rig.run("switched", changed, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert rig.machine.identity() == before
    assert rig.call(f"{NAME}-status")["options"][NOTE] == "new"
    # The second's option stays in lightningd's memory without an owner now: values can only be kept, not given.
    assert rig.run("switched", changed[:1], deadman_seconds=0.0)["phase"] == "confirmed"
    refused = rig.run("switched", [rig.item("0.2.0", options={NOTE: "newest"})])
    assert (refused["phase"], refused["code"]) == ("refused", "needs-restart")
    kept = rig.run("switched", [rig.item("0.3.0", options={NOTE: "old"})], deadman_seconds=0.0)
    assert kept["phase"] == "confirmed", kept.get("error")
    assert rig.machine.identity() == before
    assert old[0]["options"] == {NOTE: "old"}


def test_a_restart_happens_only_when_it_is_allowed_and_is_counted(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, _ = fresh_rig, stacks
    both = [rig.item("0.1.0", options={NOTE: "old"}), rig.second(options={"hive-fixture-second-note": "second"})]
    rig.settle(both)
    rig.stop()
    rig.start()
    rig.settle(both[:1])
    target = [rig.item("0.1.0", options={NOTE: "newest"})]
    outcome = rig.run("switched", target, allow_lightningd_restart=True, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert outcome["lightningd_restarts"] == 1
    assert rig.call(f"{NAME}-status")["options"][NOTE] == "newest"
    rig.assert_runs(target)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("unsynced", "not-synced"), ("bitcoind-unsynced", "not-synced")],
)
def test_a_node_that_is_behind_is_refused(fresh_rig: Rig, stacks: tuple[Stack, Stack], fault: str, code: str) -> None:
    rig, (old, new) = fresh_rig, stacks
    rig.fault(fault)
    outcome = rig.run("switched", new)
    assert (outcome["phase"], outcome["code"]) == ("refused", code)
    rig.assert_runs(old)


def test_a_broken_line_in_the_log_undoes_the_switch(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (old, new) = fresh_rig, stacks
    assert rig.crash(f"{Step.WRITE.value}:kill-after", "switched", new)[0] == -signal.SIGKILL
    rig.fault("log-broken", message="something is very wrong")
    outcome = rig.run("switched", new)
    assert (outcome["phase"], outcome["code"]) == ("reverted", "log-broken")
    rig.assert_runs(old)


def test_a_plugin_that_refuses_to_stop_is_left_running(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (old, new) = fresh_rig, stacks
    rig.fault("refuse-plugin-stop")
    outcome = rig.run("switched", new)
    rig.fault("clear")
    assert outcome["phase"] in ("reverted", "switched")
    if outcome["phase"] == "switched":
        rig.run("reverted")
    rig.assert_runs(old)


def test_while_every_rpc_hangs_nothing_is_begun(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, (old, new) = fresh_rig, stacks
    rig.fault("hang-rpc")
    outcome = rig.run("switched", new)
    assert (outcome["phase"], outcome["code"]) == ("refused", "rpc-timeout")
    rig.fault("clear")
    rig.assert_runs(old)


def test_the_dead_man_gives_no_option_that_would_crash_lightningd(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    """A value given at a start hides the configured one, which stays in lightningd's memory when the plugin stops."""
    rig, _ = fresh_rig, stacks
    second = "hive-fixture-second-note"
    first = [rig.item("0.1.0", options={NOTE: "a"}), rig.second(options={second: "a"})]
    rig.settle(first)
    rig.stop()
    rig.start()
    before = rig.machine.identity()
    rig.settle([rig.item("0.2.0", options={NOTE: "b"}), rig.second("0.2.0", {second: "b"})])
    code, _ = rig.crash(f"{Step.SWITCHED.value}:kill-after", "switched", first, deadman_seconds=2)
    assert code == -signal.SIGKILL
    rig.wait_closed(40)
    assert rig.machine.identity() == before, "lightningd crashed"
    rig.assert_runs([rig.item("0.2.0", options={NOTE: "b"}), rig.second("0.2.0", {second: "b"})])
    assert rig.call(f"{NAME}-status")["options"][NOTE] == "b"
    assert rig.call("hive-fixture-second-status")["options"][second] == "b"


def test_installed_again_with_other_values_needs_no_restart(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    """lightningd holds values it read at its start, of plugins that are gone; new ones are given when all are up."""
    rig, _ = fresh_rig, stacks
    second = "hive-fixture-second-note"
    rig.settle([rig.item("0.1.0", options={NOTE: "a"}), rig.second(options={second: "a"})])
    rig.stop()
    rig.start()
    before = rig.machine.identity()
    rig.settle([])
    wanted = [rig.item("0.1.0", options={NOTE: "b"}), rig.second(options={second: "b"})]
    rig.settle(wanted)
    assert rig.machine.identity() == before
    rig.assert_runs(wanted)
    assert rig.call(f"{NAME}-status")["options"][NOTE] == "b"
    assert rig.call("hive-fixture-second-status")["options"][second] == "b"


def test_installed_again_in_part_the_restart_that_is_allowed_helps(fresh_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    rig, _ = fresh_rig, stacks
    rig.settle([rig.item("0.1.0", options={NOTE: "a"}), rig.second(options={"hive-fixture-second-note": "a"})])
    rig.stop()
    rig.start()
    rig.settle([])
    wanted = [rig.item("0.1.0", options={NOTE: "b"})]
    refused = rig.run("switched", wanted)
    assert (refused["phase"], refused["code"]) == ("refused", "needs-restart")
    outcome = rig.run("switched", wanted, allow_lightningd_restart=True, deadman_seconds=0.0)
    assert outcome["phase"] == "confirmed", outcome.get("error")
    assert outcome["lightningd_restarts"] == 1
    assert rig.call(f"{NAME}-status")["options"][NOTE] == "b"


@pytest.mark.parametrize("action", ["kill", "kill-after", "error"])
def test_interrupted_at_a_planned_restart_nobody_is_blamed(
    fresh_rig: Rig, stacks: tuple[Stack, Stack], action: str
) -> None:
    rig, _ = fresh_rig, stacks
    rig.settle([rig.item("0.1.0", options={NOTE: "a"}), rig.second(options={"hive-fixture-second-note": "a"})])
    rig.stop()
    rig.start()
    rig.settle([])
    wanted = [rig.item("0.1.0", options={NOTE: "b"})]
    code, _ = rig.crash(f"{Step.RESTART.value}:{action}", "switched", wanted, allow_lightningd_restart=True)
    assert code == (1 if action == "error" else -signal.SIGKILL), "the failpoint was not reached"
    again = rig.run("switched", wanted, allow_lightningd_restart=True, deadman_seconds=0.0)
    if again["phase"] != "confirmed":
        # The dead-man saw a lightningd that no record names, and has undone the switch already.
        assert again["code"] in ("already-reverted", "lightningd-down"), again["error"]
        rig.wait_closed(30)
        again = rig.run("switched", wanted, allow_lightningd_restart=True, deadman_seconds=0.0)
    assert again["phase"] == "confirmed", again.get("error")
    assert rig.observe()["quarantine"] == []
    assert rig.call(f"{NAME}-status")["options"][NOTE] == "b"
    rig.assert_runs(wanted)
