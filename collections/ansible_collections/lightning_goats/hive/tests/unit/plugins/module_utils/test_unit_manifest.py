"""A release is used only when its signature, its form, its age and its artifact all hold."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _manifest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys as keys
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    ReleaseError,
    canonical,
    check_watermark,
    load_release,
    parse_manifest,
    read_manifest,
    release_directory,
)
from signed_releases import ARTIFACT, manifest, signer, write

NOW = 1_800_000_000.0


@pytest.fixture
def ours(tmp_path: Path) -> keys.Signer:
    return signer(tmp_path / "keys")


def refused(code: str, action: Callable[[], object]) -> str:
    """The sentence of the refusal, which has the code and is one sentence that says what to do."""
    with pytest.raises(ReleaseError) as caught:
        action()
    assert caught.value.code == code, str(caught.value)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_a_good_release_loads(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours)
    release = load_release(directory, ours.allowed_signers, "hive-fixture", "0.1.0", now=NOW)
    assert (release.name, release.version, release.signer) == ("hive-fixture", "0.1.0", "release@sandbox")
    assert release.digest == manifest()["artifact"]["sha256"]
    assert release.artifact.read_bytes() == ARTIFACT
    assert release.manifest == manifest()


@pytest.mark.parametrize("position", [0, len(ARTIFACT) // 2, len(ARTIFACT) - 1])
def test_one_flipped_bit_of_the_artifact_is_seen(tmp_path: Path, ours: keys.Signer, position: int) -> None:
    directory = write(tmp_path / "releases", ours)
    path = directory / "hive-fixture-0.1.0.pex"
    damaged = bytearray(ARTIFACT)
    damaged[position] ^= 1
    path.write_bytes(damaged)
    assert "sha256" in refused("artifact", lambda: load_release(directory, ours.allowed_signers, "hive-fixture"))


@pytest.mark.parametrize("data", [b"", ARTIFACT[:-1], ARTIFACT + b"x"])
def test_a_shortened_or_lengthened_artifact_is_seen(tmp_path: Path, ours: keys.Signer, data: bytes) -> None:
    directory = write(tmp_path / "releases", ours)
    (directory / "hive-fixture-0.1.0.pex").write_bytes(data)
    refused("artifact", lambda: load_release(directory, ours.allowed_signers, "hive-fixture"))


def test_an_artifact_that_is_missing_a_link_or_a_pipe_is_refused(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours)
    path = directory / "hive-fixture-0.1.0.pex"
    elsewhere = path.rename(tmp_path / "elsewhere")
    refused("artifact", lambda: load_release(directory, ours.allowed_signers, "hive-fixture"))
    path.symlink_to(elsewhere)
    refused("artifact", lambda: load_release(directory, ours.allowed_signers, "hive-fixture"))
    path.unlink()
    os.mkfifo(path)
    refused("artifact", lambda: load_release(directory, ours.allowed_signers, "hive-fixture"))


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(b'"start_order":10', b'"start_order":11'),
        lambda text: text.replace(b'"expires_at":null', b'"expires_at":1900000000'),
        lambda text: text + b"\n",
        lambda text: text[:-1],
    ],
)
def test_an_edited_manifest_is_seen(tmp_path: Path, ours: keys.Signer, edit: Callable[[bytes], bytes]) -> None:
    directory = write(tmp_path / "releases", ours)
    path = directory / "manifest.json"
    path.write_bytes(edit(path.read_bytes()))
    assert "changed after it was signed" in refused("signature", lambda: read_manifest(directory, ours.allowed_signers))


def test_the_signature_of_a_stranger_is_refused(tmp_path: Path, ours: keys.Signer) -> None:
    stranger = signer(tmp_path / "stranger")
    directory = write(tmp_path / "releases", stranger)
    assert "add the key if you trust it" in refused("stranger", lambda: read_manifest(directory, ours.allowed_signers))


def test_a_missing_damaged_or_borrowed_signature_is_refused(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours)
    other = write(tmp_path / "others", ours, manifest(version="0.2.0"))
    signature = directory / "manifest.json.sig"
    shutil.copy(other / "manifest.json.sig", signature)
    refused("signature", lambda: read_manifest(directory, ours.allowed_signers))
    signature.write_text("-----BEGIN SSH SIGNATURE-----\nnonsense\n-----END SSH SIGNATURE-----\n")
    refused("stranger", lambda: read_manifest(directory, ours.allowed_signers))
    signature.unlink()
    refused("unsigned", lambda: read_manifest(directory, ours.allowed_signers))


def test_a_signature_for_another_purpose_is_refused(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours)
    path = directory / "manifest.json"
    (directory / "manifest.json.sig").unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", "approval", "-f", str(ours.key), str(path)],
        check=True,
        capture_output=True,
    )
    refused("signature", lambda: read_manifest(directory, ours.allowed_signers))


def test_a_key_that_may_sign_only_other_things_is_refused(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours)
    listed = ours.allowed_signers.read_text()
    ours.allowed_signers.write_text(listed.replace('namespaces="release"', 'namespaces="approval"'))
    refused("signature", lambda: read_manifest(directory, ours.allowed_signers))


def test_without_a_list_of_signers_nothing_is_trusted(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours)
    refused("signers", lambda: read_manifest(directory, tmp_path / "nobody"))
    (tmp_path / "empty").write_text("")
    refused("stranger", lambda: read_manifest(directory, tmp_path / "empty"))


def test_a_missing_ssh_keygen_says_what_to_install(
    tmp_path: Path, ours: keys.Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(tmp_path / "releases", ours)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "openssh-client" in refused("ssh-keygen", lambda: read_manifest(directory, ours.allowed_signers))


def test_an_expired_release_is_refused_and_a_valid_one_is_not(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours, manifest(expires_at=int(NOW)))
    refused("expired", lambda: read_manifest(directory, ours.allowed_signers, NOW))
    refused("expired", lambda: load_release(directory, ours.allowed_signers, "hive-fixture", now=NOW + 1))
    assert read_manifest(directory, ours.allowed_signers, NOW - 1)[0]["expires_at"] == int(NOW)


def test_a_release_older_than_an_accepted_one_is_refused() -> None:
    check_watermark(manifest(), None)
    check_watermark(manifest(), 1_700_000_000)
    refused("older", lambda: check_watermark(manifest(), 1_700_000_001))


def test_the_release_must_be_the_one_meant(tmp_path: Path, ours: keys.Signer) -> None:
    directory = write(tmp_path / "releases", ours)
    refused("other", lambda: load_release(directory, ours.allowed_signers, "cl-hive"))
    refused("other", lambda: load_release(directory, ours.allowed_signers, "hive-fixture", "0.1.1"))
    refused("other", lambda: load_release(directory, ours.allowed_signers, "hive-fixture", digest="0" * 64))


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *((name, "0.1.0") for name in ("..", "a/../b", "/etc", "", "Hive", "hive\n", "-x")),
        *(("hive", version) for version in ("..", "../0.1.0", "", "0.1.0\n", "0.1.0/../../x", "latest")),
    ],
)
def test_names_cannot_leave_the_directory_of_releases(tmp_path: Path, name: str, version: str) -> None:
    refused("name", lambda: release_directory(tmp_path, name, version))


def test_a_missing_release_says_how_to_get_it(tmp_path: Path, ours: keys.Signer) -> None:
    assert "playbooks/release.yml" in refused("missing", lambda: read_manifest(tmp_path / "x", ours.allowed_signers))


BAD: list[dict[str, Any]] = [
    {"schema": 2},
    {"schema": True},
    {"schema": "1"},
    {"name": "../evil"},
    {"version": "latest"},
    {"artifact": {"file": "../hive-fixture-0.1.0.pex", "sha256": "0" * 64, "size": 1}},
    {"artifact": {"file": "/bin/sh", "sha256": "0" * 64, "size": 1}},
    {"artifact": {"file": "hive-fixture-0.1.0.pex", "sha256": "0" * 63, "size": 1}},
    {"artifact": {"file": "hive-fixture-0.1.0.pex", "sha256": "0" * 64, "size": 0}},
    {"artifact": {"file": "hive-fixture-0.1.0.pex", "sha256": "0" * 64, "size": True}},
    {"entry": "bin/../../sh"},
    {"entry": "/bin/sh"},
    {"database": "../lightningd.sqlite3"},
    {"database": "/tmp/x"},
    {"key_files": ["../hsm_secret"]},
    {"key_files": [".hidden"]},
    {"key_files": ["hsm_secret"]},
    {"key_files": ["emergency.recover"]},
    {"database": "lightningd.sqlite3"},
    {"database": "lightningd.sqlite3-wal"},
    {"rpc_methods": ["b", "a"]},
    {"rpc_methods": ["hive-fixture-health", "hive-fixture-health"]},
    {"rpc_methods": ["hive-fixture-health", "rm -rf"]},
    {"health_rpc": "unknown"},
    {"tables": ["x; DROP TABLE y"]},
    {"options": [{"name": "note"}]},
    {"options": [{"name": "a=b", "type": "string", "default": "", "dynamic": False, "description": ""}]},
    {"options": [{"name": "a\nplugin", "type": "string", "default": "", "dynamic": False, "description": ""}]},
    {"options": [{"name": "a", "type": "file", "default": "", "dynamic": False, "description": ""}]},
    {"options": [{"name": "a", "type": "int", "default": 1.5, "dynamic": False, "description": ""}]},
    {"options": {}},
    {"database_option": "hive-other-db-path"},
    {"requires": {"plugins": [], "cln": "25.02"}},
    {"requires": []},
    {"expires_at": "never"},
    {"released_at": -1},
    {"released_at": None},
    {"python": {"requires": ">=3.11", "tags": [], "wheels": {}}},
    {"python": {"requires": ">=3.11", "tags": ["cp311", "py3"], "wheels": {"cp311-x86_64": ["a-1-py3-none-any.whl"]}}},
    {"python": {"requires": ">=3.11", "tags": ["cp311"]}},
    {"python": {"requires": ">=3.11", "tags": ["cp311"], "wheels": {"cp312-x86_64": ["a-1-py3-none-any.whl"]}}},
    {"python": {"requires": ">=3.11", "tags": ["cp311"], "wheels": {"cp311-x86_64": []}}},
    {"python": {"requires": ">=3.11", "tags": ["cp311"], "wheels": {"cp311-x86_64": ["../a-1-py3-none-any.whl"]}}},
    {"source": {"commit": None, "dirty": False, "digest": "0" * 64}},
    {"source": {"commit": "", "dirty": "no", "digest": "0" * 64}},
    {"build": {"python": 3, "pex": "2"}},
    {"unknown": 1},
]


@pytest.mark.parametrize("changes", BAD, ids=[str(change)[:60] for change in BAD])
def test_a_signed_manifest_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    refused("schema", lambda: parse_manifest(canonical(manifest(**changes))))


@pytest.mark.parametrize("key", sorted(manifest()))
def test_every_key_is_needed(key: str) -> None:
    content = manifest()
    del content[key]
    refused("schema", lambda: parse_manifest(canonical(content)))


ADOPTS = {"tables": ["did_credentials", "nostr_state"], "signatures": ["nostr_key_derivation"], "in_place": False}


def test_what_a_plugin_adopts_may_stand_in_its_manifest() -> None:
    adopting = {**manifest(), "adopts": ADOPTS}
    assert parse_manifest(canonical(adopting)) == adopting
    assert _manifest.plugin_part(adopting)["adopts"] == ADOPTS
    assert "adopts" not in _manifest.plugin_part(manifest())


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {"tables": [], "signatures": []},
        {**ADOPTS, "tables": ["nostr_state", "did_credentials"]},
        {**ADOPTS, "tables": ["lightningd; DROP"]},
        {**ADOPTS, "signatures": "nostr_key_derivation"},
        {**ADOPTS, "in_place": 1},
        {**ADOPTS, "more": True},
    ],
)
def test_a_wrong_word_on_adoption_is_refused(wrong: Any) -> None:
    refused("schema", lambda: parse_manifest(canonical({**manifest(), "adopts": wrong})))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b"1" * (_manifest.MAX_MANIFEST_BYTES + 1)])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    refused("schema", lambda: parse_manifest(data))


def test_only_the_canonical_bytes_are_accepted() -> None:
    good = canonical(manifest())
    assert parse_manifest(good) == manifest()
    for data in (
        good.rstrip(b"\n"),
        good.replace(b":", b": ", 1),
        b" " + good,
        good.replace(b'{"artifact', b'{"schema":1,"artifact', 1),
    ):
        refused("schema", lambda data=data: parse_manifest(data))  # type: ignore[misc]


def test_the_oldest_python_of_a_node_can_import_it() -> None:
    """Nodes run it on their own Python, from 3.9 on, with the standard library only."""
    code = "import sys; before = set(sys.modules); import _manifest; print(*sorted(set(sys.modules) - before))"
    path = Path(_manifest.__file__)
    code = f"import sys; sys.path.insert(0, {str(path.parent)!r}); {code}"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in result.stdout.split()}
    assert loaded <= set(sys.stdlib_module_names) | {"_manifest"}
    ast.parse(path.read_text(), feature_version=(3, 9))
