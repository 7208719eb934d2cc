"""The probe on a node on which things go wrong: it sees, it never waits long, and it never gets in the way."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _probe_setup
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import (
    deadman,
    probe,
    probe_forwards,
    probe_look,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError, RpcRefusedError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_ring import (
    Ring,
    each_sample,
    last_sample,
    samples_since,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.processes import alive
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc
from ansible_collections.lightning_goats.hive.plugins.module_utils._series import from_samples
from ansible_collections.lightning_goats.hive.plugins.module_utils._slots import find_slot
from faults.rig import Rig
from waiting import wait_until

WANTED = _probe_setup.Wanted(every=1.0, keep_seconds=600.0, max_bytes=1 << 20)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that waits for a busy machine: only tests of its own patience are to depend on it."""
    monkeypatch.setattr(probe_look, "RPC_SECONDS", 30.0)
    monkeypatch.setattr(probe_look, "TICK_SECONDS", 120.0)
    monkeypatch.setattr(probe_forwards, "SECONDS", 60.0)


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

    def test_what_a_plugin_logs_as_an_error_is_counted_as_its(self, shared_rig: Rig) -> None:
        look(shared_rig)
        shared_rig.fault("log-broken", message="it is the plugin's", source="plugin-hive-fixture")
        log = look(shared_rig)["log"]
        assert (log["count"], log["errors_count"]) == (1, 1)

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


