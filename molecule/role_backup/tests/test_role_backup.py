"""A backup set holds every plugin's data in one piece, private, and nothing of lightningd's."""

from __future__ import annotations

import json
import shlex
from typing import Any

PLUGINS = ("cl-hive-comms", "cl-hive-archon", "cl-hive")
READ = """
import json, sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro&immutable=1", uri=True)
print(json.dumps([database.execute("PRAGMA integrity_check").fetchone()[0], database.execute(sys.argv[2]).fetchall()]))
"""


def newest(node: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The newest set: its manifest, and its files by name."""
    manifest = node.backups()[-1]
    found = node.outside.check_output(f"find {node.state_dir}/backups/{manifest['id']} -type f").split()
    return manifest, {path.rpartition("/")[2]: path for path in found}


def test_the_default_set_was_taken_and_the_fresh_one_spared_another(node: Any) -> None:
    reasons = [found["reason"] for found in node.backups()]
    assert reasons.count("asked for by the operator") == 1
    assert "the rehearsal" not in reasons


def test_the_copies_hold_the_operator_s_rows(node: Any) -> None:
    _, files = newest(node)
    for database, query in (node.rows_of(name) for name in PLUGINS):
        rows = node.query(database, query)
        assert rows
        done = node.outside.run(shlex.join(["/usr/bin/python3", "-c", READ, files[database], query]))
        assert json.loads(done.stdout) == ["ok", rows], done.stderr


def test_nothing_of_lightningd_s_is_in_it(node: Any) -> None:
    _, files = newest(node)
    assert "comms.secrets" in files
    assert not {"lightningd.sqlite3", "hsm_secret", "emergency.recover"} & set(files)


def test_the_node_signed_it(node: Any) -> None:
    manifest, files = newest(node)
    digest = node.outside.check_output(f"sha256sum {files['manifest.json']}").split()[0]
    signature = str(node.outside.file(files["manifest.sig"]).content_string)
    said = node.rpc("checkmessage", f"hive-backup-set|{digest}", signature, manifest["node_id"])
    assert said["verified"] is True
    assert manifest["node_id"] == node.rpc("getinfo")["id"]


def test_it_tells_every_table_and_the_seed_only_by_its_fingerprint(node: Any) -> None:
    manifest, _ = newest(node)
    assert set(manifest["databases"]) == set(PLUGINS)
    for facts in manifest["databases"].values():
        assert facts["rows"] == {name: table["rows"] for name, table in facts["tables"].items()}
        assert all(len(table["sha256"]) == 64 for table in facts["tables"].values())
    assert len(manifest["hsm_fingerprint"]) == 64


def test_only_the_newest_channel_backup_is_kept_beside_the_sets(node: Any) -> None:
    kept = f"{node.state_dir}/backups/emergency.recover.newest"
    own = f"{node.lightning_dir}/regtest/emergency.recover"
    assert node.outside.file(kept).mode == 0o400
    assert (
        node.outside.check_output(f"sha256sum {kept}").split()[0]
        == node.inside.check_output(f"sha256sum {own}").split()[0]
    )


def test_monitoring_can_read_how_it_went(node: Any) -> None:
    file = node.outside.file(f"{node.state_dir}/metrics/hive_backup.prom")
    assert file.mode == 0o644
    text = str(file.content_string)
    newest_set = max(float(found["created_at"]) for found in node.backups())
    assert f'lightning_hive_backup_last_success_timestamp_seconds{{node="{node.name}"}} {newest_set:.15g}\n' in text


def test_only_its_owner_can_read_it(node: Any) -> None:
    _, files = newest(node)
    assert {node.outside.file(path).mode for path in files.values()} <= {0o600, 0o400}
    assert node.outside.file(f"{node.state_dir}/backups").mode == 0o700


def test_the_plugins_ran_on(node: Any) -> None:
    assert set(node.versions()) == set(PLUGINS)
    assert node.rpc("hive-status")["mode"] == "full"
