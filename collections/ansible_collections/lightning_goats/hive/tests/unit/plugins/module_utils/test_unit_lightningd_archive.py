"""What is refused as a release of lightningd, and what an accepted one becomes on a node."""

from __future__ import annotations

import os
import struct
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _lightningd_install as installing
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._lightningd_archive import (
    Release,
    fingerprint,
    prove,
    release_version,
)
from signed_archives import (
    Maintainers,
    Member,
    Published,
    maintainers,
    publish,
    release_members,
    write_archive,
)

VERSION = "v25.12.1"


@pytest.fixture(scope="module")
def people() -> Iterator[Maintainers]:
    with maintainers() as found:
        yield found


@pytest.fixture(scope="module")
def release(people: Maintainers, tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("release"), VERSION, people.get("alice"), release_members(VERSION))


def verify(release: Published, **changes: Any) -> Release:
    found: dict[str, Any] = {
        "archive": release.archive,
        "name": release.archive.name,
        "sha256": release.sha256,
        "sums": release.sums.read_bytes(),
        "signature": release.signature.read_bytes(),
        "key": release.key.read_bytes(),
        "signer": release.signer,
    }
    return prove(**{**found, **changes})


def refused(code: str, release: Published, **changes: Any) -> str:
    with pytest.raises(HiveError) as refusal:
        verify(release, **changes)
    assert refusal.value.code == code, refusal.value.message
    return refusal.value.message


class TestProof:
    def test_a_release_as_it_was_published(self, release: Published) -> None:
        assert verify(release) == Release(release.archive.name, release.sha256, release.signer)

    def test_a_fingerprint_as_people_write_it(self, release: Published) -> None:
        spaced = " ".join(release.signer[at : at + 4].lower() for at in range(0, 40, 4))
        assert verify(release, signer=spaced).signer == release.signer

    def test_one_of_several_signatures_is_enough(self, release: Published, people: Maintainers) -> None:
        other = people.get("bob").sign(release.sums.read_bytes())
        assert verify(release, signature=other + release.signature.read_bytes()).signer == release.signer

    def test_a_wrong_checksum(self, release: Published, tmp_path: Path) -> None:
        damaged = tmp_path / release.archive.name
        damaged.write_bytes(release.archive.read_bytes()[:-1] + b"x")
        assert "damaged or another file" in refused("checksum", release, archive=damaged)

    def test_a_truncated_archive(self, release: Published, tmp_path: Path) -> None:
        short = tmp_path / release.archive.name
        short.write_bytes(release.archive.read_bytes()[:-100])
        refused("checksum", release, archive=short)

    def test_another_checksum_than_was_expected(self, release: Published) -> None:
        assert "find out which" in refused("checksum-expected", release, sha256="0" * 64)

    def test_a_list_that_was_changed(self, release: Published) -> None:
        changed = release.sums.read_bytes().replace(b"0" * 64, b"1" * 64)
        refused("bad-sig", release, sums=changed)

    def test_a_list_signed_by_somebody_else(self, release: Published, people: Maintainers) -> None:
        bob = people.get("bob")
        said = refused("not-signed", release, signature=bob.sign(release.sums.read_bytes()))
        assert bob.fingerprint[-16:] in said

    def test_no_signature_at_all(self, release: Published) -> None:
        refused("not-signed", release, signature=b"")

    def test_another_key(self, release: Published, people: Maintainers) -> None:
        bob = people.get("bob")
        assert bob.fingerprint in refused("signer-key", release, key=bob.public)

    def test_two_keys(self, release: Published, people: Maintainers) -> None:
        both = release.key.read_bytes() + people.get("bob").public
        assert "2 keys" in refused("signer-keys", release, key=both)

    def test_no_key(self, release: Published) -> None:
        refused("signer-key", release, key=b"not a key\n")

    def test_a_secret_key(self, release: Published, people: Maintainers) -> None:
        alice = people.get("alice")
        refused("signer-key", release, key=alice.gpg("--armor", "--export-secret-keys", alice.fingerprint))

    def test_an_expired_key(self, release: Published, people: Maintainers, tmp_path: Path) -> None:
        carol = people.get("carol", "--faked-system-time", "20200101T000000!", validity="1y")
        theirs = replace(release, signer=carol.fingerprint)
        said = refused("signer-expired", theirs, key=carol.public)
        assert "has expired" in said

    def test_a_weak_hash(self, release: Published, people: Maintainers) -> None:
        alice, words = people.get("alice"), ("--digest-algo", "SHA1", "--allow-weak-digest-algos")
        signature = alice.gpg(*words, "--detach-sign", data=release.sums.read_bytes())
        with pytest.raises(HiveError) as refusal:
            verify(release, signature=signature)
        assert refusal.value.code in ("weak-signature", "bad-sig", "not-signed")

    @pytest.mark.parametrize("times", [0, 2])
    def test_a_list_that_does_not_name_it_once(self, release: Published, people: Maintainers, times: int) -> None:
        sums = f"{release.sha256}  {release.archive.name}\n".encode() * times
        refused("sums", release, sums=sums, signature=people.get("alice").sign(sums))

    @pytest.mark.parametrize("short", ["", "89ABCDEF", "alice@example.net", "g" * 40])
    def test_a_fingerprint_that_could_be_forged(self, short: str) -> None:
        with pytest.raises(HiveError, match="full fingerprint"):
            fingerprint(short)

    @pytest.mark.parametrize(
        ("name", "version"),
        [
            ("clightning-v25.12.1-Ubuntu-24.04-amd64.tar.xz", "v25.12.1"),
            ("clightning-v26.06rc2-Fedora-35-amd64.tar.gz", "v26.06rc2"),
        ],
    )
    def test_the_version_in_a_name(self, name: str, version: str) -> None:
        assert release_version(name) == version

    @pytest.mark.parametrize("name", ["clightning-v25.12.1.zip", "lightning.tar.xz", "clightning-v25.12.1-x.tar.bz2"])
    def test_a_name_of_something_else(self, name: str) -> None:
        with pytest.raises(HiveError, match="is not named like"):
            release_version(name)


