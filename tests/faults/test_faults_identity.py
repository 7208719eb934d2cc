"""Another node, another network, or nobody at all behind the socket and the pid file."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.observe import Observer
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import alive
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.steps import Step
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.switch import Switch
from faults.rig import NAME, Rig
from waiting import wait_until

Stack = list[dict[str, Any]]


@pytest.fixture
def stacks(shared_rig: Rig) -> tuple[Stack, Stack]:
    rig = shared_rig
    old = [rig.item("0.1.0", options={f"{NAME}-note": "old"}), rig.second()]
    rig.end_deadman()
    rig.run("reverted")
    rig.settle(old)
    return old, [rig.item("0.2.0", options={f"{NAME}-note": "new"}), old[1]]


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Rig]:
    """Another lightningd on the same machine."""
    rig = Rig(tmp_path / "neighbour")
    rig.start()
    yield rig
    rig.stop()


def kill_lightningd(rig: Rig) -> None:
    who = rig.machine.identity()
    assert who is not None
    rig.machine.rpc.close()
    os.kill(who.pid, signal.SIGKILL)
    wait_until(lambda: not alive(who), 10, "lightningd is dead")


def problems(rig: Rig, **changes: Any) -> dict[str, str]:
    observed = Observer(replace(rig.node, **changes)).everything()
    return {problem["code"]: problem["message"] for problem in observed["problems"]}


def test_another_node_than_the_inventory_says(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    """Found when the fleet is planned, before any node of it is changed, and again by the node itself."""
    rig, (old, new) = shared_rig, stacks
    other = "02" + "ab" * 32
    assert "correct hive_node_id" in problems(rig, node_id=other)["wrong-node"]
    assert "wrong-node" not in problems(rig, node_id=rig.call("getinfo")["id"])
    mine, rig.node = rig.node, replace(rig.node, node_id=other)
    try:
        outcome = rig.run("switched", new)
    finally:
        rig.node = mine
    assert (outcome["phase"], outcome["code"]) == ("refused", "wrong-node")
    assert rig.call("getinfo")["id"] in outcome["error"]
    rig.assert_runs(old)


def test_another_network_than_the_inventory_says(shared_rig: Rig, stacks: tuple[Stack, Stack]) -> None:
    """Its own directory of another network has no socket; a lightning-cli of the inventory may still find one."""
    rig, (old, new) = shared_rig, stacks
    assert problems(rig, network="signet")["lightningd-down"].endswith("(No such file or directory)")
    code = "import sys; from hive_sandbox.lightning_cli import main; sys.exit(main(sys.argv[1:]))"
    cli = (sys.executable, "-c", code, "--network=regtest", f"--lightning-dir={rig.lightning_dir}")
    assert "correct hive_network" in problems(rig, network="signet", lightning_cli=cli)["wrong-network"]
    mine, rig.node = rig.node, replace(rig.node, network="signet")
    try:
        outcome = rig.run("switched", new)
    finally:
        rig.node = mine
    assert (outcome["phase"], outcome["code"]) == ("refused", "lightningd-down")
    rig.assert_runs(old)


def test_a_socket_nobody_listens_on(fresh_rig: Rig) -> None:
    """What a killed lightningd leaves: a socket, and a pid file whose number belongs to somebody else now."""
    rig = fresh_rig
    old = [rig.item("0.1.0"), rig.second()]
    rig.settle(old)
    kill_lightningd(rig)
    assert rig.node.socket.exists()
    for pid in (os.getpid(), 2**22 - 1, 0):
        rig.node.pid_file.write_text(f"{pid}\n")
        assert rig.machine.identity() is None
        outcome = rig.run("switched", [rig.item("0.2.0"), old[1]])
        assert (outcome["phase"], outcome["code"]) == ("refused", "lightningd-down")
        observed = rig.observe()
        assert (observed["lightningd"]["running"], observed["lightningd"]["pid"]) == (False, 0)
    assert not rig.lock_file.exists()
    rig.start()
    rig.assert_runs(old)


def test_a_dead_lightningd_is_not_taken_for_its_neighbour(fresh_rig: Rig, neighbour: Rig) -> None:
    """Its number in the pid file belongs to another lightningd now; the dead-man starts the right one all the same."""
    rig = fresh_rig
    old = [rig.item("0.1.0"), rig.second()]
    rig.settle(old)
    other = neighbour.machine.identity()
    assert other is not None
    code, _ = rig.crash(f"{Step.START.value}:kill-after", "switched", [rig.item("0.2.0"), old[1]], deadman_seconds=3)
    assert code == -signal.SIGKILL
    kill_lightningd(rig)
    rig.node.pid_file.write_text(f"{other.pid}\n")
    rig.wait_closed(60)
    rig.assert_runs(old)
    assert neighbour.machine.identity() == other
    assert Switch(rig.node, rig.request("switched", old)).run()["changed"] is False
