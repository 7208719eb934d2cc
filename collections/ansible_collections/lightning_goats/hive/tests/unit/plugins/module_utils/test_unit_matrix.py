"""The matrix knows its combinations, and nothing that was not seen is green."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _evidence, _matrix, _plan_hosts
from ansible_collections.lightning_goats.hive.plugins.module_utils._drill_checks import Check
from ansible_collections.lightning_goats.hive.plugins.module_utils._gates_checks import COMBINATIONS
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import Release, ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._releases_wanted import (
    wanted_stacks,
    wanted_versions,
)

ROOT = Path(__file__).resolve().parents[8]
COMMS, ARCHON, HIVE = _matrix.ORDER
Json = dict[str, Any]


def release(name: str, version: str = "0.2.0") -> Release:
    digest = (name[-1] + version.replace(".", "")).encode().hex().ljust(64, "0")
    manifest = {"name": name, "version": version, "artifact": {"sha256": digest}, "schema_version": 2}
    return Release(manifest, Path("/releases"), "t")


STACK = {name: release(name) for name in _matrix.ORDER}
OLDER = {name: release(name, "0.1.0") for name in _matrix.ORDER}


def test_the_combinations_are_those_that_the_gate_asks_for_and_the_docs_describe() -> None:
    found = {one.name: {release.name for release in one.releases} for one in _matrix.combinations(STACK)}
    assert found == {name: set(plugins) for name, plugins in COMBINATIONS.items()}
    text = (ROOT / "docs/reference/cl-hive-comms.md").read_text(encoding="utf-8")
    assert {modes[COMMS] for modes in _matrix.SUPPORTED.values() if COMMS in modes} <= set(
        re.findall(r"`([\w-]+)`", text)
    )
    assert "(`mode` `monolith`)" in (ROOT / "docs/reference/cl-hive.md").read_text(encoding="utf-8").replace("\n", " ")
    assert _matrix.SUPPORTED["hive"] == {HIVE: "monolith"}


@pytest.mark.parametrize(
    ("names", "made"),
    [
        ([COMMS], ["comms"]),
        ([HIVE], ["hive"]),
        ([ARCHON], ["refuse-archon"]),
        ([COMMS, HIVE], ["comms", "comms+hive", "hive"]),
        ([], []),
    ],
)
def test_only_what_the_stack_can_form_is_tried(names: list[str], made: list[str]) -> None:
    assert [one.name for one in _matrix.combinations({name: STACK[name] for name in names})] == made


def test_mixed_is_each_plugin_old_beside_new_ones_and_new_beside_old_ones() -> None:
    def versions(found: list[_matrix.Combination]) -> set[tuple[str, ...]]:
        return {tuple(release.version for release in one.releases) for one in found}

    new, old = "0.2.0", "0.1.0"
    pair = {name: STACK[name] for name in (COMMS, HIVE)}
    assert versions(_matrix.mixtures(pair, OLDER)) == {(new, old), (old, new)}
    three = {(old, new, new), (new, old, new), (new, new, old), (new, old, old), (old, new, old), (old, old, new)}
    assert versions(_matrix.mixtures(STACK, OLDER)) == three
    assert versions(_matrix.mixtures(STACK, {COMMS: OLDER[COMMS]})) == {(old, new, new)}
    assert _matrix.mixtures(STACK, {}) == []
    assert _matrix.mixtures({COMMS: STACK[COMMS]}, OLDER) == []
    assert _matrix.mixtures(STACK, STACK) == []


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (["0.1.0", "0.1.9", "0.1.10", "0.2.0", "0.3.0"], "0.1.10"),
        (["0.2.0"], ""),
        ([], ""),
        (["not-a-version"], "not-a-version"),
    ],
)
def test_the_release_before_is_the_newest_older_one(there: list[str], found: str) -> None:
    assert _matrix.before("0.2.0", there) == found


def outcome(**more: Any) -> _matrix.Outcome:
    given: Json = {"checks": [Check("log", True)], **more}
    return _matrix.Outcome("full", _matrix.artifacts(list(STACK.values())), [], 1.0, 2.0, **given)


@pytest.mark.parametrize(
    ("more", "result", "reason"),
    [
        ({}, "PASSED", ""),
        ({"checks": []}, "FAILED", "nothing ran"),
        ({"checks": [Check("log", None, "not asked")]}, "FAILED", ""),
        ({"missing": ["cl-hive mode"]}, "FAILED", "cl-hive mode was never seen"),
        ({"checks": [Check("log", True), Check("mode", False, "none", COMMS)]}, "FAILED", "cl-hive-comms mode: none"),
        ({"checks": [], "untested": "there is no older release"}, "WARNED", "there is no older release"),
    ],
)
def test_only_what_was_seen_whole_is_green(more: Json, result: str, reason: str) -> None:
    found = outcome(**more)
    assert (found.result, found.reason) == (result, reason)
    made = _matrix.statement(found, {"digest": "cd" * 32}, "again", 30)
    assert made["predicate"]["result"] == result
    assert len(made["subject"]) == 3
    assert ("FAILED" in found.line) == (result == "FAILED")
    assert set(more.get("missing", [])) <= set(made["predicate"]["failedTests"])


def test_every_combination_asks_for_something() -> None:
    for one in (*_matrix.combinations(STACK), *_matrix.mixtures(STACK, OLDER)):
        assert len(one.required) >= len(_matrix.OF_REFUSAL)
        assert ("", "nothing left") in one.required


def proof(kind: str, result: str = "PASSED", stack: dict[str, Release] | None = None, ends: float = 1e10) -> Any:
    sides = {"before": [], "after": _matrix.described(list((STACK if stack is None else stack).values()))}
    facts = {"finished_at": 1.0, "expires_at": ends, "nodes": {"alpha": sides}}
    return _evidence.Evidence(Path(f"/e/{kind}-process-1.json"), "t", result, facts)


@pytest.mark.parametrize(
    ("adoption", "back", "result"),
    [
        ([proof("adoption")], [proof("carry-back")], "PASSED"),
        ([proof("adoption")], [proof("carry-back", "FAILED"), proof("carry-back")], "FAILED"),
        ([proof("adoption", ends=5.0)], [proof("carry-back")], "FAILED"),
        ([proof("adoption", stack={COMMS: STACK[COMMS]})], [proof("carry-back")], "FAILED"),
        ([proof("adoption", stack=OLDER)], [proof("carry-back")], "WARNED"),
        ([proof("adoption")], [], "WARNED"),
        ([], [], "WARNED"),
    ],
)
def test_the_monolith_is_what_runs_on_nodes_have_shown(adoption: list[Any], back: list[Any], result: str) -> None:
    names = {one.path.name: "ab" * 32 for one in (*adoption, *back)}
    found = _matrix.monolith(STACK, {"adoption": adoption, "carry-back": back}, names, 10.0)
    assert found.result == result
    assert bool(found.reason) == (result != "PASSED")
    if result == "PASSED":
        assert set(found.tested_with) == {"adoption-process-1.json", "carry-back-process-1.json"}


def test_what_was_read_from_evidence_counts_no_longer_than_that() -> None:
    proofs = {"adoption": [proof("adoption", ends=50.0)], "carry-back": [proof("carry-back")]}
    names = {f"{kind}-process-1.json": "ab" * 32 for kind in proofs}
    found = _matrix.monolith(STACK, proofs, names, 10.0)
    for days in (0, 30):
        assert _matrix.statement(found, {}, "again", days)["predicate"]["hive"]["expires_at"] == 50.0
    assert _matrix.statement(outcome(), {}, "again", 0)["predicate"]["hive"]["expires_at"] is None


class Stacks:
    """What the inventory says of each node."""

    def __init__(self, **stacks: Any) -> None:
        self.stacks = stacks
        self.names = list(stacks)

    def get(self, node: str, name: str, default: Any = None) -> Any:
        return self.stacks[node] if name == "hive_stack" else default


def test_the_releases_are_those_of_all_nodes_each_once() -> None:
    hosts: Any = Stacks(
        alpha=[{"name": COMMS, "version": "0.2.0"}],
        bravo=[{"name": COMMS, "version": "0.2.0"}],
        charlie=[{"name": COMMS, "version": "0.1.0"}, {"name": HIVE, "version": "0.1.0"}],
    )
    assert wanted_versions(hosts, {}) == [(HIVE, "0.1.0"), (COMMS, "0.1.0"), (COMMS, "0.2.0")]
    assert wanted_versions(hosts, {COMMS: "0.3.0", ARCHON: "9"}) == [(HIVE, "0.1.0"), (COMMS, "0.3.0")]
    assert len(wanted_stacks(hosts, {})) == 2


@pytest.mark.parametrize("stack", [[], "latest", [{"name": COMMS}], [{"name": COMMS, "version": "latest"}]])
def test_an_inventory_without_releases_is_refused(stack: Any) -> None:
    hosts: Any = Stacks(alpha=stack)
    with pytest.raises(ReleaseError) as error:
        wanted_stacks(hosts, {})
    assert error.value.code == "bad-stack"


def test_a_playbook_after_another_forgets_every_result() -> None:
    names = {value for value in vars(_plan_hosts).values() if isinstance(value, str) and value.startswith("__hive_")}
    (task,) = yaml.safe_load((ROOT / "playbooks/tasks/forget.yml").read_text(encoding="utf-8"))
    assert set(task["ansible.builtin.set_fact"]) == names