def unpacked(tmp_path: Path, members: list[Member]) -> Path:
    write_archive(tmp_path / "x.tar.xz", members)
    installing.unpack(tmp_path / "x.tar.xz", tmp_path / "out")
    return tmp_path / "out"


class TestUnpacking:
    def test_modes_and_owners_are_ours(self, tmp_path: Path) -> None:
        out = unpacked(tmp_path, [Member("a/b", b"x", 0o6777), Member("a/c", b"y", 0o666)])
        assert [(out / name).stat().st_mode & 0o7777 for name in ("a", "a/b", "a/c")] == [0o755, 0o755, 0o644]
        assert (out / "a/b").stat().st_uid == os.geteuid()

    def test_a_link_that_stays_inside(self, tmp_path: Path) -> None:
        out = unpacked(
            tmp_path, [Member("lib/x.1", b"x"), Member("lib/x", link="x.1"), Member("y", link="lib/../lib/x")]
        )
        assert (out / "y").read_bytes() == b"x"

    @pytest.mark.parametrize(
        ("members", "code"),
        [
            ([Member("../evil", b"x")], "archive-traversal"),
            ([Member("a/../../evil", b"x")], "archive-traversal"),
            ([Member("/etc/evil", b"x")], "archive-traversal"),
            ([Member("a\nb", b"x")], "archive-traversal"),
            ([Member("a", link="/etc/passwd")], "archive-link"),
            ([Member("a/b", link="../../x")], "archive-link"),
            (
                [Member("a/b/c/x", link="../../../top"), Member("top/t", b""), Member("y", link="a/b/c/x/../..")],
                "archive-link",
            ),
            ([Member("a", b"x"), Member("a", b"y")], "archive-member"),
            ([Member("a", kind=tarfile.LNKTYPE)], "archive-member"),
            ([Member("a", kind=tarfile.FIFOTYPE)], "archive-member"),
            ([Member("a", kind=tarfile.CHRTYPE)], "archive-member"),
        ],
    )
    def test_what_would_reach_outside_or_is_no_file(self, tmp_path: Path, members: list[Member], code: str) -> None:
        with pytest.raises(HiveError) as refusal:
            unpacked(tmp_path, members)
        assert refusal.value.code == code
        assert not (tmp_path / "evil").exists()

    def test_a_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(installing, "BYTES", 1 << 20)
        with pytest.raises(HiveError, match="larger than any release"):
            unpacked(tmp_path, [Member("zeros", bytes(2 << 20))])

    @pytest.mark.parametrize("keep", [0, 40, 200])
    def test_a_torn_archive(self, tmp_path: Path, keep: int) -> None:
        path = tmp_path / "x.tar.xz"
        write_archive(path, [Member("a", os.urandom(100_000))])
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(HiveError, match="damaged or no archive"):
            installing.unpack(path, tmp_path / "out")


