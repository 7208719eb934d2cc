"""The engine is killed, or fails, at every step of the journal: the node ends with the old or the new stack."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import (
    ADOPTION_STEPS,
    CONFIRM_STEPS,
    FORWARD_STEPS,
    RESTORE_STEPS,
    REVERT_STEPS,
    Step,
)
from faults.rig import NAME, Rig

# A restart of lightningd is a step only where nothing else will do: test_faults_lightningd.
FORWARD = [step for step in FORWARD_STEPS if step is not Step.RESTART]
AFTER_ARMED = [Step.STOP, Step.START, Step.CLEAR, Step.WRITE, Step.VERIFY, Step.SWITCHED]
# Without data to put back, and while lightningd lives, these are no steps of a plain way back; they have tests of their
# own (test_faults_restore, test_faults_killer).
REVERT = [step for step in REVERT_STEPS if step not in (Step.REVERT_DATA, Step.QUARANTINE)]

Stack = list[dict[str, Any]]


@pytest.fixture
def stacks(shared_rig: Rig) -> tuple[Stack, Stack]:
    """The stack the node is brought to, with a persisted option in the way, and the one it is switched to."""
    rig = shared_rig
    old = [rig.item("0.1.0", options={f"{NAME}-note": "old"}), rig.second()]
    new = [rig.item("0.2.0", options={f"{NAME}-note": "new", f"{NAME}-limit": 12}), rig.second()]
    rig.end_deadman()
    rig.run("reverted")
    rig.settle(old)
    # Persisted by `setconfig`, so that the switch has something to clear.
    rig.call("setconfig", config=f"{NAME}-limit", val=11)
    return old, new


def test_every_step_is_in_one_of_the_orders_that_faults_are_injected_into() -> None:
    """RESTART, QUARANTINE and the steps about data and adoption have faults of their own, in modules of their own."""
    orders = (*FORWARD_STEPS, *CONFIRM_STEPS, *RESTORE_STEPS, *REVERT_STEPS, *ADOPTION_STEPS)
    assert set(orders) == set(Step)


@pytest.mark.parametrize("action", ["kill", "kill-after"])
@pytest.mark.parametrize("step", FORWARD, ids=lambda step: step.value)
def test_killed_at_a_step_and_run_again_it_gets_there(
    shared_rig: Rig, stacks: tuple[Stack, Stack], step: Step, action: str
) -> None:
    _, new = stacks
    code, _ = shared_rig.crash(f"{step.value}:{action}", "switched", new)
    assert code == -9, "the failpoint was not reached"
    again = shared_rig.run("switched", new)
    assert "error" not in again, again["error"]
    assert again["phase"] == "switched"
    confirmed = shared_rig.run("confirmed")
    assert confirmed["phase"] == "confirmed"
    shared_rig.assert_runs(new)


@pytest.mark.parametrize("step", AFTER_ARMED, ids=lambda step: step.value)
def test_killed_at_a_step_the_dead_man_alone_brings_the_old_stack_back(
    shared_rig: Rig, stacks: tuple[Stack, Stack], step: Step
) -> None:
    old, new = stacks
    code, _ = shared_rig.crash(f"{step.value}:kill-after", "switched", new, deadman_seconds=1.5)
    assert code == -9, "the failpoint was not reached"
    shared_rig.wait_closed(30)
    shared_rig.assert_runs(old)
    assert shared_rig.state().last is not None
    entries = shared_rig.state().last.entries  # type: ignore[union-attr]
    assert entries[-1]["data"]["by"] == "dead-man"


@pytest.mark.parametrize("action", ["error", "error-after"])
@pytest.mark.parametrize("step", FORWARD, ids=lambda step: step.value)
def test_failed_at_a_step_it_goes_back_by_itself(
    shared_rig: Rig, stacks: tuple[Stack, Stack], step: Step, action: str
) -> None:
    old, new = stacks
    code, outcome = shared_rig.crash(f"{step.value}:{action}", "switched", new)
    assert code == 1, "the failpoint was not reached"
    assert outcome["phase"] in ("refused", "reverted")
    assert outcome["reason"]
    if step is Step.LOCK:
        # Nothing was begun; the lock is the rollout's own and goes with its next call.
        shared_rig.run("reverted")
    shared_rig.assert_runs(old)


@pytest.mark.parametrize("step", CONFIRM_STEPS, ids=lambda step: step.value)
def test_killed_while_it_confirms_the_node_is_consistent(
    shared_rig: Rig, stacks: tuple[Stack, Stack], step: Step
) -> None:
    old, new = stacks
    assert shared_rig.run("switched", new)["phase"] == "switched"
    code, _ = shared_rig.crash(f"{step.value}:kill", "confirmed")
    assert code == -9, "the failpoint was not reached"
    again = shared_rig.run("confirmed")
    assert again["phase"] == "confirmed"
    shared_rig.assert_runs(new)
    assert old != new


@pytest.mark.parametrize("step", REVERT, ids=lambda step: step.value)
def test_killed_on_the_way_back_it_is_finished_by_the_next_call(
    shared_rig: Rig, stacks: tuple[Stack, Stack], step: Step
) -> None:
    old, new = stacks
    bad = [shared_rig.item("0.9.0", "unhealthy", options=new[0]["options"]), new[1]]
    code, _ = shared_rig.crash(f"{step.value}:kill", "switched", bad)
    assert code == -9, "the failpoint was not reached"
    outcome = shared_rig.run("reverted")
    assert outcome["phase"] == "reverted"
    shared_rig.assert_runs(old)


@pytest.mark.parametrize("step", [Step.REVERT, Step.REVERT_STOP, Step.REVERT_START, Step.REVERT_VERIFY])
def test_killed_on_the_way_back_the_dead_man_finishes_it(
    shared_rig: Rig, stacks: tuple[Stack, Stack], step: Step
) -> None:
    old, new = stacks
    bad = [shared_rig.item("0.9.0", "unhealthy", options=new[0]["options"]), new[1]]
    code, _ = shared_rig.crash(f"{step.value}:kill", "switched", bad, deadman_seconds=5)
    assert code == -9, "the failpoint was not reached"
    shared_rig.wait_closed(30)
    shared_rig.assert_runs(old)
