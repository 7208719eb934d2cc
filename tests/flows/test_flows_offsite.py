"""Copies of backup sets off the node, and the way back: encrypted on the controller, and in a restic repository."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
from flows.flow_fleet import Fleet, Shelf

CHANNELS = "emergency.recover.newest.age"
PASSWORD, SECRET = "Zwei-Dinge-sind-unendlich", "Das-Universum-und-die-Dummheit"


def need(program: str) -> None:
    """What scripts/ci-machine installs; in CI it has to be there."""
    if shutil.which(program) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is missing: run scripts/ci-machine", pytrace=False)
        pytest.skip(f"{program} is missing: run scripts/ci-machine")


@pytest.fixture(scope="module")
def node(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One node that runs a plugin, and whose sandbox makes its own age identity."""
    root = tmp_path_factory.mktemp("offsite")
    variables = {
        "hive_backup_copies_dir": str(root / "copies"),
        "hive_backup_age_identity": str(root / "keys/age.txt"),
        "hive_backup_age_make_identity": True,
    }
    fleet = Fleet(root, shelf, variables)
    fleet.up(1)
    fleet.good("rollout")
    yield fleet
    fleet.down()


def backups(fleet: Fleet) -> Path:
    return fleet.sandbox / "alpha/hive/backups"


def sets(fleet: Fleet) -> list[str]:
    """The sets on the node; nothing unfinished may be among them."""
    names = sorted(path.name for path in backups(fleet).iterdir() if path.is_dir())
    assert not [name for name in names if name.startswith(".")]
    return names


def contents(directory: Path) -> dict[str, str]:
    """What every file of a directory hashes to."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def copies(fleet: Fleet) -> list[str]:
    """The sets that have a copy; nothing unfinished or clear may lie beside them."""
    folder = fleet.root / "copies/alpha"
    names = sorted(path.name for path in folder.iterdir() if path.name != ".lock")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    found = [name.removesuffix(".tar.age") for name in names if name.endswith(".tar.age")]
    others = {CHANNELS, CHANNELS.replace("age", "json"), *(f"{name}.json" for name in found)}
    assert set(names) - {f"{name}.tar.age" for name in found} == others
    return found


def copy_of(fleet: Fleet, name: str) -> Path:
    return fleet.root / f"copies/alpha/{name}.tar.age"


def taken(fleet: Fleet, **variables: Any) -> str:
    """Take a set as an operator does, and return its name."""
    before = set(sets(fleet)) if backups(fleet).exists() else set()
    fleet.good("backup", **variables)
    (made,) = set(sets(fleet)) - before
    return made


def test_a_set_comes_back_byte_for_byte(node: Fleet) -> None:
    name = taken(node)
    before = contents(backups(node) / name)
    assert copies(node) == [name]
    text = copy_of(node, name).read_bytes()
    assert text.startswith(b"age-encryption.org/v1")
    assert b"SQLite format 3" not in text
    assert (node.root / "copies").stat().st_mode & 0o777 == 0o700
    # The newest channel backup lies beside the sets, and only whoever has the identity can say that it is that.
    identity = pyrage.x25519.Identity.from_str((node.root / "keys/age.txt").read_text(encoding="utf-8").split()[-1])
    kept = (node.root / "copies/alpha" / CHANNELS).read_bytes()
    own = (node.sandbox / "alpha/lightning/regtest/emergency.recover").read_bytes()
    assert pyrage.decrypt(kept, [identity]) == own

    # From here on as over ssh, with another login user than the one it works as: the set is packed on the node, fetched
    # and encrypted; sent back and unpacked. A copy without its note counts for nothing and is made again.
    remote = node.host("alpha", ansible_become=True, ansible_become_method="su")
    (node.root / f"copies/alpha/{name}.json").unlink()
    again = node.good("backup", hive_backup_fresh_seconds=3600)
    assert f"encrypted copy of backup set {name}" in again.text
    assert copy_of(node, name).read_bytes() != text
    assert copies(node) == [name]

    shutil.rmtree(backups(node) / name)
    wrong = node.root / "wrong.txt"
    wrong.write_text(f"{pyrage.x25519.Identity.generate()}\n", encoding="utf-8")
    wrong.chmod(0o600)
    come = {"hive_restore_from": str(copy_of(node, name))}
    refused = node.bad("restore", hive_backup_age_identity=str(wrong), **come)
    assert "does not open" in refused.text
    assert name not in sets(node)
    outcome = node.good("restore", **come)
    assert f"backup set {name} brought back" in outcome.text
    assert "dry run" in outcome.text
    assert contents(backups(node) / name) == before
    assert {path.stat().st_mode & 0o077 for path in (backups(node) / name).rglob("*")} == {0}
    assert copies(node) == [name]
    assert [path for path in Path("~/.ansible/tmp").expanduser().rglob("hive-set-*") if name in path.name] == []
    remote.unlink()


def test_restic_keeps_and_gives_back_and_no_secret_is_said(node: Fleet, tmp_path: Path) -> None:
    """As loud as Ansible can be. Without a key for copies, that is said, and restic works all the same."""
    need("restic")
    password, environment = tmp_path / "password", tmp_path / "environment"
    password.write_text(f"{PASSWORD}\n", encoding="utf-8")
    environment.write_text(f"RESTIC_REPOSITORY={tmp_path}/vault\nAWS_SECRET_ACCESS_KEY={SECRET}\n", encoding="utf-8")
    for path in (password, environment):
        path.chmod(0o600)
    used: dict[str, Any] = {
        "hive_offsite_password_file": str(password),
        "hive_offsite_environment_file": str(environment),
        "hive_offsite_check_subset": "100%",
    }
    (name,) = copies(node)
    kept = copy_of(node, name).stat()
    refused = node.bad("backup", hive_backup_fresh_seconds=3600, **used)
    assert f"backup set {name} has its copy" in refused.text
    assert copy_of(node, name).stat().st_mtime_ns == kept.st_mtime_ns
    assert "there is no restic repository there" in refused.text

    node.more_environment = {"ANSIBLE_STDOUT_CALLBACK": "default", "ANSIBLE_LOG_PATH": str(tmp_path / "log")}
    loud = ("-vvv", "--diff")
    used["hive_backup_age_make_identity"] = False
    texts = [node.good("backup", *loud, hive_offsite_init=True, **used).text]
    name = sets(node)[-1]
    assert "no copy leaves this node: hive_backup_age_recipients is empty" in texts[0]
    assert name not in copies(node)
    assert f"backup set {name} copied to the restic repository" in texts[0]
    assert "the restic repository is sound, 100% of its data read back" in texts[0]
    whole = contents(backups(node) / name)
    shutil.rmtree(backups(node) / name)
    texts.append(node.good("restore", *loud, hive_restore_from="restic", **used).text)
    node.more_environment = {}
    assert f"backup set {name} brought back from restic" in texts[1]
    assert contents(backups(node) / name) == whole
    assert len(list((tmp_path / "vault/snapshots").iterdir())) == 2, "the set, and the channel backup"
    for text in (*texts, (tmp_path / "log").read_text(encoding="utf-8")):
        assert PASSWORD not in text
        assert SECRET not in text
        assert "AGE-SECRET-KEY" not in text
