"""Releases from somebody's repository and from what somebody built: one form of artifact, locked, by commit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError, load_release
from ansible_collections.lightning_goats.hive.plugins.module_utils._release import Settings, Wanted
from fixtures import repositories
from fixtures.repositories import DECLARES, NAME, git


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the repository, its index of wheels, and a cache; uv and pip see that index and no network."""
    directory = tmp_path_factory.mktemp("field")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in repositories.index(directory / "index").items():
            patch.setenv(key, value)
        repositories.monolith(directory)
        yield directory


@pytest.fixture
def settings(tmp_path: Path, field: Path) -> Settings:
    return Settings(
        releases=tmp_path / "releases",
        cache=field / "cache",
        keys=tmp_path / "keys",
        locks=tmp_path / "locks",
        machines=("x86_64",),
    )


def foreign(field: Path, **changes: Any) -> Wanted:
    given = {"name": NAME, "version": "2.2.5", "git": str(field / NAME), "ref": "v2.2.5", "declares": DECLARES}
    return Wanted(**{**given, **changes})


def build(settings: Settings, wanted: Wanted) -> dict[str, Any]:
    return _release.release([wanted], {}, settings).releases[0]


def refused(settings: Settings, wanted: Wanted) -> str:
    """The one sentence; and nothing was published, locked or left behind."""
    with pytest.raises(ReleaseError) as caught:
        build(settings, wanted)
    for directory in (settings.releases, settings.locks):
        left = [path.name for path in directory.rglob("*")] if directory is not None and directory.exists() else []
        assert left in ([], [".lock"])
    return str(caught.value)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, field: Path) -> tuple[Settings, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("released")
    settings = Settings(
        releases=directory / "releases",
        cache=field / "cache",
        keys=directory / "keys",
        locks=directory / "locks",
        machines=("x86_64",),
    )
    return settings, build(settings, foreign(field))


def test_a_script_becomes_a_release_like_any_other(released: tuple[Settings, dict[str, Any]], field: Path) -> None:
    settings, made = released
    release = load_release(Path(made["path"]), settings.keys / "allowed_signers", NAME, "2.2.5", made["digest"])
    manifest = release.manifest
    assert manifest["rpc_methods"] == ["hive-members", "hive-status", "hive-version"], "asked of the artifact"
    assert [option["name"] for option in manifest["options"]] == ["hive-db-path", "hive-governance-mode"]
    assert manifest["subscriptions"] == ["connect", "shutdown"]
    assert (manifest["database"], manifest["health_rpc"]) == ("monolith.db", "hive-status"), "declared"
    assert manifest["source"]["commit"] == git(field / NAME, "rev-parse", "v2.2.5^{commit}")
    assert manifest["source"]["dirty"] is False
    assert manifest["foreign"] == {"repository": str(field / NAME), "ref": "v2.2.5"}
    assert "fixture_base-1.2-py3-none-any.whl" in manifest["python"]["wheels"]["cp312-x86_64"]
    assert "fixture_base-1.2-py3-none-any.whl" not in manifest["python"]["wheels"]["cp313-x86_64"], "its marker says so"


def test_the_lock_makes_the_second_build_the_same_bytes(
    released: tuple[Settings, dict[str, Any]],
    field: Path,
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, made = released
    assert settings.locks is not None
    assert first.locks is not None
    shutil.copytree(first.locks, settings.locks)
    # Somebody else builds it: other repository, other cache, and the index has a newer library by now.
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--bare", str(field / NAME), str(clone))
    index = tmp_path / "index"
    shutil.copytree(field / "index", index)
    repositories.wheel(index, "fixture-lib", "1.7")
    for key in ("UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.setenv(key, str(index))
    again = build(replace(settings, cache=tmp_path / "cache"), foreign(field, git=str(clone)))
    assert again["digest"] == made["digest"]
    # Without the lock it would have been another one.
    shutil.rmtree(settings.locks)
    other = build(settings, foreign(field, version="2.2.5.post1"))
    assert "fixture_lib-1.7-py3-none-any.whl" in other["manifest"]["python"]["wheels"]["cp311-x86_64"]


def test_the_second_run_does_nothing(released: tuple[Settings, dict[str, Any]], field: Path) -> None:
    settings, _ = released
    assert build(settings, foreign(field))["changed"] is False


def test_a_branch_is_resolved_and_recorded(settings: Settings, field: Path) -> None:
    made = build(settings, foreign(field, ref="main", version="2.2.7"))
    assert made["manifest"]["source"]["commit"] == git(field / NAME, "rev-parse", "main")
    assert made["manifest"]["foreign"]["ref"] == "main"
    whole = git(field / NAME, "rev-parse", "v2.2.6")
    assert build(settings, foreign(field, ref=whole, version="2.2.6"))["manifest"]["source"]["commit"] == whole


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ref": "v9"}, "has no tag or branch v9"),
        ({"ref": "0" * 40}, "no commit of that whole name"),
        ({"ref": ""}, "is no tag, branch or commit"),
        ({"ref": "--upload-pack=touch"}, "is no tag, branch or commit"),
        ({"git": "nowhere"}, "is not there"),
        ({"git": "ext::sh -c touch% /tmp/never"}, "is not there"),
        ({"entry": "other.py"}, "has no file other.py"),
        ({"entry": "modules/__init__.py"}, "ends without an answer to getmanifest"),
        ({"requirements": "other.txt"}, "has no file other.txt"),
        ({"declares": {}}, "declares no health_rpc"),
        ({"declares": {**DECLARES, "colour": "red"}}, "declares the unknown colour"),
        ({"declares": {**DECLARES, "health_rpc": "hive-nothing"}}, "health_rpc is not among rpc_methods"),
        ({"declares": {**DECLARES, "database": "lightningd.sqlite3"}}, "belongs to lightningd"),
        ({"version": ""}, "needs both"),
        ({"artifact": "x.pex"}, "has not one source"),
    ],
)
def test_what_cannot_be_released_is_refused(
    settings: Settings, field: Path, changes: dict[str, Any], words: str
) -> None:
    assert words in refused(settings, foreign(field, **changes))


def test_a_password_in_the_url_is_not_repeated(settings: Settings, field: Path) -> None:
    said = refused(settings, foreign(field, git="https://user:hunter2@127.0.0.1:9/cl-hive.git"))
    assert "could not fetch https://127.0.0.1:9/cl-hive.git" in said
    assert "hunter2" not in said


def test_uncommitted_work_is_refused(settings: Settings, tmp_path: Path) -> None:
    repository = repositories.monolith(tmp_path)
    (repository / "modules/service.py").write_text("changed = True\n")
    head = git(repository, "rev-parse", "HEAD")
    assert "changes that are in no commit (modules/service.py)" in refused(
        settings, foreign(tmp_path, git=str(repository), ref=head)
    )
    # Another ref has nothing to do with the work tree.
    assert build(settings, foreign(tmp_path, git=str(repository)))["version"] == "2.2.5"


@pytest.mark.parametrize(
    ("requirements", "words"),
    [
        ("nobody-has-this\n", "cannot be resolved"),
        ("fixture-lib>=9\n", "cannot be resolved"),
        ("fixture-elsewhere\n", "has no wheel for CPython 3.11 on x86_64"),
    ],
)
def test_requirements_that_nobody_can_meet_are_refused(
    settings: Settings, tmp_path: Path, requirements: str, words: str
) -> None:
    repository = repositories.monolith(tmp_path, requirements)
    assert words in refused(settings, foreign(tmp_path, git=str(repository)))


def test_a_lock_of_other_requirements_is_refused(settings: Settings, field: Path, tmp_path: Path) -> None:
    assert settings.locks is not None
    build(settings, foreign(field))
    repository = repositories.monolith(tmp_path, "fixture-base\n")
    with pytest.raises(ReleaseError) as caught:
        build(settings, foreign(field, git=str(repository)))
    assert caught.value.code == "lock"
    assert "remove it to have it made again" in str(caught.value)


def artifact_of(made: dict[str, Any]) -> Path:
    return next(Path(made["path"]).glob("*.pex"))


def test_an_artifact_that_somebody_signed_is_taken_over_as_it_is(
    released: tuple[Settings, dict[str, Any]], settings: Settings, tmp_path: Path
) -> None:
    theirs, made = released
    key = tmp_path / "maintainer"
    shutil.copytree(theirs.keys, key)
    trusting = replace(settings, signing_key=str(key / "release"), allowed_signers=str(key / "allowed_signers"))
    wanted = Wanted(
        artifact=str(artifact_of(made)), sha256=made["digest"], manifest=str(Path(made["path"]) / "manifest.json")
    )
    taken = build(trusting, wanted)
    for path in Path(made["path"]).iterdir():
        assert (Path(taken["path"]) / path.name).read_bytes() == path.read_bytes()
    assert build(trusting, wanted)["changed"] is False
    # Somebody whom we do not know.
    stranger = replace(settings, releases=tmp_path / "others")
    build(stranger, Wanted(source=Path(__file__).parents[1] / "fixtures/plugins/good"))
    with pytest.raises(ReleaseError) as caught:
        build(stranger, wanted)
    assert caught.value.code == "stranger"
    assert not (stranger.releases / NAME).exists()


def test_a_bare_artifact_gets_its_manifest_here(
    released: tuple[Settings, dict[str, Any]], settings: Settings, tmp_path: Path
) -> None:
    _, made = released
    bare = tmp_path / "download.pex"
    shutil.copyfile(artifact_of(made), bare)
    wanted = Wanted(name=NAME, version="2.2.5", artifact=str(bare), sha256=made["digest"], declares=DECLARES)
    manifest = build(settings, wanted)["manifest"]
    assert manifest["python"] == made["manifest"]["python"], "read from the artifact itself"
    assert manifest["rpc_methods"] == made["manifest"]["rpc_methods"]
    assert build(settings, wanted)["changed"] is False
    bare.write_bytes(bare.read_bytes() + b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    with pytest.raises(ReleaseError) as caught:
        build(replace(settings, releases=tmp_path / "others"), replace(wanted, sha256=digest))
    assert f"not {digest}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": ""}, "without its sha256"),
        ({"artifact": "nowhere.pex"}, "cannot be read"),
        ({"artifact": "http://127.0.0.1:9/x.pex"}, "cannot be read"),
        ({"name": ""}, "needs both"),
    ],
)
def test_an_artifact_that_is_not_pinned_is_refused(settings: Settings, changes: dict[str, Any], words: str) -> None:
    given = {"name": NAME, "version": "2.2.5", "artifact": "x.pex", "sha256": "0" * 64, "declares": DECLARES}
    assert words in refused(settings, Wanted(**{**given, **changes}))


