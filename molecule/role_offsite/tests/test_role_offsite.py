"""What the node keeps is whole, what left it is encrypted, and nothing clear lies about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

STATE = Path(__file__).resolve().parents[3] / "var/molecule"


def newest(node: Any) -> dict[str, Any]:
    found: dict[str, Any] = node.backups()[-1]
    return found


def test_the_set_on_the_node_is_what_its_manifest_says(node: Any) -> None:
    manifest = newest(node)
    directory = f"{node.state_dir}/backups/{manifest['id']}"
    for name, facts in manifest["files"].items():
        file = node.outside.file(f"{directory}/{name}")
        assert (file.sha256sum, file.size) == (facts["sha256"], facts["bytes"])
        assert file.mode & 0o077 == 0


def test_the_controller_has_an_encrypted_copy_and_no_other_than_its_owner_reads_it(node: Any) -> None:
    name = newest(node)["id"]
    folder = STATE / "copies" / node.name
    copy, note = folder / f"{name}.tar.age", json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    text = copy.read_bytes()
    assert text.startswith(b"age-encryption.org/v1")
    assert b"SQLite format 3" not in text
    assert hashlib.sha256(text).hexdigest() == note["sha256"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert [path.name for path in folder.iterdir() if path.name.startswith(".partial")] == []


def test_the_repository_has_it_too(node: Any) -> None:
    state = node.state_dir
    words = f"restic -r {state}/restic --password-file {state}/restic-password snapshots --json --tag hive-set"
    (snapshot,) = json.loads(node.outside.check_output(words))
    assert f"set={newest(node)['id']}" in snapshot["tags"]
    assert snapshot["hostname"] == node.name


def test_nothing_clear_is_left_over(node: Any) -> None:
    assert node.outside.check_output("find /root /home -path '*/.ansible/*' -name 'hive-set-*'") == ""
    assert node.outside.check_output(f"find {node.state_dir}/backups -name '.*'") == ""
