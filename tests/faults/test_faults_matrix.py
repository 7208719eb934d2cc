"""The matrix on scratch nodes: green where plugins hold, red for every way in which they do not, and nothing left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _matrix, _matrix_run, _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_scratch import alone, home_of, program
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.runtimes import runtime_of
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release
from faults.drill_rig import DrillRig, scratch_lightningd

COMMS, ARCHON, HIVE = _matrix.ORDER
Json = dict[str, Any]


class Stand(DrillRig):
    """A bench whose slots are made in milliseconds, and can be made bad."""

    bench: _matrix_run.Bench
    releases: dict[str, Release]

    def make(self, *plugins: str) -> None:
        """Make a slot of each plugin."""
        shutil.rmtree(self.node.slots_dir)
        self.releases = {}
        for name in plugins:
            slot = _slots.find_slot(self.node, name, self._hive_item(name)["digest"])
            self.releases[name] = Release(slot.manifest, Path("/nowhere"), "t")

    def promise(self, name: str, **changes: Any) -> None:
        """Let the manifest of a plugin say something else."""
        release = self.releases[name]
        self._mark(name, release.digest, {**release.manifest, **changes})

    def entry(self, name: str) -> Path:
        return _slots.find_slot(self.node, name, self.releases[name].digest).entry

    def look(self, name: str, **changes: Any) -> tuple[list[str], list[str]]:
        """Run one combination: the checks that failed, and those that were never seen."""
        (found,) = [one for one in _matrix.combinations(self.releases) if one.name == name]
        bench = replace(self.bench, patience=changes.pop("patience", self.bench.patience))
        checks, missing, figures = _matrix_run.run(bench, replace(found, **changes))
        assert figures["seconds"] > 0
        assert list(home_of(self.node).glob("run-*")) == []
        return [check.title for check in checks.failed], missing


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    rig = Stand(tmp_path_factory.mktemp("matrix"))
    artifact = scratch_lightningd()
    with alone(rig.node):
        unpacked = program(rig.node, runtime_of(rig.node), artifact)
        assert unpacked is not None
        rig.bench = _matrix_run.Bench(rig.node, unpacked, artifact, 60.0)
        yield rig


@pytest.fixture
def good(stand: Stand) -> Stand:
    stand.make(*_matrix.ORDER)
    return stand


def test_what_holds_is_seen_whole(good: Stand) -> None:
    assert good.look("full") == ([], [])
    assert good.look("refuse-archon") == ([], [])


def test_a_plugin_that_does_not_find_its_sibling_in_time_is_red(good: Stand) -> None:
    failed, missing = good.look("hive", modes={HIVE: "with-comms"}, patience=0.5)
    assert failed == [f"{HIVE} mode"]
    assert missing == [f"{HIVE} mode"]


def test_one_that_does_not_start_is_red_and_so_is_all_that_was_not_seen(good: Stand) -> None:
    good.entry(HIVE).write_text("#!/bin/sh\nexit 1\n")
    failed, missing = good.look("hive")
    assert failed == [f"{HIVE} starts"]
    assert {f"{HIVE} {name}" for name in _matrix.OF_PLUGIN} <= set(missing)
    assert "rpc surface" in missing


@pytest.mark.parametrize("more", [True, False])
def test_methods_other_than_the_promised_ones_are_red(good: Stand, more: bool) -> None:
    methods = good.releases[HIVE].manifest["rpc_methods"]
    good.promise(HIVE, rpc_methods=[*methods, "hive-nothing"] if more else methods[:-1])
    assert good.look("hive") == (["rpc surface"], ["rpc surface"])


def test_an_archon_that_runs_alone_is_red(good: Stand) -> None:
    good.entry(ARCHON).write_text(good.entry(HIVE).read_text())
    good.promise(ARCHON, options=[])
    failed, missing = good.look("refuse-archon")
    assert failed == missing == ["disables itself", "lightningd goes on"]


def test_a_plan_that_would_take_archon_alone_is_red(good: Stand) -> None:
    release = good.releases[ARCHON]
    careless = {**release.manifest, "requires": {**release.manifest["requires"], "plugins": []}}
    failed, missing = good.look("refuse-archon", releases=[replace(release, manifest=careless)])
    assert failed == missing == ["refused by the plan"]


def test_a_scratch_lightningd_that_does_not_come_up_is_red(good: Stand, tmp_path: Path) -> None:
    good.bench, kept = replace(good.bench, program=tmp_path), good.bench
    try:
        failed, missing = good.look("comms")
    finally:
        good.bench = kept
    assert failed == ["scratch node"]
    assert f"{COMMS} starts" in missing
