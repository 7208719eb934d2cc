"""Staging: what must not be used never becomes a slot; what was interrupted is healed; nothing that runs is touched."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import signed_releases
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release, _release_keys, _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.journal import Journal
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.staging import Outcome, Wanted, stage

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures/plugins"
DIGEST = hashlib.sha256(signed_releases.ARTIFACT).hexdigest()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "lightning/regtest").mkdir(parents=True)
    facts = {"name": "alpha", "runtime": "process", "lightning_dir": str(tmp_path / "lightning"), "network": "regtest"}
    return Node.from_params({**facts, "state_dir": str(tmp_path / "hive"), "python": sys.executable})


@pytest.fixture
def signer(tmp_path: Path) -> _release_keys.Signer:
    return signed_releases.signer(tmp_path / "keys")


def bring(
    node: Node, signer: _release_keys.Signer, directory: Path, digest: str = DIGEST, version: str = "0.1.0"
) -> Outcome:
    signers = signer.allowed_signers.read_text()
    return stage(node, [Wanted("hive-fixture", version, digest, directory)], signers, check_mode=False)


def nothing_was_staged(node: Node) -> bool:
    kept = list(node.releases_dir.iterdir()) if node.releases_dir.is_dir() else []
    return not kept and not any(slot.complete for slot in _slots.list_slots(node))


@pytest.mark.parametrize("what", ["artifact", "manifest.json", "manifest.json.sig"])
def test_one_flipped_byte_is_refused(node: Node, signer: _release_keys.Signer, tmp_path: Path, what: str) -> None:
    directory = signed_releases.write(tmp_path / "releases", signer)
    path = next(directory.glob("*.pex")) if what == "artifact" else directory / what
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(HiveError) as refusal:
        bring(node, signer, directory)
    assert refusal.value.code.startswith("release-")
    assert nothing_was_staged(node)


def test_a_stranger_s_signature_is_refused(node: Node, signer: _release_keys.Signer, tmp_path: Path) -> None:
    directory = signed_releases.write(tmp_path / "releases", signed_releases.signer(tmp_path / "stranger"))
    with pytest.raises(HiveError) as refusal:
        bring(node, signer, directory)
    assert refusal.value.code in ("release-stranger", "release-signature")
    assert nothing_was_staged(node)


def test_an_expired_release_is_refused(node: Node, signer: _release_keys.Signer, tmp_path: Path) -> None:
    directory = signed_releases.write(tmp_path / "releases", signer, signed_releases.manifest(expires_at=1_700_000_001))
    with pytest.raises(HiveError) as refusal:
        bring(node, signer, directory)
    assert refusal.value.code == "release-expired"
    assert nothing_was_staged(node)


def test_an_older_release_than_one_accepted_before_is_refused(
    node: Node, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    node.prepare()
    Journal(node.journal_file, node.keeper).append(
        "accepted", {"name": "hive-fixture", "version": "0.2.0", "digest": "f" * 64, "released_at": 1_800_000_000}
    )
    directory = signed_releases.write(tmp_path / "releases", signer)
    with pytest.raises(HiveError) as refusal:
        bring(node, signer, directory)
    assert refusal.value.code == "release-older"
    assert nothing_was_staged(node)


def test_another_version_than_was_asked_for_is_refused(
    node: Node, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    directory = signed_releases.write(tmp_path / "releases", signer)
    with pytest.raises(HiveError):
        bring(node, signer, directory, version="0.2.0")
    assert nothing_was_staged(node)


def test_a_release_that_cannot_be_unpacked_leaves_no_slot(
    node: Node, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    directory = signed_releases.write(tmp_path / "releases", signer)
    with pytest.raises(HiveError) as refusal:
        bring(node, signer, directory)
    assert refusal.value.code == "bad-artifact"
    assert "build the release again" in refusal.value.message
    assert not any(slot.complete for slot in _slots.list_slots(node))


def test_what_is_missing_is_named_and_check_mode_writes_nothing(node: Node, signer: _release_keys.Signer) -> None:
    signers = signer.allowed_signers.read_text()
    outcome = stage(node, [Wanted("hive-fixture", "0.1.0", DIGEST)], signers, check_mode=True)
    assert outcome.missing == [DIGEST]
    assert outcome.staged == [DIGEST]
    assert not node.state_dir.exists()


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """A real release of the good fixture, and the text of who may sign."""
    root = tmp_path_factory.mktemp("releases")
    settings = _release.Settings(releases=root / "releases", cache=root / "cache", keys=root / "keys")
    made = _release.release([_release.Wanted(FIXTURES / "good")], {}, settings).releases[0]
    return made, (root / "keys/allowed_signers").read_text()


def test_a_release_becomes_a_slot_once_and_an_interrupted_slot_is_healed(
    node: Node, releases: tuple[dict[str, Any], str]
) -> None:
    made, signers = releases
    wanted = [Wanted(made["name"], made["version"], made["digest"], Path(made["path"]))]
    assert stage(node, wanted, signers, check_mode=True).staged == [made["digest"]]
    assert stage(node, wanted, signers, check_mode=False).staged == [made["digest"]]
    slot = _slots.find_slot(node, made["name"], made["digest"])
    _slots.verify_slot(slot)
    assert stage(node, wanted, signers, check_mode=False).staged == []
    events = [entry["event"] for entry in Journal(node.journal_file, node.keeper).entries]
    assert events == ["accepted", "staged"]
    # As a crash in the middle leaves it: files, and no marker.
    _slots.marker_path(node, made["name"], made["digest"]).unlink()
    slot.entry.unlink()
    wanted_again = [Wanted(made["name"], made["version"], made["digest"])]
    assert stage(node, wanted_again, signers, check_mode=False).staged == [made["digest"]]
    assert slot.entry.is_file()
