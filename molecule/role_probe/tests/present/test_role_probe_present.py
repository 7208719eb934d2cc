"""The probe looks, sees what is there, and costs next to nothing."""

from __future__ import annotations

from typing import Any

from waiting import wait_until

# The aim is 0.15 s on a quiet machine; a busy one counts more for the same work.
COST_SECONDS = 0.3
PLUGINS = ["cl-hive", "cl-hive-archon", "cl-hive-comms"]


def test_it_sees_lightningd(node: Any, looks: Any) -> None:
    seen = looks.samples(node)[-1]
    assert seen["lightningd"]["running"]
    assert seen["lightningd"]["ready"]
    assert seen["lightningd"]["height"] >= 0
    assert seen["pending_htlcs"] == {"count": 0, "nearest_expiry": None}


def test_it_sees_the_very_process(node: Any, looks: Any) -> None:
    seen = looks.samples(node)[-1]["lightningd"]["pid"]
    argv = node.outside.check_output(f"tr '\\0' ' ' </proc/{seen}/cmdline")
    assert f"--lightning-dir={node.lightning_dir}" in argv


def test_it_sees_the_plugins(node: Any, looks: Any) -> None:
    seen = {plugin["name"]: plugin for plugin in looks.samples(node)[-1]["plugins"]}
    assert sorted(seen) == PLUGINS
    for plugin in seen.values():
        assert plugin["active"]
        assert plugin["health"] == "ok"
        assert plugin["rss_bytes"] > 1 << 20
        assert 0 < plugin["rpc_ms"] < 3000


def test_systemd_looks_where_it_runs(metal: Any) -> None:
    unit = f"hive-probe-{metal.name}.timer"
    assert metal.outside.check_output(f"systemctl is-active {unit}") == "active"
    assert metal.outside.check_output(f"systemctl is-enabled {unit}") == "enabled"
    assert metal.outside.run(f"systemd-analyze verify --man=no /etc/systemd/system/{unit}").rc == 0


def test_it_looks_again(node: Any, looks: Any) -> None:
    if node.name == "metal12":
        assert len(looks.samples(node)) >= 1
        return
    first = looks.samples(node)[-1]["time"]
    assert wait_until(lambda: looks.samples(node)[-1]["time"] > first + 1, 30, "the probe looks again", interval=0.5)


def test_it_forgets_and_stays_small(node: Any, looks: Any) -> None:
    if node.name == "metal12":
        assert node.outside.file(f"{node.state_dir}/probe.sqlite3").mode == 0o600
        return
    kept = looks.samples(node)
    assert kept[-1]["time"] - kept[0]["time"] <= 21
    assert node.outside.file(f"{node.state_dir}/probe.sqlite3").size <= 300_000


def test_it_costs_next_to_nothing(node: Any, looks: Any) -> None:
    assert min(looks.seconds_of_one(node) for _ in range(3)) <= COST_SECONDS


def test_it_leaves_lightningd_alone(node: Any) -> None:
    lines = "grep -c BROKEN {} || true"
    log = node.inside.check_output(f"find {node.lightning_dir} -maxdepth 2 -name '*.log'").splitlines()
    assert [node.inside.check_output(lines.format(path)) for path in log] == ["0"] * len(log)
    assert node.lightningd()["pid"] > 0
