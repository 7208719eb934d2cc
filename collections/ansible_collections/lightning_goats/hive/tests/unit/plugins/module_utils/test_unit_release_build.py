"""Releases are reproducible, complete, signed, and built only when something changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release, _release_pex
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import (
    PLUGIN_KEYS,
    ReleaseError,
    load_release,
)
from ansible_collections.lightning_goats.hive.plugins.module_utils._release import Outcome, Settings, Wanted
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import read_sources
from signed_releases import manifest, signer


@pytest.fixture
def settings(tmp_path: Path, builder_cache: Path) -> Settings:
    return Settings(releases=tmp_path / "releases", cache=builder_cache, keys=tmp_path / "keys")


@pytest.fixture(scope="session")
def prebuilt(tmp_path_factory: pytest.TempPathFactory, builder_cache: Path, plugins: Path) -> Path:
    """A directory with the release of the good fixture, and the key that signed it."""
    directory = tmp_path_factory.mktemp("prebuilt")
    build(
        Settings(releases=directory / "releases", cache=builder_cache, keys=directory / "keys"),
        Wanted(plugins / "good"),
    )
    return directory


@pytest.fixture
def released(settings: Settings, prebuilt: Path) -> Settings:
    """The settings, under which the good fixture is already released."""
    shutil.copytree(prebuilt, settings.releases.parent, dirs_exist_ok=True)
    return settings


def artifact_of(settings: Settings) -> Path:
    return settings.releases / "hive-fixture/0.1.0/hive-fixture-0.1.0.pex"


def digest_of(settings: Settings) -> str:
    return hashlib.sha256(artifact_of(settings).read_bytes()).hexdigest()


def build(
    settings: Settings, *wanted: Wanted, check_mode: bool = False, versions: dict[str, str] | None = None
) -> Outcome:
    return _release.release(list(wanted), versions or {}, settings, check_mode)


def refused(code: str, settings: Settings, *wanted: Wanted, versions: dict[str, str] | None = None) -> str:
    with pytest.raises(ReleaseError) as caught:
        build(settings, *wanted, versions=versions)
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)


def test_a_release_is_three_files_and_an_sbom_verified_and_described_by_itself(
    settings: Settings, plugins: Path
) -> None:
    outcome = build(settings, Wanted(plugins / "good", "hive-fixture"))
    (made,) = outcome.releases
    directory = Path(made["path"])
    assert outcome.changed
    assert directory == settings.releases / "hive-fixture" / "0.1.0"
    assert sorted(path.name for path in directory.iterdir()) == [
        "hive-fixture-0.1.0.pex",
        "manifest.json",
        "manifest.json.sig",
        "sbom.cdx.json",
    ]
    assert {path.name for path in settings.releases.iterdir()} == {".lock", "hive-fixture"}
    release = load_release(directory, Path(outcome.allowed_signers), "hive-fixture")
    said = subprocess.run(
        [sys.executable, str(release.artifact), "--hive-manifest"],
        env={**os.environ, "PEX_ROOT": str(settings.cache / "pex")},
        capture_output=True,
        check=True,
    )
    assert json.loads(said.stdout).items() <= release.manifest.items()
    python = release.manifest["python"]
    assert (python["requires"], python["tags"]) == (">=3.11,<3.14", ["cp311", "cp312", "cp313"])
    assert python["wheels"]["cp312-aarch64"] == ["hive_fixture-0.1.0-py3-none-any.whl"]
    assert release.manifest["build"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_same_sources_give_the_same_bytes_anywhere_for_anybody(
    tmp_path: Path, released: Settings, plugins: Path
) -> None:
    """Other directory, other cache, other permissions, other times, other key, other environment."""
    first = build(released, Wanted(plugins / "good")).releases[0]
    assert not first["changed"]
    elsewhere = tmp_path / "somewhere else" / "für immer"
    shutil.copytree(plugins, elsewhere)
    for path in elsewhere.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            os.utime(path, (1_000_000_000, 1_000_000_000))
    other = Settings(releases=tmp_path / "r", cache=tmp_path / "c", keys=tmp_path / "k")
    before = os.umask(0o077)
    os.environ["SOURCE_DATE_EPOCH"] = "1234567890"
    try:
        second = build(other, Wanted(elsewhere / "good")).releases[0]
    finally:
        os.umask(before)
        assert os.environ.pop("SOURCE_DATE_EPOCH") == "1234567890", "the builder gives back what it found"
    assert second["digest"] == first["digest"]
    assert second["manifest"]["source"]["digest"] == first["manifest"]["source"]["digest"]
    assert second["manifest"]["released_at"] == 1234567890, "outside git the environment says when"


def test_nothing_to_do_is_nothing_done(released: Settings, plugins: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in released.releases.rglob("*")}
    again = build(released, Wanted(plugins / "good"))
    assert not again.changed
    assert again.releases[0]["digest"] == digest_of(released)
    assert {path: path.stat().st_mtime_ns for path in released.releases.rglob("*")} == before


def test_check_mode_tells_and_touches_nothing(tmp_path: Path, settings: Settings, plugins: Path) -> None:
    outcome = build(settings, Wanted(plugins / "good"), check_mode=True)
    assert outcome.changed
    assert (outcome.releases[0]["digest"], outcome.releases[0]["reason"]) == ("", "not released yet")
    assert not settings.releases.exists()
    assert not settings.keys.exists()
    assert list(tmp_path.iterdir()) == []


def test_one_source_under_two_versions(released: Settings, plugins: Path) -> None:
    """How upgrades are rehearsed."""
    old = build(released, Wanted(plugins / "good")).releases[0]
    new = build(released, Wanted(plugins / "good"), versions={"hive-fixture": "0.2.0"}).releases[0]
    assert (old["version"], new["version"]) == ("0.1.0", "0.2.0")
    assert new["manifest"]["version"] == "0.2.0"
    assert old["digest"] != new["digest"]
    assert sorted(path.name for path in (released.releases / "hive-fixture").iterdir()) == ["0.1.0", "0.2.0"]
    refused("source", released, Wanted(plugins / "good"), versions={"cl-hive": "0.2.0"})


@pytest.mark.parametrize("damage", ["artifact", "manifest", "signature"])
def test_a_damaged_release_is_not_taken_for_good(released: Settings, plugins: Path, damage: str) -> None:
    names = {"artifact": artifact_of(released).name, "manifest": "manifest.json", "signature": "manifest.json.sig"}
    path = artifact_of(released).with_name(names[damage])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    outcome = build(released, Wanted(plugins / "good"), check_mode=True)
    assert outcome.changed
    assert outcome.releases[0]["reason"]


def test_a_damaged_release_is_built_again(released: Settings, plugins: Path) -> None:
    before = digest_of(released)
    artifact_of(released).write_bytes(b"damaged")
    again = build(released, Wanted(plugins / "good")).releases[0]
    assert (again["changed"], again["digest"]) == (True, before)
    assert digest_of(released) == before


def test_an_expired_release_is_renewed_with_the_same_bytes(settings: Settings, plugins: Path) -> None:
    short = dataclasses.replace(settings, valid_days=1)
    first = build(short, Wanted(plugins / "good")).releases[0]
    expires_at = first["manifest"]["expires_at"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: float(expires_at))
        again = build(short, Wanted(plugins / "good")).releases[0]
    assert again["changed"]
    assert again["digest"] == first["digest"]
    assert again["manifest"]["expires_at"] == expires_at + 86400


def test_the_throwaway_key_is_private_and_kept(released: Settings, plugins: Path) -> None:
    key, listed = released.keys / "release", released.keys / "allowed_signers"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (released.keys, key, listed)] == [0o700, 0o600, 0o600]
    before = key.read_bytes()
    build(released, Wanted(plugins / "crash-at-init", version="0.2.0"))
    assert key.read_bytes() == before


def test_a_configured_key_signs_and_is_never_replaced(tmp_path: Path, settings: Settings, plugins: Path) -> None:
    maintainer = signer(tmp_path / "maintainer", "maintainer@example.org")
    configured = dataclasses.replace(settings, signing_key=str(maintainer.key))
    assert build(configured, Wanted(plugins / "good")).releases[0]["signer"] == "maintainer@example.org"
    assert not settings.keys.exists()
    maintainer.key.unlink()
    assert "correct hive_release_signing_key" in refused("key", configured, Wanted(plugins / "good"))
    assert not maintainer.key.exists()


def test_a_key_with_a_passphrase_does_not_ask(tmp_path: Path, settings: Settings, plugins: Path) -> None:
    maintainer = signer(tmp_path / "maintainer")
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", maintainer.key], check=True)
    configured = dataclasses.replace(settings, signing_key=str(maintainer.key))
    assert "ssh-agent" in refused("key", configured, Wanted(plugins / "good"))
    assert not list(settings.releases.glob("[!.]*")), "nothing is published unsigned"


def test_a_released_version_keeps_its_bytes_under_a_real_key(tmp_path: Path, settings: Settings, plugins: Path) -> None:
    maintainer = signer(tmp_path / "maintainer")
    configured = dataclasses.replace(settings, signing_key=str(maintainer.key))
    first = build(configured, Wanted(plugins / "good")).releases[0]
    said = refused("replace", configured, Wanted(plugins / "unhealthy"))
    assert "raise its version, or set hive_release_replace=true" in said
    allowed = dataclasses.replace(configured, replace=True)
    replaced = build(allowed, Wanted(plugins / "unhealthy")).releases[0]
    assert (replaced["previous_digest"], replaced["reason"]) == (first["digest"], "the sources changed")
    assert replaced["digest"] != first["digest"]


def test_two_sources_for_one_version_are_refused(settings: Settings, plugins: Path) -> None:
    refused("source", settings, Wanted(plugins / "good"), Wanted(plugins / "unhealthy"))


def test_what_an_interrupted_builder_left_is_swept(settings: Settings, plugins: Path) -> None:
    left = settings.releases / ".building-killed" / "release-0"
    left.mkdir(parents=True)
    build(settings, Wanted(plugins / "good"))
    assert not left.parent.exists()


def test_builders_of_the_same_release_take_turns(settings: Settings, plugins: Path) -> None:
    """The second finds what the first one made, instead of replacing it under its readers."""
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(lambda _: build(settings, Wanted(plugins / "good")), range(3)))
    assert len({outcome.releases[0]["digest"] for outcome in outcomes}) == 1
    assert all(outcome.releases[0]["signer"] for outcome in outcomes)
    assert not list(settings.releases.glob(".building-*"))


def write_source(directory: Path, body: str, *, dependencies: str = "[]", scripts: str = "") -> Path:
    """A plugin whose program is `body`."""
    (directory / "src/odd").mkdir(parents=True)
    (directory / "src/odd/__init__.py").write_text(f"def main():\n    {body}\n")
    (directory / "pyproject.toml").write_text(
        '[project]\nname = "odd"\nversion = "0.1.0"\nrequires-python = ">=3.11,<3.14"\n'
        f"dependencies = {dependencies}\n"
        f"[project.scripts]\n{scripts or 'odd = ' + chr(34) + 'odd:main' + chr(34)}\n"
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[tool.hatch.build.targets.wheel]\npackages = ["src/odd"]\n'
    )
    return directory


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("raise SystemExit('no such flag')", "it ended with rc 1: no such flag"),
        ("print('hello')", "its answer is not JSON"),
        ("print('{}')", "lacks conflicts"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("import time; time.sleep(60)", "it gave no answer within 1 s"),
        ("print(open(__file__ + '.json').read())", "it calls itself hive-fixture 0.1.0"),
    ],
)
def test_an_artifact_that_does_not_describe_itself_is_refused(
    tmp_path: Path, plugins: Path, body: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_release_pex, "DESCRIBE_SECONDS", 1 if "sleep" in body else 60)
    sources = read_sources(plugins / "good", "", "0.2.0", {}, None, [])
    artifact = tmp_path / "artifact"
    artifact.write_text(body)
    said = {key: value for key, value in manifest().items() if key in PLUGIN_KEYS}
    artifact.with_name("artifact.json").write_text(json.dumps(said))
    with pytest.raises(ReleaseError) as caught:
        _release_pex.describe(sources, artifact, tmp_path / "cache")
    assert caught.value.code == "describe"
    assert what in str(caught.value)


def test_one_bad_plugin_publishes_none(tmp_path: Path, settings: Settings, plugins: Path) -> None:
    bad = write_source(tmp_path / "odd", "print('hello')")
    said = refused("describe", settings, Wanted(plugins / "good"), Wanted(bad))
    assert "The artifact of odd 0.1.0 does not describe itself" in said
    assert not list(settings.releases.glob("[!.]*"))


def test_sources_that_cannot_be_released_say_why(tmp_path: Path, settings: Settings, plugins: Path) -> None:
    assert "give the directory" in refused("source", settings, Wanted(tmp_path / "nothing"))
    assert "not of cl-hive" in refused("source", settings, Wanted(plugins / "good", "cl-hive"))
    refused("source", settings, Wanted(plugins / "good", version="latest"))
    refused("source", settings, Wanted(plugins / "good", version="../0.1.0"))
    no_script = write_source(tmp_path / "odd", "pass", scripts='other = "odd:main"')
    assert "[project.scripts]" in refused("source", settings, Wanted(no_script))
    unlocked = write_source(tmp_path / "unlocked", "pass", dependencies='["requests"]')
    assert "uv.lock" in refused("lock", settings, Wanted(unlocked))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "pyproject.toml").write_text("[project\n")
    assert "not valid TOML" in refused("source", settings, Wanted(tmp_path / "broken"))


def test_a_plugin_outside_the_lock_is_refused(tmp_path: Path, settings: Settings) -> None:
    workspace = Path(__file__).resolve().parents[8]
    unlocked = write_source(tmp_path / "unlocked", "pass", dependencies='["requests"]')
    inside = dataclasses.replace(settings, workspace=workspace)
    assert "does not pin odd" in refused("lock", inside, Wanted(unlocked))


def test_the_artifact_becomes_a_slot_without_network(tmp_path: Path, released: Settings) -> None:
    nowhere = {"PIP_NO_INDEX": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    subprocess.run(
        [sys.executable, str(artifact_of(released)), "venv", "--compile", str(tmp_path / "slot")],
        env={"PATH": os.environ["PATH"], "PEX_TOOLS": "1", "PEX_ROOT": str(tmp_path / "scratch"), **nowhere},
        check=True,
        capture_output=True,
    )
    entry = tmp_path / "slot" / "bin" / "hive-fixture"
    shown = subprocess.run([entry, "--hive-manifest"], env={}, capture_output=True, check=True)
    assert b'"version": "0.1.0"' in shown.stdout


def test_the_artifact_holds_no_path_of_the_builder(released: Settings, prebuilt: Path, plugins: Path) -> None:
    with zipfile.ZipFile(artifact_of(released)) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            for trace in (released.cache, prebuilt, plugins, sys.prefix):
                assert str(trace).encode() not in data, name