class TestInstalling:
    def install(self, tmp_path: Path, version: str, members: list[Member] | None = None) -> installing.Installed:
        archive = tmp_path / f"{version}.tar.xz"
        digest = write_archive(archive, members or release_members(version))
        return installing.install(archive, digest, "S", tmp_path / "opt", {})

    def test_versions_lie_side_by_side(self, tmp_path: Path) -> None:
        new, old = self.install(tmp_path, "v26.06.6"), self.install(tmp_path, "v25.12.1")
        assert new.program.parent.parent != old.program.parent.parent
        assert [one["version"] for one in installing.installed(tmp_path / "opt")] == ["v25.12.1", "v26.06.6"]
        assert installing.find(tmp_path / "opt", new.digest) == new

    def test_the_prefix_of_other_builds(self, tmp_path: Path) -> None:
        found = self.install(tmp_path, VERSION, release_members(VERSION, prefix="usr/local"))
        assert str(found.program).endswith("/usr/local/bin/lightningd")

    def test_a_changed_file_is_found_and_mended(self, tmp_path: Path) -> None:
        first = self.install(tmp_path, VERSION)
        first.program.write_text("#!/bin/sh\n")
        assert installing.find(tmp_path / "opt", first.digest) is None
        assert installing.find(tmp_path / "opt", self.install(tmp_path, VERSION).digest) == first

    def test_what_an_interrupted_install_left_is_no_version(self, tmp_path: Path) -> None:
        left = tmp_path / "opt" / f".{'a' * 12}.partial"
        left.mkdir(parents=True)
        assert installing.installed(tmp_path / "opt") == []

    def test_a_failed_install_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(HiveError, match="no bin/lightningd"):
            self.install(tmp_path, VERSION, [Member("usr/share/x", b"")])
        assert list((tmp_path / "opt").iterdir()) == []

    def test_an_archive_for_another_machine(self, tmp_path: Path) -> None:
        other = 183 if os.uname().machine == "x86_64" else 62
        elf = b"\x7fELF\x02\x01\x01" + bytes(11) + struct.pack("<H", other) + bytes(100)
        with pytest.raises(HiveError, match="take the archive of that name") as refusal:
            self.install(tmp_path, VERSION, release_members(VERSION, program=elf))
        assert refusal.value.code == "archive-machine"

    @pytest.mark.parametrize(
        ("program", "words"),
        [
            (
                b"#!/bin/sh\necho 'error while loading shared libraries: libpq.so.5: no file' >&2; exit 127\n",
                "libpq.so.5",
            ),
            (b"#!/nonexistent/interpreter\n", "does not run|is it installed"),
            (b"#!/bin/sh\necho hello\n", "does not run on this node"),
        ],
    )
    def test_a_lightningd_that_does_not_run_here(self, tmp_path: Path, program: bytes, words: str) -> None:
        with pytest.raises(HiveError, match=words):
            self.install(tmp_path, VERSION, release_members(VERSION, program=program))
        assert list((tmp_path / "opt").iterdir()) == []

    def test_two_lightningds(self, tmp_path: Path) -> None:
        members = [*release_members(VERSION), *release_members(VERSION, prefix="opt")]
        with pytest.raises(HiveError, match="holds 2 bin/lightningd"):
            self.install(tmp_path, VERSION, members)

    def test_old_versions_go_but_not_one_that_a_unit_names(self, tmp_path: Path) -> None:
        used = self.install(tmp_path, "v25.09")
        for version in ("v25.12", "v25.12.1", "v26.06"):
            self.install(tmp_path, version)
        (tmp_path / "cln.service").write_text(f"ExecStart={used.program} --daemon\n")
        wanted = self.install(tmp_path, "v24.11")
        gone = installing.keep_newest(tmp_path / "opt", 3, wanted.digest, tmp_path)
        assert len(gone) == 1
        kept = [one["version"] for one in installing.installed(tmp_path / "opt")]
        assert kept == ["v24.11", "v25.09", "v25.12.1", "v26.06"]

    def test_one_that_was_there_already(self, tmp_path: Path) -> None:
        found = self.install(tmp_path, VERSION)
        assert installing.existing(found.program, {}).version == VERSION
        with pytest.raises(HiveError, match="is not there"):
            installing.existing(Path("/nonexistent/bin/lightningd"), {})
        with pytest.raises(HiveError, match="absolute path of a bin/lightningd"):
            installing.existing(Path("bin/lightningd"), {})


def test_versions_are_compared_as_numbers() -> None:
    order = ["v24.11.2", "v25.02rc1", "v25.02", "v25.9", "v25.12", "v25.12.1", "v25.12.1-modded", "v26.06rc1", "v26.06"]
    found = [installing.parse_version(version) for version in order]
    assert found == sorted(found)
    assert found[5] == found[6]
