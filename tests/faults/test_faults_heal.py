"""What broke by itself is put right by the next ordinary run."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import plugin_processes
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.runtimes import runtime_of
from faults.rig import NAME, SECOND, Rig

Stack = list[dict[str, Any]]


@pytest.fixture
def stack(shared_rig: Rig) -> Stack:
    wanted = [shared_rig.item("0.1.0", options={f"{NAME}-note": "old"}), shared_rig.second()]
    shared_rig.settle(wanted)
    return wanted


def test_a_plugin_that_died_is_started_again(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    who = rig.machine.identity()
    assert who is not None
    slot = _slots.slot_path(rig.node, SECOND, stack[1]["digest"])
    for pid in plugin_processes(who.pid, str(slot)):
        os.kill(pid, signal.SIGKILL)
    rig.wait_until_gone(SECOND)
    problems = {problem["code"]: problem["message"] for problem in rig.observe()["problems"]}
    assert SECOND in problems["config-drift"]
    outcome = rig.run("switched", stack, deadman_seconds=0.0)
    assert (outcome["changed"], outcome["phase"]) == (True, "confirmed")
    assert "stop" not in {entry["data"].get("step") for entry in outcome["journal"]}, "what ran was left alone"
    rig.assert_runs(stack)


def test_a_slot_in_use_that_lost_its_marker_is_marked_again_not_rebuilt(shared_rig: Rig, stack: Stack) -> None:
    rig = shared_rig
    slot = _slots.find_slot(rig.node, NAME, stack[0]["digest"])
    _slots.marker_path(rig.node, NAME, slot.digest).unlink()
    seen = {plugin["name"]: plugin for plugin in rig.observe()["plugins"]}
    assert seen[NAME]["ours"]
    before = _slots.stat_digest(slot.path)
    (again,) = _slots.build_slots(rig.node, runtime_of(rig.node), [slot.manifest])
    assert again.complete
    assert _slots.stat_digest(slot.path) == before
    rig.assert_runs(stack)
    assert rig.run("switched", stack)["changed"] is False
