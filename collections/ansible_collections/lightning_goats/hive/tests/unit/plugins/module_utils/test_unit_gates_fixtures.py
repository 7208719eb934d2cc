"""Every check has a fixture that must be blocked and a world in which it passes, both on disk and signed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gates_world
import pytest
import yaml
from ansible_collections.lightning_goats.hive.plugins.module_utils import _gates, _gates_checks
from gates_world import DIGESTS, OTHER, RELEASES, World

Json = dict[str, Any]

FIXTURES = Path(gates_world.__file__).parent / "fixtures/gates"
NAMES = [check.name for check in _gates_checks.CHECKS]
EVERY = {f"{name}-0.1.0.pex": digest for name, digest in DIGESTS.items()}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everybody's keys, made once."""
    world = World(tmp_path_factory.mktemp("people"))
    world.people()
    return world.root / "keys"


@pytest.fixture
def world(people: Path, tmp_path: Path) -> World:
    shutil.copytree(people, tmp_path / "keys")
    return World(tmp_path)


def specs(check: str, case: Json) -> dict[str, Json]:
    """The evidence that a check looks at, as the case wants it."""
    kinds = gates_world.KINDS.get(check, [])
    found = {name: spec for name, spec in gates_world.good().items() if name.startswith(tuple(kinds))} if kinds else {}
    for name, change in (case.get("evidence") or {}).items():
        if change is None:
            del found[name]
        else:
            found[name] = _spec(found.get(name, {}), {"subjects": EVERY} if change == "every" else change)
    return found


def _spec(spec: Json, change: Json) -> Json:
    spec = {**spec, **change}
    spec["subjects"] = {name: OTHER if digest == "other" else digest for name, digest in spec["subjects"].items()}
    if spec.get("facts", {}).get("releases") == "older":
        older = [{"name": r.name, "digest": r.digest, "schema_version": r.schema - 1} for r in RELEASES]
        spec["facts"] = {**spec["facts"], "releases": older}
    return spec


def build(world: World, check: str, case: Mapping[str, Any]) -> _gates.Finding:
    """Put a case on disk and ask the check."""
    world.register(case.get("registers"))
    world.add_all(specs(check, dict(case)))
    for incident in case.get("incidents") or [{}]:
        world.incident(**incident)
    if check == "S1":
        for approval in case.get("approvals") or [{"person": "alice"}]:
            world.approve(**approval)
    if check == "S2":
        place, commit = gates_world.repository(world.root, world, **(case.get("baseline") or {}))
        named = {"repository": str(place), "tag": "v2.9.0", "commit": commit}
        (world.registers / "baseline.yml").write_text(yaml.safe_dump(named))
    return gates_world.finding(world.context(), check)


def test_every_check_ships_a_fixture_that_must_be_blocked() -> None:
    assert sorted(path.stem for path in FIXTURES.glob("*.yml")) == sorted(NAMES)
    assert set(gates_world.KINDS) <= set(NAMES)


@pytest.mark.parametrize("check", NAMES)
def test_the_fixture_is_blocked(world: World, check: str) -> None:
    case = yaml.safe_load((FIXTURES / f"{check}.yml").read_text())
    found = build(world, check, case)
    assert found.state == _gates.BLOCK
    assert case["says"] in found.detail
    assert found.waiver is None


@pytest.mark.parametrize("check", NAMES)
def test_without_its_fault_it_passes(world: World, check: str) -> None:
    found = build(world, check, {})
    assert (found.state, list(found.gaps)) == (_gates.PASS, [])
    assert found.as_dict()["command"] == ""


@pytest.mark.parametrize("how", ["no", "stranger", "changed", "approval"])
def test_evidence_that_nobody_of_the_list_signed_for_this_blocks(world: World, how: str) -> None:
    """Unsigned, by a stranger, changed afterwards, signed for another purpose: it says nothing at all."""
    world.register()
    world.add_all({name: {**spec, "signed": how} for name, spec in gates_world.good().items()})
    context = world.context()
    decision = _gates.decide(_gates_checks.CHECKS, context)
    states = {finding.check: finding.state for finding in decision.findings}
    assert {states[check] for check in gates_world.KINDS} == {_gates.BLOCK}
    detail = next(finding.detail for finding in decision.findings if finding.check == "A1")
    assert "suite-cl-hive does not count: suite-cl-hive-" in detail


def test_nothing_at_all_is_denied(world: World) -> None:
    decision = _gates.decide(_gates_checks.CHECKS, world.context())
    # Without an incident register nobody knows of incidents; every check stands on something.
    assert {finding.state for finding in decision.findings} == {_gates.BLOCK}
    assert not decision.allowed
    assert not _gates.Decision([]).allowed


def test_with_everything_there_all_gates_are_open(world: World) -> None:
    world.register()
    world.incident()
    world.add_all(gates_world.good())
    world.approve("alice")
    place, commit = gates_world.repository(world.root, world)
    (world.registers / "baseline.yml").write_text(
        yaml.safe_dump({"repository": str(place), "tag": "v2.9.0", "commit": commit})
    )
    decision = _gates.decide(_gates_checks.CHECKS, world.context())
    assert [(finding.check, finding.detail) for finding in decision.findings if finding.state != _gates.PASS] == []
    assert (decision.allowed, decision.word) == (True, "allowed")
    drilled = next(finding for finding in decision.findings if finding.check == "B4")
    assert drilled.figures == {"rto_seconds": 2.5, "rpo_seconds": 60.0}
    assert len(drilled.evidence) == 1
