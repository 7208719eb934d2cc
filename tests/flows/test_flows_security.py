"""security.yml as an operator runs it: runes that can do what they may, signed evidence, and what it says when not."""

from __future__ import annotations

import json
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _surface
from flows.flow_fleet import ROOT, Fleet, Shelf

Json = dict[str, Any]

FIXTURES = ROOT / "tests/fixtures/security"
# The fixture's advisories are of one day for ever.
ANY_AGE = 100_000


@pytest.fixture(scope="module")
def fleet(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A node that runs the fixture plugin, with reviewed lists of its own, an MCP server and advisories."""
    root = tmp_path_factory.mktemp("security")
    reviewed = tomllib.loads((_surface.SHIPPED / _surface.TOOLS).read_text(encoding="utf-8"))["tools"]
    server = root / "tools.json"
    server.write_text(json.dumps({"tools": [{"name": name} for name in reviewed]}), encoding="utf-8")
    variables = {
        "hive_evidence_dir": str(root / "evidence"),
        "hive_evidence_keys_dir": str(root / "keys"),
        "hive_reviewed_dir": str(FIXTURES / "reviewed"),
        "hive_runes_dir": str(root / "runes"),
        "hive_mcp_server": str(server),
        "hive_advisories": str(FIXTURES / "advisories"),
        "hive_advisories_max_age_days": ANY_AGE,
    }
    fleet = Fleet(root, shelf, variables)
    fleet.up(1)
    fleet.good("rollout")
    yield fleet
    fleet.down()


def newest(fleet: Fleet, name: str) -> Json:
    """The newest statement of a kind and label."""
    paths = sorted((fleet.root / "evidence").glob(f"{name}-2*.json"))
    assert paths, f"no evidence {name}"
    made: Json = json.loads(paths[-1].read_text(encoding="utf-8"))
    return made


def rune_files(fleet: Fleet) -> dict[str, str]:
    """The runes on the node, by role."""
    found = {}
    for path in sorted((fleet.sandbox / "alpha/hive/runes").glob("*.rune")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        found[path.stem] = path.read_text(encoding="ascii").strip()
    return found


def may(fleet: Fleet, rune: str, method: str, *params: str) -> bool:
    asked = ["-k", "checkrune", f"rune={rune}", f"method={method}", *(f"params={text}" for text in params)]
    return fleet.cli("alpha", *asked).get("valid") is True


def test_a_dry_run_makes_nothing_and_a_run_makes_all_of_it(fleet: Fleet) -> None:
    before = sorted((fleet.root / "evidence").iterdir())
    fleet.good("security", "--check")
    assert sorted((fleet.root / "evidence").iterdir()) == before
    assert not (fleet.root / "runes").exists()
    assert fleet.cli("alpha", "showrunes")["runes"] == []

    outcome = fleet.good("security")
    for name in ("runes-alpha", "surface-hive-fixture", "mcp-tools", "audit-hive-fixture", "sbom-hive-fixture"):
        assert "PASSED" in outcome.sentence(name), outcome.text
        made = newest(fleet, name)
        assert made["predicate"]["result"] == "PASSED"
        assert made["predicate"]["failedTests"] == []
        assert made["predicate"]["passedTests"] != []
        facts = made["predicate"]["hive"]
        assert facts["expires_at"] > facts["finished_at"] >= facts["started_at"]
        assert facts["command"].startswith("ansible-playbook playbooks/security.yml")
        if not name.startswith(("runes", "mcp")):
            subjects = {item["name"]: item["digest"]["sha256"] for item in made["subject"]}
            assert subjects["hive-fixture-0.1.0.pex"] == fleet.shelf.digest("0.1.0")
    assert newest(fleet, "surface-hive-fixture")["predicate"]["hive"]["nodes"] == ["alpha"], "the running one was asked"

    runes = rune_files(fleet)
    assert sorted(runes) == ["monitor", "probe"]
    assert may(fleet, runes["monitor"], "listfunds")
    assert may(fleet, runes["probe"], "getinfo")
    for method in ("plugin", "stop", "pay", "hive-genesis", "hive-client-authorize", "createrune"):
        assert not any(may(fleet, rune, method) for rune in runes.values()), method
    assert may(fleet, runes["monitor"], "hive-client-payments", '{"action": "list"}')
    assert not may(fleet, runes["monitor"], "hive-client-payments", '{"action": "pay"}')

    copies = sorted((fleet.root / "runes/alpha").iterdir())
    assert {path.stem: path.read_text(encoding="ascii").strip() for path in copies} == runes
    assert {stat.S_IMODE(path.stat().st_mode) for path in copies} == {0o600}
    kept = [path for path in fleet.root.rglob("*") if path.is_file() and path.suffix in (".json", ".txt", ".jsonl")]
    secrets = [path for path in kept for rune in runes.values() if rune.encode() in path.read_bytes()]
    assert secrets == [], "a rune stands where it does not belong"
    assert not any(rune in outcome.text for rune in runes.values())


def test_a_second_run_keeps_the_runes_and_what_is_not_asked_for_is_revoked(fleet: Fleet) -> None:
    before = rune_files(fleet)
    fleet.good("security", hive_security_checks=["runes"])
    assert rune_files(fleet) == before

    wanted = {"hive_runes": ["probe", "advisor/alice"], "hive_runes_rotate": True}
    outcome = fleet.good("security", "-vvv", hive_security_checks=["runes"], **wanted)
    after = rune_files(fleet)
    assert sorted(after) == ["advisor-alice", "probe"]
    assert {path.stem: path.read_text("ascii").strip() for path in (fleet.root / "runes/alpha").iterdir()} == after
    assert not any(may(fleet, rune, "getinfo") for rune in before.values()), "the old ones count no more"
    assert may(fleet, after["probe"], "getinfo")
    assert may(fleet, after["advisor-alice"], "hive-comms-rpc", '{"sender": "alice", "transport": "rest"}')
    assert not may(fleet, after["advisor-alice"], "hive-comms-rpc", '{"sender": "bob", "transport": "rest"}')
    assert not any(rune in outcome.text for rune in (*before.values(), *after.values())), "not even in the loudest run"
    said = newest(fleet, "runes-alpha")["predicate"]["hive"]
    assert {entry["label"]: entry["why"] for entry in said["revoked"]} == {
        "monitor": "its role is not asked for",
        "probe": "there is a newer one",
    }


def test_what_does_not_hold_is_named_and_has_evidence(fleet: Fleet, tmp_path: Path) -> None:
    unrestricted = fleet.cli("alpha", "createrune")
    broad = fleet.cli("alpha", "createrune", "null", json.dumps([["method^hive-", "method=plugin"]]))
    tools = json.loads((fleet.root / "tools.json").read_text(encoding="utf-8"))["tools"]
    tools = [tool for tool in tools if tool["name"] != "hive_status"]
    tools.append({"name": "hive_do_anything"})
    next(tool for tool in tools if tool["name"] == "hive_genesis")["annotations"] = {"readOnlyHint": True}
    server = tmp_path / "tools.json"
    server.write_text(json.dumps(tools), encoding="utf-8")
    own = tmp_path / "reviewed"
    own.mkdir()
    text = (FIXTURES / "reviewed/rpc.toml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("hive-fixture-status")]
    (own / "rpc.toml").write_text("\n".join(lines), encoding="utf-8")

    wrong = {"hive_mcp_server": str(server), "hive_reviewed_dir": str(own), "hive_advisories_max_age_days": 1}
    outcome = fleet.bad("security", **wrong)
    assert "is restricted" in outcome.sentence("runes-alpha")
    failed = {name: newest(fleet, name)["predicate"] for name in ("runes-alpha", "mcp-tools", "surface-hive-fixture")}
    assert {predicate["result"] for predicate in failed.values()} == {"FAILED"}
    assert sorted(failed["runes-alpha"]["failedTests"]) == sorted(
        [
            f"rune {unrestricted['unique_id']} of alpha is restricted",
            f"rune {broad['unique_id']} of alpha cannot take the node over",
        ]
    )
    assert failed["mcp-tools"]["failedTests"] == [
        "MCP tool hive_do_anything was reviewed",
        "MCP tool hive_status is there",
        "MCP tool hive_genesis is not called read-only",
    ]
    assert "RPC method hive-fixture-status was reviewed" in failed["surface-hive-fixture"]["failedTests"]
    assert "fetch the database again" in outcome.sentence("audit-hive-fixture"), "an old database is none"
    for rune in (unrestricted["rune"], broad["rune"]):
        assert rune not in outcome.text

    for rune in (unrestricted, broad):
        fleet.cli("alpha", "blacklistrune", rune["unique_id"])
    fleet.good("security")
    assert newest(fleet, "runes-alpha")["predicate"]["result"] == "PASSED"


def test_what_cannot_be_looked_at_gets_no_evidence(fleet: Fleet) -> None:
    there = sorted((fleet.root / "evidence").glob("*.json"))
    nothing = {"hive_mcp_server": str(fleet.root / "nowhere.py"), "hive_advisories": ""}
    outcome = fleet.bad("security", hive_security_checks=["mcp", "audit"], **nothing)
    assert "hive_advisories" in outcome.sentence("audit-hive-fixture"), "one that cannot be read hides no other"
    assert "correct hive_mcp_server" in outcome.sentence("mcp-tools")
    assert sorted((fleet.root / "evidence").glob("*.json")) == there
