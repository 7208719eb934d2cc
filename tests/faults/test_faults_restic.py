"""A real restic and its repository: closed without a secret, locked, killed, incomplete, damaged, thinned out, gone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._copies_node import take_in
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.backup_lightningd import NEWEST
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._restic import Policy, tag, tags_of
from ansible_collections.lightning_goats.hive.plugins.module_utils._restic_run import Repository, Settings
from waiting import wait_until

Json = dict[str, Any]

PASSWORD = "Zwei-Dinge-sind-unendlich"
SECRET = "Das-Universum-und-die-Dummheit"
FIRST, SECOND = "20261101T000000Z-00000000-0001", "20261102T000000Z-00000000-0002"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def need(program: str) -> None:
    """What scripts/ci-machine installs; in CI it has to be there."""
    if shutil.which(program) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is missing: run scripts/ci-machine", pytrace=False)
        pytest.skip(f"{program} is missing: run scripts/ci-machine")


class Vault:
    """A node with sets that no lightningd has to make, and a repository for them."""

    def __init__(self, root: Path) -> None:
        (root / "lightning").mkdir(parents=True)
        self.root = root
        self.node = Node.from_params(
            {
                "name": "alpha",
                "runtime": "process",
                "lightning_dir": str(root / "lightning"),
                "network": "regtest",
                "state_dir": str(root / "hive"),
            }
        )
        self.password = self.secret("password", PASSWORD)
        self.settings = Settings(str(root / "repository"), str(self.password), init=True, lock_seconds=0)

    @property
    def repository(self) -> Repository:
        return Repository(self.node, self.settings)

    def secret(self, name: str, text: str) -> Path:
        path = self.root / name
        path.write_text(f"{text}\n", encoding="utf-8")
        path.chmod(0o600)
        return path

    def take(self, name: str, seed: int = 1) -> Json:
        """Write a set into the node's backups, and return its manifest."""
        directory = self.node.backups_dir / name
        (directory / "p").mkdir(parents=True)
        files = {"p/p.db": hashlib.sha256(bytes([seed])).digest() * 4000, "stack.json": b"[]"}
        for path, text in files.items():
            (directory / path).write_bytes(text)
        facts = {path: {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)} for path, text in files.items()}
        manifest = {
            "schema": 1,
            "id": name,
            "node_id": "02ab",
            "files": facts,
            "databases": {},
            "created_at": float(seed),
            "stack_digest": "",
            "verified": True,
            "bytes": 1,
        }
        (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return manifest

    def plant(self, name: str, tags: list[str]) -> None:
        """Copy a set as it is, with no question asked."""
        argv = self.restic("backup", "--quiet", "--host", "alpha", "--tag", ",".join(tags), name)
        subprocess.run(argv, cwd=self.node.backups_dir, check=True, capture_output=True)

    def restic(self, *arguments: str) -> list[str]:
        """A command line for restic itself."""
        return ["restic", "-r", self.settings.repository, "--password-file", str(self.password), *arguments]

    def newest(self, name: str = "") -> Json:
        found = self.repository.newest(self.repository.snapshots(), name)
        assert found is not None
        return found

    def names(self) -> list[str]:
        return [tag(item, "set") for item in self.repository.snapshots()]

    def sets(self) -> list[str]:
        return sorted(path.name for path in self.node.backups_dir.iterdir())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one set, copied for each test."""
    need("restic")
    root = tmp_path_factory.mktemp("template")
    vault = Vault(root / "vault")
    manifest = vault.take(FIRST)
    assert vault.repository.snapshots() == [], "made, as asked for"
    vault.repository.copy(FIRST, manifest)
    return root / "vault/repository"


@pytest.fixture
def vault(template: Path, tmp_path: Path) -> Vault:
    shutil.copytree(template, tmp_path / "repository-copy")
    vault = Vault(tmp_path / "vault")
    shutil.move(tmp_path / "repository-copy", vault.settings.repository)
    vault.take(FIRST)
    return vault


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def refusal(act: Any) -> HiveError:
    with pytest.raises(HiveError) as caught:
        act()
    return caught.value


# Closed


@pytest.mark.parametrize("fault", ["missing", "empty", "open", "relative", "directory"])
def test_without_its_password_file_nothing_is_copied(tmp_path: Path, fault: str) -> None:
    need("restic")
    vault = Vault(tmp_path / "vault")
    path = vault.password
    if fault == "missing":
        path.unlink()
    elif fault == "empty":
        path.write_text(" \n", encoding="utf-8")
    elif fault == "open":
        path.chmod(0o644)
    elif fault == "directory":
        path.unlink()
        path.mkdir()
    name = "password" if fault == "relative" else str(path)
    found = refusal(lambda: Repository(vault.node, replace(vault.settings, password_file=name)))
    assert found.code == "offsite-secret"
    assert PASSWORD not in found.message
    assert not Path(vault.settings.repository).exists()


def test_without_restic_nothing_is_copied(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    assert refusal(lambda: Repository(vault.node, replace(vault.settings, program="no-restic"))).code == "no-restic"


def test_a_repository_is_made_only_when_asked_and_a_wrong_password_opens_none(vault: Vault) -> None:
    elsewhere = replace(vault.settings, repository=str(vault.root / "typo"), init=False)
    assert refusal(Repository(vault.node, elsewhere).snapshots).code == "restic-missing"
    rehearsed = replace(elsewhere, init=True, dry_run=True)
    assert Repository(vault.node, rehearsed).snapshots() == []
    assert not (vault.root / "typo").exists()
    wrong = replace(vault.settings, password_file=str(vault.secret("wrong", "wrong")))
    found = refusal(Repository(vault.node, wrong).snapshots)
    assert found.code == "restic-password"
    unreachable = replace(vault.settings, repository="rest:http://127.0.0.1:1/")
    assert refusal(Repository(vault.node, unreachable).snapshots).code == "restic-unreachable"


def test_secrets_reach_restic_and_nothing_else(vault: Vault) -> None:
    """A restic that writes down how it was called: no secret among the words, only its own in the environment."""
    spy, seen = vault.root / "spy", vault.root / "seen"
    spy.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >>{seen}.argv\nenv >>{seen}.env\nexec restic "$@"\n', encoding="utf-8"
    )
    spy.chmod(0o755)
    text = f"RESTIC_REPOSITORY={vault.settings.repository}\nAWS_SECRET_ACCESS_KEY={SECRET}"
    settings = replace(
        vault.settings, repository="", environment_file=str(vault.secret("environment", text)), program=str(spy)
    )
    os.environ["HIVE_UNRELATED"] = "1"
    try:
        assert [tag(item, "set") for item in Repository(vault.node, settings).snapshots()] == [FIRST]
    finally:
        del os.environ["HIVE_UNRELATED"]
    words, environment = (
        Path(f"{seen}.argv").read_text(encoding="utf-8"),
        Path(f"{seen}.env").read_text(encoding="utf-8"),
    )
    assert SECRET in environment
    assert "HIVE_UNRELATED" not in environment
    for secret in (SECRET, PASSWORD):
        assert secret not in words
    assert PASSWORD not in environment


# There and back


def test_a_set_comes_back_byte_for_byte(vault: Vault) -> None:
    before = contents(vault.node.backups_dir / FIRST)
    shutil.rmtree(vault.node.backups_dir / FIRST)
    snapshot = vault.newest()
    taken = take_in(vault.node, vault.repository.restore(snapshot), FIRST)
    assert (taken["id"], taken["new"]) == (FIRST, True)
    assert contents(vault.node.backups_dir / FIRST) == before
    assert {path.stat().st_mode & 0o077 for path in vault.node.backups_dir.rglob("*")} == {0}
    again = take_in(vault.node, vault.repository.restore(snapshot), FIRST)
    assert not again["new"]
    # A set that got damaged on the node makes room for the sound one.
    (vault.node.backups_dir / f"{FIRST}/p/p.db").write_bytes(b"damaged")
    assert take_in(vault.node, vault.repository.restore(vault.repository.named(snapshot["id"][:8])), "")["new"]
    assert contents(vault.node.backups_dir / FIRST) == before
    other = refusal(lambda: take_in(vault.node, vault.repository.restore(snapshot), SECOND))
    assert other.code == "no-set"
    assert refusal(lambda: vault.repository.named("0badc0de")).code == "no-snapshot"
    assert vault.sets() == [FIRST]


def test_over_sftp(vault: Vault) -> None:
    """The protocol itself; that ssh can bring one to a server is not for us to prove."""
    need(SFTP_SERVER)
    settings = replace(
        vault.settings,
        repository=f"sftp:vault:{vault.settings.repository}",
        options=(f"sftp.command={SFTP_SERVER}",),
    )
    repository = Repository(vault.node, settings)
    repository.copy(SECOND, vault.take(SECOND, 2))
    assert vault.names() == [FIRST, SECOND]


# Faults


@pytest.fixture
def holder(vault: Vault) -> Iterator[subprocess.Popen[bytes]]:
    """A restic that is in the middle of a backup, and holds the repository."""
    argv = vault.restic("backup", "--stdin", "--stdin-filename", "big", "--host", "bravo")
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    locks = Path(vault.settings.repository) / "locks"
    wait_until(lambda: list(locks.iterdir()), 20, "restic locks the repository")
    yield process
    process.kill()
    process.wait()


def test_locked_by_another_and_free_again_once_that_one_was_killed(
    vault: Vault, holder: subprocess.Popen[bytes]
) -> None:
    found = refusal(lambda: vault.repository.check("100%"))
    assert found.code == "restic-locked"
    # A backup does not have to wait for another one.
    vault.repository.copy(SECOND, vault.take(SECOND, 2))
    holder.kill()
    holder.wait()
    Repository(vault.node, replace(vault.settings, lock_seconds=20)).check("100%")
    assert vault.names() == [FIRST, SECOND]


def test_killed_in_the_middle_of_a_copy_the_earlier_snapshots_stand(vault: Vault) -> None:
    """The engine kills restic when its time is over, which is what a power cut does, too."""
    manifest = vault.take(SECOND, 2)
    hurried = Repository(vault.node, replace(vault.settings, timeout=0.05))
    assert refusal(lambda: hurried.copy(SECOND, manifest)).code == "restic-timeout"
    patient = Repository(vault.node, replace(vault.settings, lock_seconds=20))
    patient.check("100%")
    assert vault.names() == [FIRST]
    patient.copy(SECOND, manifest)
    assert vault.names() == [FIRST, SECOND]


def test_an_incomplete_copy_is_forgotten_again(vault: Vault) -> None:
    program = vault.root / "careless"
    program.write_text(
        '#!/bin/sh\nrestic "$@" || exit\ncase " $* " in *" backup "*) echo "error: denied" >&2; exit 3;; esac\n',
        encoding="utf-8",
    )
    program.chmod(0o755)
    careless = Repository(vault.node, replace(vault.settings, program=str(program)))
    found = refusal(lambda: careless.copy(SECOND, vault.take(SECOND, 2)))
    assert (found.code, found.data["restic_rc"]) == ("restic-incomplete", 3)
    assert vault.names() == [FIRST]


def test_a_copy_that_lacks_a_file_does_not_count(vault: Vault) -> None:
    manifest = vault.take(SECOND, 2)
    (vault.node.backups_dir / f"{SECOND}/stack.json").unlink()
    assert refusal(lambda: vault.repository.copy(SECOND, manifest)).code == "restic-incomplete"
    assert vault.names() == [FIRST]


def test_a_snapshot_that_names_a_path_leads_nowhere_else(vault: Vault) -> None:
    """Who shares the repository writes the tags; as root, what they named would be given other rights and owners."""
    victim = vault.root / "victim"
    victim.mkdir(mode=0o755)
    (vault.node.backups_dir / "victim").mkdir()
    vault.plant("victim", [f"set={victim}" if item.startswith("set=") else item for item in vault.newest()["tags"]])
    planted = next(item for item in vault.repository.snapshots() if tag(item, "set") == str(victim))
    assert refusal(lambda: take_in(vault.node, vault.repository.restore(planted), "")).code == "set-damaged"
    assert victim.stat().st_mode & 0o777 == 0o755


def test_of_channel_backups_only_the_newest_stays_also_after_a_run_that_was_killed(vault: Vault) -> None:
    (vault.node.backups_dir / NEWEST).write_bytes(b"newest")
    for content in ("older", "newest"):
        vault.plant(NEWEST, ["hive", "hive-channels", "node=alpha", f"sha256={content}"])

    def kept() -> list[str]:
        argv = vault.restic("snapshots", "--json", "--tag", "hive-channels")
        return [
            tag(item, "sha256") for item in json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
        ]

    assert not vault.repository.copy_channels("newest", dry_run=True)
    assert sorted(kept()) == ["newest", "older"]
    assert not vault.repository.copy_channels("newest", dry_run=False)
    assert kept() == ["newest"]
    assert vault.repository.copy_channels("even newer", dry_run=False)
    assert kept() == ["even newer"]
    assert vault.names() == [FIRST]


def test_damage_in_the_repository_is_found_and_nothing_of_it_is_published(vault: Vault) -> None:
    packs = (path for path in (Path(vault.settings.repository) / "data").rglob("*") if path.is_file())
    data = max(packs, key=lambda path: path.stat().st_size)
    text = bytearray(data.read_bytes())
    text[100] ^= 1
    data.chmod(0o600)
    data.write_bytes(text)
    shutil.rmtree(vault.node.backups_dir / FIRST)
    assert refusal(lambda: vault.repository.check("100%")).code == "restic-damaged"
    (snapshot,) = vault.repository.snapshots()
    refusal(lambda: take_in(vault.node, vault.repository.restore(snapshot), FIRST))
    assert vault.sets() == []


def test_old_snapshots_go_and_the_last_whole_one_never(vault: Vault) -> None:
    vault.plant(SECOND, tags_of("alpha", "", vault.take(SECOND, 2)))
    last_one = Policy(1, 0, 0, 0)
    kept, doomed = vault.repository.thin_out(last_one)
    assert ([tag(item, "set") for item in kept], [tag(item, "set") for item in doomed]) == ([SECOND], [FIRST])
    vault.repository.forget([doomed[0]["id"]])
    assert vault.names() == [SECOND]
    # Newer, and not what its tags say: the policy would keep it and nothing else.
    vault.plant(FIRST, ["hive", "hive-set", "node=alpha", "set=torn", "files=9", "bytes=9"])
    kept, doomed = vault.repository.thin_out(last_one)
    assert ([tag(item, "set") for item in kept], doomed) == ([SECOND, "torn"], [])
    assert tag(vault.newest(), "set") == SECOND