class TestForwards:
    def test_those_that_ended_since_the_look_before(self, shared_rig: Rig) -> None:
        assert look(shared_rig)["forwards"]["settled"] == 0
        shared_rig.call("sandbox-forwards", count=3, amount=5_000_000)
        shared_rig.call("sandbox-forwards", count=2, status="failed")
        shared_rig.call("sandbox-forwards", count=4, status="local_failed")
        found = look(shared_rig)["forwards"]
        assert (found["settled"], found["failed"], found["msat"], found["fee_msat"]) == (3, 6, 15_000_000, 15_000)
        assert look(shared_rig)["forwards"]["settled"] == 0

    def test_those_of_a_time_without_an_answer_are_counted_when_there_is_one(self, fresh_rig: Rig) -> None:
        look(fresh_rig)
        fresh_rig.call("sandbox-forwards", count=3)
        fresh_rig.stop()
        assert "forwards" not in look(fresh_rig)
        fresh_rig.start()
        sample = look(fresh_rig)
        assert (sample["forwards"]["settled"], sample["lightningd"]["restarts"]) == (3, 1)

    def test_a_hundred_thousand_at_once_take_some_looks_and_little_memory(
        self, shared_rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look(shared_rig)
        for _ in range(20):
            shared_rig.call("sandbox-forwards", count=5_000)
        first = look(shared_rig)["forwards"]
        assert first["behind"]
        assert first["settled"] <= probe_forwards.PAGES * probe_forwards.PAGE
        counts = [first["settled"]]
        # Tracing is slow, and every look reads in the same way.
        with monkeypatch.context() as short:
            short.setattr(probe_forwards, "PAGES", 2)
            tracemalloc.start()
            counts.append(look(shared_rig)["forwards"]["settled"])
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 10 << 20, "one page at a time"
        while sum(counts) < 100_000:
            counts.append(look(shared_rig)["forwards"]["settled"])
            assert len(counts) < 50, "each look reads on from where the one before ended"
        assert sum(counts) == 100_000
        assert look(shared_rig)["forwards"]["settled"] == 0

    def test_a_lightningd_that_cannot_wait_is_said_and_nothing_else_is_lost(
        self, shared_rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = Rpc.call

        def older(rpc: Rpc, method: str, params: Any = None, timeout: float | None = None) -> Any:
            if method == "wait":
                raise RpcRefusedError(method, -32601, "Unknown command 'wait'")
            return call(rpc, method, params, timeout)

        monkeypatch.setattr(Rpc, "call", older)
        sample = look(shared_rig)
        assert sample["forwards"] == {"trouble": "rpc-refused"}
        assert all(plugin["health"] == "ok" for plugin in sample["plugins"])
        series = from_samples([sample])
        assert (series["up"], series["forwards_known"], series["forwards"]) == ([1], [0], [0])


class TestPlugins:
    def test_one_that_is_back_within_an_interval_was_restarted(self, shared_rig: Rig) -> None:
        item = shared_rig.item("0.1.0")
        shared_rig.settle([item])
        assert look(shared_rig)["plugins"][0]["restarts"] == 0
        path = find_slot(shared_rig.node, item["name"], item["digest"]).inside(shared_rig.node)
        shared_rig.machine.rpc.call("plugin", {"subcommand": "stop", "plugin": path})
        shared_rig.machine.rpc.call("plugin", ["start", path])
        assert look(shared_rig)["plugins"][0]["restarts"] == 1
        sample = look(shared_rig)
        assert (sample["plugins"][0]["restarts"], sample["lightningd"]["restarts"]) == (0, 0)

    def test_one_that_hangs_in_its_health_rpc_costs_no_other(
        self, fresh_rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(probe_look, "RPC_SECONDS", 3.0)
        fresh_rig.settle([fresh_rig.item("0.1.0"), fresh_rig.second()])
        assert {plugin["health"] for plugin in look(fresh_rig)["plugins"]} == {"ok"}
        pids = {plugin["name"]: plugin["pid"] for plugin in look(fresh_rig)["plugins"]}
        os.kill(pids["hive-fixture"], signal.SIGSTOP)
        try:
            sample = look(fresh_rig)
        finally:
            os.kill(pids["hive-fixture"], signal.SIGCONT)
        plugins = {plugin["name"]: plugin for plugin in sample["plugins"]}
        assert (plugins["hive-fixture"]["health"], plugins["hive-fixture"]["active"]) == ("", True)
        assert plugins["hive-fixture"]["rpc_ms"] >= 3000
        assert plugins["hive-fixture-second"]["health"] == "ok"
        assert sample["forwards"]["settled"] == 0
        assert sample["lightningd"]["running"]


class TestRing:
    def test_samples_of_two_releases_are_one_series(self, shared_rig: Rig) -> None:
        shared_rig.node.prepare()
        ring = Ring(probe.ring_file(shared_rig.node), 600, 1 << 20)
        lightningd = {"running": True, "pid": 1, "started_at": 1.0, "height": 1, "synced": True, "rpc_ms": 1.0}
        old = {"schema": 1, "lightningd": lightningd, "channels": {}, "forwards": {"in_payments_offered": 3}}
        since = time.time()
        ring.add({**old, "time": since, "log": {"broken": ["x: y"], "count": 1}, "plugins": []})
        look(shared_rig)
        series = from_samples(each_sample(ring.path, since))
        assert (series["up"], series["broken"], series["forwards_known"]) == ([1, 1], [1, 0], [0, 1])

    def test_a_damaged_one_costs_the_samples_and_nothing_else(self, shared_rig: Rig) -> None:
        look(shared_rig)
        path = probe.ring_file(shared_rig.node)
        content = bytearray(path.read_bytes())
        content[100:] = b"\x5a" * (len(content) - 100)
        path.write_bytes(content)
        assert look(shared_rig)["lightningd"]["running"]
        assert newest(shared_rig)["begun_anew"] is True
        assert look(shared_rig)["log"]["count"] == 0

    def test_a_disk_that_is_full_is_said_and_lightningd_was_looked_after(
        self, shared_rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        look(shared_rig)
        kept = newest(shared_rig)
        settings = {"node": shared_rig.node.as_params(), "keep_seconds": 600, "max_bytes": 1 << 20}
        path = probe.settings_file(shared_rig.node)
        path.write_text(json.dumps(settings))
        looked: list[str] = []

        def full(*_: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(Ring, "_add", full)
        monkeypatch.setattr(probe, "watch_the_deadman", lambda node: looked.append(node.name))
        assert probe.main(["probe", "--node", str(path)]) == 1
        assert "is full; free some space" in capsys.readouterr().err
        assert looked == ["rig"], "an open switch is watched over whatever the disk says"
        path.unlink()
        assert newest(shared_rig) == kept

    def test_a_clock_that_is_set_back_loses_no_line_and_no_forward(
        self, shared_rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look(shared_rig)
        shared_rig.fault("log-broken", message="while the clock went back")
        shared_rig.call("sandbox-forwards", count=2)
        clock = time.time
        with monkeypatch.context() as earlier:
            earlier.setattr(time, "time", lambda: clock() - 7200)
            sample = look(shared_rig)
        assert (sample["log"]["count"], sample["forwards"]["settled"]) == (1, 2)
        sample = look(shared_rig)
        assert (sample["log"]["count"], sample["forwards"]["settled"]) == (0, 0)
        series = from_samples(each_sample(probe.ring_file(shared_rig.node), clock() - 9000))
        assert series["time"] == sorted(series["time"])


class TestMarks:
    def test_a_brake_and_a_pause_stand_in_the_sample(self, shared_rig: Rig) -> None:
        assert (look(shared_rig)["brake"], look(shared_rig)["pause"]) == ("", "")
        (shared_rig.node.state_dir / "brake").write_text("smoke\n")
        (shared_rig.node.state_dir / "pause").touch()
        try:
            sample = look(shared_rig)
        finally:
            (shared_rig.node.state_dir / "brake").unlink()
            (shared_rig.node.state_dir / "pause").unlink()
        assert sample["brake"] == "smoke"
        assert "without a word why" in sample["pause"]


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
