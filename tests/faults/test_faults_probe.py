"""The probe on a node on which things go wrong: it sees, it never waits long, and it never gets in the way."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _probe_setup
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import deadman, probe, probe_look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_ring import last_sample, samples_since
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import alive
from faults.rig import Rig
from waiting import wait_until

WANTED = _probe_setup.Wanted(every=1.0, keep_seconds=600.0, max_bytes=1 << 20)


def look(rig: Rig) -> dict[str, Any]:
    """One look, as the timer takes it, and its sample."""
    rig.node.prepare()
    settings = {"node": rig.node.as_params(), "keep_seconds": 600, "max_bytes": 1 << 20}
    sample = probe.tick(settings)
    assert sample is not None
    return sample


@pytest.fixture
def probed(fresh_rig: Rig) -> Iterator[Rig]:
    """A node with a detached probe, which is gone afterwards."""
    fresh_rig.settle([fresh_rig.item("0.1.0")])
    _probe_setup.install(fresh_rig.node, WANTED, check_mode=False)
    yield fresh_rig
    _probe_setup.remove(fresh_rig.node, check_mode=False)


def newest(rig: Rig) -> dict[str, Any]:
    return last_sample(probe.ring_file(rig.node)) or {}


class TestOneLook:
    def test_it_sees_a_plugin_at_work(self, shared_rig: Rig) -> None:
        shared_rig.settle([shared_rig.item("0.1.0"), shared_rig.second()])
        plugins = {plugin["name"]: plugin for plugin in look(shared_rig)["plugins"]}
        assert sorted(plugins) == ["hive-fixture", "hive-fixture-second"]
        assert all(plugin["active"] and plugin["health"] == "ok" for plugin in plugins.values())
        assert all(plugin["rss_bytes"] > 1 << 20 and plugin["rpc_ms"] > 0 for plugin in plugins.values())

    def test_it_tells_new_lines_from_old(self, shared_rig: Rig) -> None:
        look(shared_rig)
        shared_rig.fault("log-broken", message="the roof is on fire")
        assert any("the roof is on fire" in line for line in look(shared_rig)["log"]["broken"])
        assert look(shared_rig)["log"]["count"] == 0

    def test_two_looks_do_not_overlap(self, shared_rig: Rig) -> None:
        look(shared_rig)
        handle = os.open(shared_rig.node.state_dir / "probe.lock", os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            assert probe.tick({"node": shared_rig.node.as_params(), "keep_seconds": 600, "max_bytes": 1 << 20}) is None
        finally:
            os.close(handle)

    def test_a_dead_lightningd_is_a_fact(self, fresh_rig: Rig) -> None:
        fresh_rig.node.prepare()
        fresh_rig.stop()
        sample = look(fresh_rig)
        assert sample["lightningd"] == {"running": False, "pid": 0}
        assert sample["trouble"]["code"] == "lightningd-down"

    def test_it_does_not_wait_for_a_hung_lightningd(self, fresh_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(probe_look, "RPC_SECONDS", 0.5)
        fresh_rig.node.prepare()
        fresh_rig.fault("hang-rpc")
        started = time.monotonic()
        sample = look(fresh_rig)
        assert sample["trouble"]["code"] == "rpc-timeout"
        assert time.monotonic() - started < 5

    def test_it_does_not_touch_lightningds_files(self, shared_rig: Rig) -> None:
        look(shared_rig)

        def written() -> dict[str, int]:
            files = [path for path in shared_rig.lightning_dir.rglob("*") if path.is_file() and path.name != "log"]
            return {str(path): path.stat().st_mtime_ns for path in files}

        before = written()
        look(shared_rig)
        assert written() == before

    def test_a_state_directory_that_cannot_be_written_is_said(self, shared_rig: Rig, tmp_path: Path) -> None:
        path = tmp_path / "probe.json"
        with pytest.raises(HiveError, match="does not describe a probe"):
            probe.load(path)
        assert probe.main(["probe", "--node", str(path)]) == 1


class TestDetached:
    def test_it_is_installed_once_and_stays(self, probed: Rig) -> None:
        first = probe.detached(probed.node)
        again = _probe_setup.install(probed.node, WANTED, check_mode=False)
        assert first is not None
        assert not again["changed"]
        assert probe.detached(probed.node) == first

    def test_check_mode_says_and_does_nothing(self, fresh_rig: Rig) -> None:
        assert _probe_setup.install(fresh_rig.node, WANTED, check_mode=True)["changed"]
        assert not probe.settings_file(fresh_rig.node).exists()

    def test_other_settings_replace_it(self, probed: Rig) -> None:
        first = probe.detached(probed.node)
        other = _probe_setup.Wanted(every=2.0, keep_seconds=600.0, max_bytes=1 << 20)
        assert _probe_setup.install(probed.node, other, check_mode=False)["changed"]
        wait_until(lambda: not alive(first), 20, "the probe before is gone")
        wait_until(lambda: probe.detached(probed.node) not in (None, first), 20, "the other probe runs")

    def test_it_sees_lightningd_die_and_come_back(self, probed: Rig) -> None:
        before = newest(probed)["lightningd"]["pid"]
        probed.stop()
        wait_until(lambda: not newest(probed)["lightningd"]["running"], 30, "the probe sees that lightningd is gone")
        probed.start()
        wait_until(lambda: newest(probed)["lightningd"]["running"], 30, "the probe sees lightningd again")
        assert newest(probed)["lightningd"]["pid"] not in (0, before)

    def test_it_arms_a_dead_man_that_is_gone(self, probed: Rig) -> None:
        probed.run("switched", [probed.item("0.2.0")], deadman_seconds=3600.0)
        first = deadman.watching(probed.node)
        assert first is not None
        probed.end_deadman()

        def rearmed() -> bool:
            facts = deadman.watching(probed.node)
            return facts is not None and bool(facts["alive"]) and facts["pid"] != first["pid"]

        wait_until(rearmed, 30, "the probe has armed the dead-man again")
        assert probed.run("confirmed")["phase"] == "confirmed"

    def test_it_ends_when_its_settings_go(self, probed: Rig) -> None:
        who = probe.detached(probed.node)
        probe.settings_file(probed.node).unlink()
        assert who is not None
        wait_until(lambda: not alive(who), 20, "the probe has ended")

    def test_removing_leaves_nothing(self, probed: Rig) -> None:
        who = probe.detached(probed.node)
        assert _probe_setup.remove(probed.node, check_mode=True)["changed"]
        assert probe.detached(probed.node) == who
        _probe_setup.remove(probed.node, check_mode=False)
        assert not alive(who)
        assert [path.name for path in probed.node.state_dir.glob("probe*")] == []
        assert not _probe_setup.remove(probed.node, check_mode=False)["changed"]

    def test_samples_are_one_after_the_other(self, probed: Rig) -> None:
        wait_until(lambda: len(samples_since(probe.ring_file(probed.node), 0)) >= 3, 30, "three samples are kept")
        times = [sample["time"] for sample in samples_since(probe.ring_file(probed.node), 0)]
        assert times == sorted(times)
