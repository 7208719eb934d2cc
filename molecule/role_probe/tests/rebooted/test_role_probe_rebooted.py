"""After a new start of the machine the probe looks again, and the switch that nobody confirmed is undone."""

from __future__ import annotations

from typing import Any

import pytest
from waiting import wait_until

# The other machines were left alone.
pytestmark = pytest.mark.parametrize("metal", ["metal13"], indirect=True)


@pytest.fixture
def rebooted(metal: Any) -> Any:
    return metal


def events(node: Any) -> list[str]:
    return [entry["event"] for entry in node.journal() if entry["rollout"] == "rebooted"]


def test_it_looks_again(rebooted: Any, looks: Any) -> None:
    started = float(rebooted.outside.check_output("stat -c %Y /run/systemd"))

    def looked() -> bool:
        return bool(looks.samples(rebooted)[-1]["time"] > started)

    assert wait_until(looked, 60, "the probe looks after the start", interval=0.5)


def test_the_switch_is_undone(rebooted: Any) -> None:
    assert "switched" in events(rebooted)
    assert wait_until(lambda: events(rebooted)[-1] == "reverted", 90, "the dead-man reverts", interval=0.5)
    assert sorted(rebooted.plugins()) == ["cl-hive", "cl-hive-archon", "cl-hive-comms"]


def test_it_sees_the_new_lightningd(rebooted: Any, looks: Any) -> None:
    def seen() -> bool:
        newest: dict[str, Any] = looks.samples(rebooted)[-1]
        return bool(newest["lightningd"].get("pid") == rebooted.lightningd()["pid"] and len(newest["plugins"]) == 3)

    assert wait_until(seen, 30, "the probe sees lightningd", interval=0.5)


def test_it_sees_lightningd_die_and_come_back(rebooted: Any, looks: Any) -> None:
    before = rebooted.lightningd()["pid"]
    rebooted.outside.check_output(f"kill -KILL {before}")

    def seen() -> bool:
        pids = [sample["lightningd"]["pid"] for sample in looks.samples(rebooted)]
        return bool(pids[-1] not in (0, before))

    assert wait_until(seen, 60, "the probe sees another lightningd", interval=0.5)
