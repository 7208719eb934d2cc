"""The life of a fleet as its operator sees it: install, run again, upgrade, go back, remove."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

from flows.flow_fleet import PLUGIN, Fleet


def rows(database: Path) -> int:
    """How often the plugin has started, by its own database."""
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM fixture_starts").fetchone()[0])


NEW = {"hive_release_versions": {PLUGIN: "0.1.1"}}


def test_the_life_of_a_fleet(fleet: Fleet) -> None:
    pids = fleet.pids()

    # Check mode prints the plan and changes nothing.
    text = fleet.good("rollout", "--check").text
    assert "canary: alpha" in text
    assert "plan digest: " in text
    assert not fleet.reports.exists()
    assert [fleet.version(node) for node in fleet.nodes] == ["", "", ""]
    assert [fleet.journal(node) for node in fleet.nodes] == [[], [], []]

    # Install: canary first, then the waves.
    text = fleet.good("rollout").text
    assert text.index("canary: alpha") < text.index("Stage 2 of 3, wave 1: ") < text.index("Stage 3 of 3, wave 2: ")
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.0", "0.1.0", "0.1.0"]
    report = fleet.report
    assert (report["result"], len(report["plan_digest"])) == ("success", 64)
    assert [(s["name"], s["verdict"]["verdict"]) for s in report["stages"]] == [
        ("canary", "healthy"),
        ("wave 1", "healthy"),
        ("wave 2", "healthy"),
    ]
    for node in report["nodes"].values():
        assert (node["result"], node["before"], node["lightningd_restarts"]) == ("confirmed", [], 0)
        assert [item["version"] for item in node["after"]] == ["0.1.0"]
    assert (fleet.reports / f"{report['rollout']}.html").read_text() == (fleet.reports / "latest.html").read_text()

    # Again: nothing changes, and it says so.
    journals = {node: fleet.journal(node) for node in fleet.nodes}
    text = fleet.good("rollout").text
    assert "Nothing to change: 3 nodes run what they should." in text
    assert fleet.report["result"] == "unchanged"
    assert {node: fleet.journal(node) for node in fleet.nodes} == journals

    # Upgrade: the data is backed up, the downtime measured.
    fleet.good("rollout", **NEW)
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.1", "0.1.1", "0.1.1"]
    for node in fleet.report["nodes"].values():
        assert (node["action"], node["result"]) == ("upgrade", "confirmed")
        assert 0 < node["downtime_ms"][PLUGIN] < 5000
        assert node["backup"]

    # Status and preflight look and change nothing.
    text = fleet.good("status").text
    rows = [line.split() for line in text.splitlines()]
    assert [row[0] for row in rows if row[1:2] == ["ok"] and row[4:6] == [PLUGIN, "0.1.1"]] == fleet.nodes
    assert "downgrade" in fleet.good("preflight").text

    # One node back, then all: code only, and a second time there is nothing to go back to.
    fleet.good("rollback", "--limit", "bravo")
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.1", "0.1.0", "0.1.1"]
    assert list(fleet.report["nodes"]) == ["bravo"]
    fleet.good("rollback", "--limit", "alpha,charlie")
    assert [fleet.version(node) for node in fleet.nodes] == ["0.1.0", "0.1.0", "0.1.0"]

    # Remove: lightningd still starts, the data stays.
    fleet.good("uninstall")
    assert [fleet.version(node) for node in fleet.nodes] == ["", "", ""]
    for node in fleet.nodes:
        assert (fleet.sandbox / node / "lightning/regtest/hive_fixture.db").exists()

    # Delete the data of one node, by its name; a last backup keeps it, and lightningd's own files are not touched.
    assert "is no node of this run" in fleet.bad("uninstall", hive_purge_data="delta").text
    network = fleet.sandbox / "alpha/lightning/regtest"
    own = {path.name for path in network.iterdir()} - {"hive_fixture.db"}
    fleet.good("uninstall", hive_purge_data="alpha")
    assert not list(network.glob("hive_fixture.db*"))
    assert own - {"hive_fixture.db-wal", "hive_fixture.db-shm"} <= {path.name for path in network.iterdir()}
    kept = sorted((fleet.sandbox / "alpha/hive/backups").glob(f"*/{PLUGIN}/hive_fixture.db"))
    assert kept
    assert (fleet.sandbox / "bravo/lightning/regtest/hive_fixture.db").exists()

    assert fleet.pids() == pids


def test_a_plan_needs_its_own_approval(fleet: Fleet) -> None:
    strict = {"hive_approval_required": True}
    refused = fleet.bad("rollout", "--limit", "alpha", **strict)
    digest = refused.sentence("run again with -e hive_approved_plan=").rpartition("=")[2]
    assert len(digest) == 64
    assert fleet.report["result"] == "refused"
    assert fleet.version("alpha") == ""

    other = fleet.bad("rollout", "--limit", "alpha", **strict, hive_approved_plan="0" * 64)
    assert "is not what would run now" in other.text
    assert fleet.version("alpha") == ""

    fleet.good("rollout", "--limit", "alpha", **strict, hive_approved_plan=digest)
    assert fleet.version("alpha") == "0.1.0"


def test_options_reach_the_plugin_and_are_no_reason_to_change_twice(one_node: Fleet) -> None:
    stack = [{"name": PLUGIN, "version": "0.1.0", "options": {f"{PLUGIN}-note": "hello world", f"{PLUGIN}-limit": 7}}]
    one_node.good("rollout", hive_stack=stack)
    configs = one_node.cli("alpha", "listconfigs")["configs"]
    assert configs[f"{PLUGIN}-note"]["value_str"] == "hello world"
    assert configs[f"{PLUGIN}-limit"]["value_int"] == 7
    assert "Nothing to change" in one_node.good("rollout", hive_stack=stack).text

    stack[0]["options"] = {f"{PLUGIN}-limit": 8}
    assert "hive-fixture-limit: 7 -> 8" in one_node.good("rollout", hive_stack=stack).text
    configs = one_node.cli("alpha", "listconfigs")["configs"]
    assert configs[f"{PLUGIN}-limit"]["value_int"] == 8
    assert configs[f"{PLUGIN}-note"].get("value_str", "") == ""


def test_a_backup_is_taken_and_a_restore_only_forecasts(one_node: Fleet) -> None:
    one_node.good("rollout")
    one_node.good("backup")
    sets = sorted((one_node.sandbox / "alpha/hive/backups").glob("*/manifest.json"))
    assert sets
    manifest = json.loads(sets[-1].read_text())
    assert f"{PLUGIN}/hive_fixture.db" in manifest["files"]
    database = one_node.sandbox / "alpha/lightning/regtest/hive_fixture.db"
    before = rows(database)
    outcome = one_node.good("restore")
    assert "dry run of backup set" in outcome.text
    assert rows(database) == before

    # Rows written since then need the phrase that the dry run shows.
    one_node.good("rollout", hive_release_versions={PLUGIN: "0.1.1"})
    assert rows(database) > before
    wanted = {"hive_restore_set": manifest["id"], "hive_restore_apply": True}
    refused = one_node.bad("restore", **wanted)
    phrase = refused.sentence("hive_restore_phrase=").partition('hive_restore_phrase="')[2].partition('"')[0]
    one_node.good("restore", **wanted, hive_restore_phrase=phrase)
    assert one_node.version("alpha") == "0.1.1"
