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


def test_a_disk_that_is_read_only(operator: Any, stack: Any, before: dict[str, Any], other: str, metal13: Any) -> None:
    """Seen before anything changes."""
    metal13.root("mount -o remount,bind,ro /opt/rollout")
    try:
        # A restart of these machines does not give the kernel a new boot id, so it counts as a death of lightningd.
        rc, text = operator.rollout(stack(other), hive_lift_quarantine=True)
    finally:
        metal13.root("mount -o remount,bind,rw /opt/rollout")
    assert rc != 0, text
    assert "read-only" in text, text
    for name, was in before.items():
        assert was.holds(), name


def test_a_disk_that_is_full(operator: Any, stack: Any, before: dict[str, Any], other: str, metal12: Any) -> None:
    """The backup before the switch cannot be written: the node stays, and the others of its batch go back."""
    place = f"{metal12.node.state_dir}/backups"
    metal12.root(f"mount -t tmpfs -o size=4k,mode=700 tmpfs {place}")
    try:
        rc, text = operator.rollout(stack(other), hive_lift_quarantine=True, hive_min_free_bytes=0)
    finally:
        metal12.root(f"umount {place}")
    assert rc != 0, text
    assert "is full" in text, text
    for name, was in before.items():
        assert was.holds(), name
