"""Machines that restart in the middle, and disks that take nothing any more."""

from __future__ import annotations

from functools import partial
from typing import Any

from waiting import wait_until


def is_reverted(node: Any) -> bool:
    """Whether the last thing that happened was that a switch was undone."""
    return bool(node.journal()[-1]["event"] == "reverted")


def test_the_machines_restart_in_the_middle(
    operator: Any, before: dict[str, Any], other: str, metal12: Any, metal13: Any, restart_container: Any
) -> None:
    """A switch that nobody confirmed does not outlive a restart: the dead-man is there again and takes it back."""
    rc, text = operator.start("molecule/flow_faults/switch.yml", version=other, deadman=30).end()
    assert rc == 0, text
    for was in before.values():
        assert was.node.rpc("hive-fixture-status")["version"] == other
    metal12.reboot()
    metal13.reboot()
    restart_container()
    for name, was in before.items():
        assert wait_until(partial(is_reverted, was.node), 120, f"{name} takes its switch back", 0.5)
        assert was.holds(restarted=True), name


def test_disks_that_take_nothing(
    operator: Any, stack: Any, before: dict[str, Any], other: str, metal12: Any, metal13: Any
) -> None:
    """One is full and one is read-only: both refuse before anything changes, and the healthy one goes back."""
    places = {"metal12": f"{metal12.node.state_dir}/backups", "metal13": "/opt/rollout"}
    metal12.root(f"mount -t tmpfs -o size=16k,mode=700 tmpfs {places['metal12']}")
    metal13.root(f"mount -o remount,bind,ro {places['metal13']}")
    try:
        rc, text = operator.rollout(stack(other), hive_min_free_bytes=0)
    finally:
        metal12.root(f"umount {places['metal12']}")
        metal13.root(f"mount -o remount,bind,rw {places['metal13']}")
    assert rc != 0, text
    assert "Read-only file system" in text, text
    assert "No space left" in text or "free" in text, text
    for name, was in before.items():
        assert was.holds(), name
