"""The probe's samples and the ring that keeps them."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.filter.probe import DEFAULTS, probed_hosts, probing_hosts
from ansible_collections.lightning_goats.hive.plugins.module_utils import _probe_setup
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import bundle, probe_ring
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_ring import (
    FORGET,
    Ring,
    carried,
    count_samples,
    each_sample,
    last_sample,
    samples_since,
)


def sample(when: float, size: int = 0) -> dict[str, Any]:
    return {"time": when, "ballast": "x" * size}


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring(tmp_path / "probe.sqlite3", keep_seconds=100, max_bytes=64 * 4096)


class TestRing:
    def test_the_newest_comes_back(self, ring: Ring) -> None:
        ring.add(sample(1000))
        ring.add(sample(1030))
        assert last_sample(ring.path) == sample(1030)
        assert samples_since(ring.path, 1000) == [sample(1030)]

    def test_only_its_owner_reads_it(self, ring: Ring) -> None:
        ring.add(sample(1000))
        assert ring.path.stat().st_mode & 0o777 == 0o600

    def test_what_is_too_old_goes(self, ring: Ring) -> None:
        for when in (1000, 1050, 1101):
            ring.add(sample(when))
        assert [found["time"] for found in samples_since(ring.path, 0)] == [1050, 1101]

    def test_the_file_does_not_outgrow_its_limit(self, ring: Ring) -> None:
        for number in range(400):
            ring.add(sample(1000 + number / 100, size=3000))
        assert ring.path.stat().st_size <= 66 * 4096
        kept = [found["time"] for found in samples_since(ring.path, 0)]
        assert kept[-1] == 1003.99
        assert len(kept) > 30

    def test_a_damaged_file_is_begun_anew(self, ring: Ring) -> None:
        ring.path.write_bytes(b"no database at all, but long enough to be taken for one" * 20)
        ring.add(sample(1000))
        assert last_sample(ring.path) == {**sample(1000), "begun_anew": True}

    def test_a_damaged_file_has_no_samples(self, ring: Ring) -> None:
        ring.path.write_bytes(b"no database" * 100)
        assert (last_sample(ring.path), count_samples(ring.path), samples_since(ring.path, 0)) == (None, 0, [])

    def test_a_link_is_refused(self, ring: Ring, tmp_path: Path) -> None:
        ring.path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="symbolic link") as refusal:
            ring.add(sample(1000))
        assert refusal.value.errno == errno.ELOOP

    def test_a_full_disk_is_said_in_a_sentence(self, ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: Any) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(Ring, "_add", full)
        with pytest.raises(HiveError, match=r"the disk of .* is full; free some space"):
            ring.add(sample(1000))

    def test_a_clock_that_is_ahead_for_a_minute_does_not_empty_it(self, ring: Ring) -> None:
        for number in range(100):
            ring.add(sample(1000 + number))
        ring.add(sample(9_000_000))
        assert count_samples(ring.path) == 101 - FORGET
        ring.add(sample(1101))
        assert last_sample(ring.path) == sample(1101)
        assert count_samples(ring.path) > 30

    def test_what_a_sample_costs_does_not_grow_with_those_that_are_kept(self, ring: Ring) -> None:
        ring.add(sample(1000))
        with sqlite3.connect(ring.path) as database:
            plan = database.execute(f"EXPLAIN QUERY PLAN {probe_ring.OLD}", (900, FORGET)).fetchall()
        database.close()
        assert any("samples_by_time (time<?)" in row[3] for row in plan), plan

    def test_what_the_next_look_has_to_know_outlives_every_sample(self, ring: Ring) -> None:
        assert carried(ring.path) == {}
        ring.add(sample(1000), {"live": ["a"]})
        ring.add(sample(2000), {"live": ["b"]})
        assert carried(ring.path) == {"live": ["b"]}
        ring.add(sample(3000))
        assert carried(ring.path) == {"live": ["b"]}

    def test_a_ring_of_an_earlier_release_carries_nothing(self, ring: Ring) -> None:
        with sqlite3.connect(ring.path) as database:
            database.execute("CREATE TABLE samples (seq INTEGER PRIMARY KEY, time REAL NOT NULL, sample TEXT NOT NULL)")
            database.execute("INSERT INTO samples (time, sample) VALUES (?, ?)", (1000, '{"schema": 1, "time": 1000}'))
        database.close()
        assert carried(ring.path) == {}
        ring.add(sample(1030), {"live": []})
        assert [found["time"] for found in each_sample(ring.path, 0)] == [1000, 1030]
        assert carried(ring.path) == {"live": []}

    def test_samples_come_some_at_a_time_and_all(self, ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(probe_ring, "AT_ONCE", 4)
        for number in range(15):
            ring.add(sample(1000 + number))
        assert [found["time"] for found in each_sample(ring.path, 1003)] == list(range(1003, 1015))

    def test_a_sample_that_a_disk_has_changed_is_left_out(self, ring: Ring) -> None:
        for number in range(4):
            ring.add(sample(1000 + number))
        with sqlite3.connect(ring.path) as database:
            database.execute("UPDATE samples SET sample = replace(sample, '1001', '10#1') WHERE time = 1001")
            database.execute("UPDATE samples SET sample = '[]' WHERE time = 1002")
            database.execute("UPDATE samples SET sample = x'00ff' WHERE time = 1003")
        database.close()
        assert list(each_sample(ring.path, 0)) == [sample(1000)]
        assert last_sample(ring.path) is None

    def test_pages_that_a_disk_has_changed_are_begun_anew(self, ring: Ring) -> None:
        for number in range(30):
            ring.add(sample(1000 + number, size=3000))
        content = bytearray(ring.path.read_bytes())
        content[4096:] = b"\xa5" * (len(content) - 4096)
        ring.path.write_bytes(content)
        assert (last_sample(ring.path), list(each_sample(ring.path, 0)), carried(ring.path)) == (None, [], {})
        ring.add(sample(1100), {"live": []})
        assert last_sample(ring.path) == {**sample(1100), "begun_anew": True}


class TestWhoNeedsOne:
    def node(self, seen: dict[str, Any] | None = None, **variables: Any) -> dict[str, Any]:
        probe = {
            "engine": bundle.engine_digest(),
            "every": 60.0,
            "keep_seconds": 604800.0,
            "max_bytes": 67108864,
            "backup_every": 86400.0,
            "backup_keep": 10,
            "metrics_dir": "",
            "min_free_bytes": 268435456,
            "same_node": True,
            "last_at": 990.0,
        }
        observed = {"time": 1000.0, "probe": None if seen is None else {**probe, **seen}}
        return {"__hive_preflight_result": {"observed": observed}, **variables}

    def test_a_probe_at_work_is_left_alone(self) -> None:
        hostvars = {"alpha": self.node({})}
        assert probing_hosts(hostvars) == "all:!all"
        assert probed_hosts(hostvars) == "alpha"

    @pytest.mark.parametrize(
        "seen",
        [
            None,
            {"engine": "0" * 16},
            {"same_node": False},
            {"every": 31.0},
            {"last_at": None},
            {"last_at": 759.0},
            {"backup_every": None},
            {"backup_every": 3600.0},
            {"backup_keep": 3},
            {"metrics_dir": "/srv"},
            {"min_free_bytes": None},
        ],
    )
    def test_none_another_or_a_late_one(self, seen: dict[str, Any] | None) -> None:
        assert probing_hosts({"alpha": self.node(seen), "bravo": self.node({})}) == "alpha"

    @pytest.mark.parametrize("no", [False, "false", "no"])
    def test_not_wanted(self, no: Any) -> None:
        assert probing_hosts({"alpha": self.node(hive_probe=no)}) == "all:!all"

    def test_the_inventory_has_its_say(self) -> None:
        assert probing_hosts({"alpha": self.node({}, hive_probe_max_bytes=1 << 20)}) == "alpha"
        assert probing_hosts({"alpha": self.node({"every": 5}, hive_probe_interval_seconds=5)}) == "all:!all"

    def test_a_node_that_was_not_observed(self) -> None:
        hostvars = {"alpha": {}, "bravo": {"__hive_preflight_result": {"unreachable": True}}}
        assert (probing_hosts(hostvars), probed_hosts(hostvars)) == ("all:!all", "all:!all")

    def test_the_defaults_are_the_roles(self) -> None:
        roles = Path(__file__).parents[8] / "roles"
        found: dict[str, Any] = {}
        for role in ("hive_common", "hive_probe"):
            found |= yaml.safe_load((roles / role / "defaults/main.yml").read_text())
        assert {name: found[name] for name in DEFAULTS} == DEFAULTS


class TestUnits:
    def node(self, tmp_path: Path, name: str = "alpha") -> Node:
        (tmp_path / "lightning").mkdir(exist_ok=True)
        return Node.from_params(
            {
                "name": name,
                "runtime": "process",
                "lightning_dir": str(tmp_path / "lightning"),
                "network": "regtest",
                "state_dir": str(tmp_path / "hive %h"),
            }
        )

    def test_a_name_cannot_leave_the_directory_of_units(self, tmp_path: Path) -> None:
        assert _probe_setup.unit_name(self.node(tmp_path, "../../evil node")) == "hive-probe-..-..-evil-node"

    def test_words_are_quoted_for_systemd(self, tmp_path: Path) -> None:
        node = self.node(tmp_path)
        wanted = _probe_setup.Wanted(every=60, keep_seconds=600, max_bytes=1 << 20)
        texts = _probe_setup._texts(node, wanted, "d", tmp_path / "engine.pyz", scheduled=True)
        service = next(text for path, text in texts.items() if path.suffix == ".service")
        assert f'ReadWritePaths="{tmp_path}/hive %%h"' in service
        assert "OnUnitActiveSec=60s" in next(text for path, text in texts.items() if path.suffix == ".timer")
        backup = texts[_probe_setup.UNITS / "hive-backup-alpha.service"]
        assert f'engine.pyz backup --node "{tmp_path}/hive %%h/probe.json"\n' in backup
        assert "ReadWritePaths" not in backup, "databases may lie anywhere, and reading one writes beside it"

    @pytest.mark.parametrize("bad", [(0.5, 600, 1 << 20), (30, 29, 1 << 20), (30, 600, 1000)])
    def test_settings_that_cannot_work(self, tmp_path: Path, bad: tuple[float, float, int]) -> None:
        with pytest.raises(HiveError, match="change hive_probe_interval_seconds"):
            _probe_setup.install(self.node(tmp_path), _probe_setup.Wanted(*bad), check_mode=True)


def test_the_digest_is_the_archive_s() -> None:
    assert bundle.engine_digest() == bundle.engine_archive()[1]
