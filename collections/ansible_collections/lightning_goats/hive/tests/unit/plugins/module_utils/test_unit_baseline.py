"""The baseline tag: signed by somebody of the list, on the commit that is named, in a repository or stored."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import gates_world
import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _baseline
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from gates_world import World

Json = dict[str, Any]

TAG = "v2.9.0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    found = World(tmp_path_factory.mktemp("baseline"))
    found.people()
    found.register()
    return found


@pytest.fixture(scope="module")
def production(world: World) -> tuple[Path, str]:
    """A repository with a good tag, one by a stranger and one by nobody."""
    place, commit = gates_world.repository(world.root, world)
    gates_world.sign_tag(place, world, "v-stranger", "stranger")
    gates_world.git(place, "tag", "v-light")
    gates_world.git(place, "tag", "-a", "-m", "nobody", "v-unsigned")
    return place, commit


def named(production: tuple[Path, str], **changes: Any) -> Json:
    return {"repository": str(production[0]), "tag": TAG, "commit": production[1], **changes}


def verify(world: World, what: Json, seconds: float = 20) -> _baseline.Baseline:
    return _baseline.verify(what, world.registers, world.approvers, seconds)


def test_a_signed_tag_in_its_repository(world: World, production: tuple[Path, str]) -> None:
    found = verify(world, named(production))
    assert (found.tag, found.commit, found.signer) == (TAG, production[1], "alice@test")
    assert found.tagged_at is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tag": "v9"}, "has no tag v9"),
        ({"tag": "--help"}, "is no name of a tag"),
        ({"tag": "v-light"}, "is a lightweight tag"),
        ({"tag": "v-unsigned"}, "is not signed by anybody whom"),
        ({"tag": "v-stranger"}, "is not signed by anybody whom"),
        ({"commit": "0" * 40}, "the register says 000000000000"),
        ({"repository": "nowhere"}, "is not there: clone it, or store the tag"),
    ],
)
def test_what_is_no_baseline(world: World, production: tuple[Path, str], changes: Json, words: str) -> None:
    with pytest.raises(ReleaseError) as error:
        verify(world, named(production, **changes))
    assert error.value.code == "baseline"
    assert words in str(error.value)


def test_a_list_for_approvals_alone_says_nothing_of_tags(world: World, production: tuple[Path, str]) -> None:
    other = World(world.root)
    other.listed("only_approvals", {"alice@test": "alice"}, "approval")
    with pytest.raises(ReleaseError, match="is not signed by anybody whom"):
        _baseline.verify(named(production), world.registers, world.root / "keys/only_approvals", 20)


def store(world: World, production: tuple[Path, str], tag: str = TAG) -> Path:
    """The tag as the runbook says to store it."""
    path = world.registers / "baseline.tag"
    path.write_text(gates_world.git(production[0], "cat-file", "tag", tag))
    return path


def test_a_stored_tag_needs_no_repository(world: World, production: tuple[Path, str]) -> None:
    store(world, production)
    found = verify(world, {"object": "baseline.tag", "tag": TAG, "commit": production[1]})
    assert (found.signer, found.tagged_at) == ("alice@test", verify(world, named(production)).tagged_at)


@pytest.mark.parametrize(
    ("tag", "old", "new", "words"),
    [
        (TAG, "production", "something else", "is not signed by anybody"),
        ("v-stranger", "", "", "is tag v-stranger on commit"),
        ("v-unsigned", "", "", "is not a tag that somebody has signed"),
        (TAG, "type commit", "type tree", "is tag v2.9.0 on tree"),
    ],
)
def test_a_stored_tag_that_is_none(
    world: World, production: tuple[Path, str], tag: str, old: str, new: str, words: str
) -> None:
    path = store(world, production, tag)
    path.write_text(path.read_text().replace(old, new, 1) if old else path.read_text())
    with pytest.raises(ReleaseError, match=words):
        verify(world, {"object": "baseline.tag", "tag": TAG, "commit": production[1]})


def test_a_git_that_hangs_blocks_at_the_deadline(
    world: World, production: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(slow.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(str(shutil.which('sleep'))).parent}")
    with pytest.raises(ReleaseError) as error:
        verify(world, named(production), seconds=0.3)
    assert error.value.code == "deadline"


def test_a_tag_of_another_name_and_a_program_of_the_repository_say_nothing(
    world: World, production: tuple[Path, str], tmp_path: Path
) -> None:
    place = tmp_path / "production"
    shutil.copytree(production[0], place)
    gates_world.git(place, "update-ref", "refs/tags/v9.9.9", gates_world.git(place, "rev-parse", TAG).strip())
    with pytest.raises(ReleaseError, match=f"was made as tag {TAG}"):
        verify(world, named((place, production[1]), tag="v9.9.9"))

    liar = tmp_path / "liar"
    liar.write_text(
        '#!/bin/sh\necho "[GNUPG:] GOODSIG 0123456789ABCDEF alice"\n'
        "echo 'Good \"git\" signature for alice@test with ' >&2\necho '[GNUPG:] TRUST_ULTIMATE'\n"
    )
    liar.chmod(0o755)
    gates_world.git(place, "config", "gpg.program", str(liar))
    armor = "-----BEGIN PGP SIGNATURE-----\n\nnone\n-----END PGP SIGNATURE-----\n"
    header = f"object {production[1]}\ntype commit\ntag v-liar\ntagger Eve <eve@test> 1800000000 +0000\n\nmine\n"
    made = tmp_path / "made"
    made.write_text(header + armor)
    tag = gates_world.git(place, "hash-object", "-t", "tag", "-w", str(made)).strip()
    gates_world.git(place, "update-ref", "refs/tags/v-liar", tag)
    with pytest.raises(ReleaseError, match="it has no SSH signature"):
        verify(world, named((place, production[1]), tag="v-liar"))
