"""The container's part of a plan: switches, the mount, and problems that stand in nobody's way."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_container as part


def seen(comms: bool | None = None, archon: bool | None = None, mounted: bool = False) -> dict[str, Any]:
    """An observation of a node in a container."""
    env = {"HIVE_COMMS_ENABLED": comms, "HIVE_ARCHON_ENABLED": archon}
    return {"container": {"name": "cl-node", "env": env, "slots_mounted": mounted, "compose": None}}


def item(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "0.1.0", **more}


@pytest.mark.parametrize(
    ("switch", "said", "enabled", "codes"),
    [
        (None, {}, None, []),
        (True, {}, True, []),
        (False, {}, False, []),
        (False, {"enabled": True}, True, []),
        (True, {"enabled": True}, True, []),
        (False, {"enabled": False}, False, []),
        (True, {"enabled": False}, False, ["flag-contradiction"]),
    ],
)
def test_the_stack_counts_and_the_switch_where_it_says_nothing(
    switch: bool | None, said: dict[str, Any], enabled: bool | None, codes: list[str]
) -> None:
    stack, refusals = part.with_flags("alpha", [item("cl-hive-comms", **said), item("cl-hive")], seen(switch))
    assert stack[0].get("enabled") is enabled
    assert "enabled" not in stack[1]
    assert [refusal.code for refusal in refusals] == codes
    assert all("hive_stack counts" in refusal.message for refusal in refusals)


def test_archon_without_comms_is_refused_before_the_image_refuses_to_start() -> None:
    _, refusals = part.with_flags("alpha", [item("cl-hive")], seen(comms=False, archon=True))
    assert [refusal.code for refusal in refusals] == ["flag-contradiction"]


def test_where_no_container_is_nothing_is_changed() -> None:
    wanted = [item("cl-hive-comms")]
    assert part.with_flags("alpha", wanted, {"container": None}) == (wanted, [])
    assert part.with_flags("alpha", wanted, None) == (wanted, [])
    assert part.with_flags("alpha", "nonsense", seen(True)) == ("nonsense", [])


def test_a_missing_mount_is_a_restart_with_a_reason_and_steps() -> None:
    after = [item("cl-hive", enabled=True)]
    assert part.mount_reason(seen(mounted=True), after) is None
    assert part.mount_reason(seen(), []) is None
    reason = part.mount_reason(seen(), after)
    assert reason is not None
    assert "cl-node" in reason
    assert any("payments in flight" in step for step in part.mount_steps(seen(), after))
    assert part.mount_steps(seen(mounted=True), after) == []


def test_a_switch_that_says_otherwise_is_told() -> None:
    after = [item("cl-hive-comms", enabled=True)]
    assert "HIVE_COMMS_ENABLED=false" in part.flag_notes(seen(comms=False), after)[0]
    assert part.flag_notes(seen(comms=True), after) == []


def test_data_in_the_wrong_place_stops_only_what_would_begin_without_it() -> None:
    before, after = (
        [item("cl-hive", enabled=True)],
        [item("cl-hive", enabled=True), item("cl-hive-comms", enabled=True)],
    )
    assert part.concerns("database-in-layer", before, after)
    assert not part.concerns("database-in-layer", after, before)
    assert not part.concerns("config-regenerated", before, [])
    assert part.concerns("config-regenerated", before, before)
    assert part.concerns("syncing", before, [])