def test_the_playbook_takes_every_kind(field: Path, tmp_path: Path) -> None:
    """As the operator runs it, with a path and with a URL."""
    root = Path(__file__).resolve().parents[2]
    plugin = {"name": NAME, "version": "2.2.6", "ref": "v2.2.6", "declares": DECLARES}
    given = {
        "hive_release_plugins": [plugin],
        "hive_releases_dir": str(tmp_path / "releases"),
        "hive_release_cache_dir": str(field / "cache"),
        "hive_release_keys_dir": str(tmp_path / "keys"),
        "hive_release_locks_dir": str(tmp_path / "locks"),
        "hive_release_architectures": ["x86_64"],
    }
    for plugin["git"] in (f"file://{field / NAME}", str(field / NAME)):
        done = subprocess.run(
            [
                Path(sys.prefix, "bin/ansible-playbook"),
                "playbooks/release.yml",
                "-i",
                "localhost,",
                "-e",
                json.dumps(given),
            ],
            cwd=root,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    manifest = json.loads((tmp_path / f"releases/{NAME}/2.2.6/manifest.json").read_text())
    assert manifest["foreign"]["ref"] == "v2.2.6"
    assert (tmp_path / f"locks/{NAME}/2.2.6/pylock.toml").read_text().startswith("# Made by")
