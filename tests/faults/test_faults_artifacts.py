"""Artifacts that must not become slots, disks that cannot take them: one sentence, no slot, the old stack runs on."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import signed_releases
from ansible_collections.lightning_goats.hive.plugins.module_utils import _release_keys, _slots
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.staging import Outcome, Wanted, stage
from faults.rig import Rig
from fixtures import artifacts, repositories
from fixtures.artifacts import HERE, NAME, TAG

Stack = list[dict[str, Any]]


@pytest.fixture
def signer(tmp_path: Path) -> _release_keys.Signer:
    return signed_releases.signer(tmp_path / "keys")


@pytest.fixture
def old(shared_rig: Rig) -> Stack:
    """The stack that must not notice."""
    stack = [shared_rig.item("0.1.0"), shared_rig.second()]
    shared_rig.settle(stack)
    return stack


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node on which nothing runs."""
    (tmp_path / "lightning/regtest").mkdir(parents=True)
    facts = {"name": "alpha", "runtime": "process", "lightning_dir": str(tmp_path / "lightning"), "network": "regtest"}
    return Node.from_params({**facts, "state_dir": str(tmp_path / "hive"), "python": sys.executable})


def bring(node: Node, signer: _release_keys.Signer, *wanted: Wanted) -> Outcome:
    return stage(node, list(wanted), signer.allowed_signers.read_text(), check_mode=False)


def refused(node: Node, signer: _release_keys.Signer, *wanted: Wanted) -> HiveError:
    """The refusal; none of the releases has left anything where slots are."""
    with pytest.raises(HiveError) as caught:
        bring(node, signer, *wanted)
    for item in wanted:
        assert not _slots.slot_path(node, item.name, item.digest).exists()
        assert not _slots.load_slot(node, item.name, item.digest).complete
    assert not list(node.releases_dir.glob(".partial-*"))
    assert caught.value.message.count(". ") == 0, "one sentence"
    return caught.value


def linked(directory: Path) -> Path:
    """A wheel in which a file is a link to something else on the node."""
    wheel = artifacts.plugin(directory)
    with zipfile.ZipFile(wheel, "a") as archive:
        member = zipfile.ZipInfo("hive_fixture/secret")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    return wheel


def doubled(directory: Path) -> Path:
    """A wheel that holds one path twice, so that readers may differ in what they see."""
    wheel = artifacts.plugin(directory)
    with zipfile.ZipFile(wheel, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("hive_fixture/__init__.py", "raise SystemExit('mine')\n")
    return wheel


def unrecorded(directory: Path) -> Path:
    """A wheel without a record."""
    wheel = directory / "hive_fixture-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("hive_fixture/__init__.py", "")
    return wheel


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "out of the slot": (lambda d: artifacts.plugin(d, more={"../../../outside.py": b"x = 1\n"}), "bad-path"),
    "to an absolute path": (lambda d: artifacts.plugin(d, more={"/tmp/hive-outside.py": b"x = 1\n"}), "bad-path"),
    "with a backslash": (lambda d: artifacts.plugin(d, more={"..\\outside.py": b"x = 1\n"}), "bad-path"),
    "by way of its data": (
        lambda d: artifacts.plugin(d, more={"hive_fixture-0.1.0.data/data/../../../x": b"x\n"}),
        "bad-path",
    ),
    "a link": (linked, "bad-path"),
    "one path twice": (doubled, "bad-wheel"),
    "an unlisted file": (lambda d: artifacts.plugin(d, unlisted={"sitecustomize.py": b"x = 1\n"}), "bad-wheel"),
    "no record": (unrecorded, "bad-wheel"),
    "another entry": (lambda d: repositories.wheel(d, NAME, "0.1.0", scripts=f"{NAME} = os;x:y"), "no-entry"),
    "no entry": (lambda d: repositories.wheel(d, NAME, "0.1.0"), "no-entry"),
    "no zip": (lambda d: Path(shutil.copy(__file__, d / "hive_fixture-0.1.0-py3-none-any.whl")), "bad-artifact"),
    "a newer C library": (lambda d: artifacts.plugin(d, tag=f"{TAG}-abi3-manylinux_2_99_x86_64"), "wrong-machine"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_artifact_never_becomes_a_slot(
    shared_rig: Rig, old: Stack, signer: _release_keys.Signer, tmp_path: Path, kind: str
) -> None:
    make, code = BAD[kind]
    before = shared_rig.machine.identity()
    wanted = artifacts.release(tmp_path / "release", signer, [make(tmp_path)])
    assert refused(shared_rig.node, signer, wanted).code == code
    assert not list(shared_rig.node.state_dir.rglob("outside.py"))
    assert not Path("/tmp/hive-outside.py").exists()
    shared_rig.assert_runs(old)
    assert shared_rig.machine.identity() == before


def test_a_wheel_for_another_machine_is_refused(
    shared_rig: Rig, old: Stack, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    wheel = artifacts.plugin(tmp_path)
    elsewhere = {"requires": ">=3.11", "tags": [TAG], "wheels": {f"{TAG}-riscv64": [wheel.name]}}
    refusal = refused(
        shared_rig.node, signer, artifacts.release(tmp_path / "machine", signer, [wheel], python=elsewhere)
    )
    assert refusal.code == "wrong-machine"
    assert f"built for riscv64 and this is {os.uname().machine}" in refusal.message
    wheel = artifacts.plugin(tmp_path, "0.1.1")
    later = {"requires": ">=3.11", "tags": ["cp399"], "wheels": {HERE.replace(TAG, "cp399"): [wheel.name]}}
    refusal = refused(
        shared_rig.node, signer, artifacts.release(tmp_path / "python", signer, [wheel], "0.1.1", python=later)
    )
    assert refusal.code == "wrong-python"
    assert "set hive_python" in refusal.message
    shared_rig.assert_runs(old)


def test_machine_code_that_belies_its_name_is_found_before_anything_stops(
    shared_rig: Rig, old: Stack, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    code = artifacts.SOURCE.read_bytes().replace(b"import json\n", b"import json\nimport native_part\n", 1)
    foreign = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\xf3\x00" + bytes(44)
    wheel = artifacts.plugin(tmp_path, more={"hive_fixture/__init__.py": code, "native_part.abi3.so": foreign})
    starts = shared_rig.call(f"{NAME}-status")["starts"]
    refusal = refused(shared_rig.node, signer, artifacts.release(tmp_path / "release", signer, [wheel]))
    assert refusal.code == "slot-broken"
    assert "native_part" in refusal.message
    shared_rig.assert_runs(old)
    assert shared_rig.call(f"{NAME}-status")["starts"] == starts


def test_wheels_that_overwrite_each_other_are_refused(node: Node, signer: _release_keys.Signer, tmp_path: Path) -> None:
    other = repositories.wheel(tmp_path, "other", "1.0", more={"hive_fixture/__init__.py": b"x = 1\n"})
    refusal = refused(
        node, signer, artifacts.release(tmp_path / "release", signer, [artifacts.plugin(tmp_path), other])
    )
    assert refusal.code == "collision"
    assert "hive_fixture/__init__.py" in refusal.message


def test_one_bad_release_leaves_no_slot_of_the_good_one_beside_it(
    node: Node, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    good = artifacts.release(tmp_path / "good", signer, [artifacts.plugin(tmp_path)])
    bad = artifacts.release(tmp_path / "bad", signer, [linked(tmp_path / "second")], "0.1.0", "hive-fixture-second")
    refused(node, signer, good, bad)
    assert bring(node, signer, good).staged == [good.digest]


def test_an_interrupted_transfer_is_refused_and_the_next_one_is_good(
    shared_rig: Rig, old: Stack, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    wanted = artifacts.release(tmp_path / "release", signer, [artifacts.plugin(tmp_path, "0.7.1")], "0.7.1")
    assert wanted.incoming is not None
    short = tmp_path / "short"
    shutil.copytree(wanted.incoming, short)
    artifact = next(short.glob("*.pex"))
    artifact.write_bytes(artifact.read_bytes()[:-100])
    assert refused(shared_rig.node, signer, dataclasses.replace(wanted, incoming=short)).code == "release-artifact"
    (short / "manifest.json.sig").unlink()
    assert refused(shared_rig.node, signer, dataclasses.replace(wanted, incoming=short)).code == "release-unsigned"
    # What a copy that was killed has left is swept away.
    left = shared_rig.node.releases_dir / ".partial-0123456789ab-1"
    left.mkdir()
    assert bring(shared_rig.node, signer, wanted).staged == [wanted.digest]
    assert not left.exists()
    shared_rig.assert_runs(old)
    stack = [{**old[0], "version": "0.7.1", "digest": wanted.digest}, old[1]]
    shared_rig.settle(stack)
    shared_rig.assert_runs(stack)


def test_a_release_that_rotted_on_the_node_is_brought_again(
    node: Node, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    wanted = artifacts.release(tmp_path / "release", signer, [artifacts.plugin(tmp_path)])
    bring(node, signer, wanted)
    kept = next(_slots.release_path(node, wanted.digest).glob("*.pex"))
    content = bytearray(kept.read_bytes())
    content[100] ^= 1
    kept.write_bytes(content)
    _slots.marker_path(node, NAME, wanted.digest).unlink()
    with pytest.raises(HiveError) as caught:
        bring(node, signer, dataclasses.replace(wanted, incoming=None))
    assert caught.value.code == "missing"
    assert bring(node, signer, wanted).staged == [wanted.digest]


def test_files_in_the_place_of_a_slot_are_not_taken_for_one(
    node: Node, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    wanted = artifacts.release(tmp_path / "release", signer, [artifacts.plugin(tmp_path)])
    planted = _slots.slot_path(node, NAME, wanted.digest) / "bin" / NAME
    planted.parent.mkdir(parents=True)
    planted.write_text("#!/bin/sh\nexit 0\n")
    planted.chmod(0o755)
    assert bring(node, signer, wanted).staged == [wanted.digest]
    assert "hive_fixture" in planted.read_text()


def test_slots_share_what_is_the_same_and_nothing_can_be_written(
    node: Node, signer: _release_keys.Signer, tmp_path: Path
) -> None:
    library = repositories.wheel(tmp_path, "library", "1.0")
    (tmp_path / "second").mkdir()
    first = artifacts.release(tmp_path / "one", signer, [artifacts.plugin(tmp_path), library])
    second = artifacts.release(
        tmp_path / "two",
        signer,
        [artifacts.plugin(tmp_path / "second", name="hive-fixture-second"), library],
        name="hive-fixture-second",
        rpc_methods=["hive-fixture-second-health", "hive-fixture-second-status"],
    )
    outcome = bring(node, signer, first, second)
    one, two = (next(slot.path.glob("lib/*/site-packages")) for slot in outcome.slots)
    for place in ("library/__init__.py", f"library/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"):
        assert (one / place).stat().st_ino == (two / place).stat().st_ino
    assert one.parents[2] != two.parents[2], "each has its own real path"
    files = [
        path for slot in outcome.slots for path in slot.path.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    assert {path.stat().st_mode & 0o222 for path in files} == {0}
    # No package of the system is seen, and nothing is compiled again.
    said = subprocess.run(
        [outcome.slots[0].path / "bin/python3", "-I", "-c", "import sys, library; print(sys.path, library.__cached__)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert str(one) in said
    assert "dist-packages" not in said
    # A slot that goes takes nothing from the other.
    shutil.rmtree(outcome.slots[0].path)
    _slots.verify_slot(outcome.slots[1])


@contextmanager
def full_disk(kind: str, directory: Path) -> Iterator[None]:
    """Let nothing more fit: a small filesystem of its own where that is allowed, else a limit to the size of files."""
    if kind == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (24 << 10, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    directory.mkdir()
    # Bytes enough, but not for so many files: no look at the free space says so before.
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=60", "hive-faults", str(directory)], check=False
    )
    if done.returncode != 0:
        pytest.skip("mounting needs root and a kernel that lets it")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("kind", ["limit", "filesystem"])
def test_a_disk_that_fills_while_staging_leaves_no_slot(
    node: Node, signer: _release_keys.Signer, tmp_path: Path, kind: str
) -> None:
    many = {f"hive_fixture/part{number}.py": b"x = 1\n" for number in range(80)}
    wheel = artifacts.plugin(tmp_path, more={**many, "hive_fixture/data.bin": bytes(48 << 10)})
    with zipfile.ZipFile(wheel) as archive:
        packed = tmp_path / "packed" / wheel.name
        packed.parent.mkdir()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as smaller:
            for name in archive.namelist():
                smaller.writestr(name, archive.read(name))
    wanted = artifacts.release(tmp_path / "release", signer, [packed])
    with full_disk(kind, tmp_path / "hive"):
        assert refused(node, signer, wanted).code == "disk-full"
    # There is room again.
    assert bring(node, signer, wanted).staged == [wanted.digest]


def test_too_little_room_is_told_before_the_first_byte(
    node: Node, signer: _release_keys.Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = artifacts.release(tmp_path / "release", signer, [artifacts.plugin(tmp_path)])
    monkeypatch.setattr(
        "ansible_collections.lightning_goats.hive.plugins.module_utils._engine.staging.free_bytes", lambda _path: 1000
    )
    refusal = refused(node, signer, wanted)
    assert refusal.code == "disk-full"
    assert "needs" in refusal.message


def test_a_read_only_state_directory_is_told(node: Node, signer: _release_keys.Signer, tmp_path: Path) -> None:
    wanted = artifacts.release(tmp_path / "release", signer, [artifacts.plugin(tmp_path)])
    node.state_dir.mkdir()
    mounted = os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "hive-faults", str(node.state_dir)]
        if subprocess.run(command, check=False).returncode != 0:
            pytest.skip("mounting needs a kernel that lets it")
    else:
        node.state_dir.chmod(0o500)
    try:
        with pytest.raises(HiveError) as caught:
            bring(node, signer, wanted)
    finally:
        if mounted:
            subprocess.run(["umount", str(node.state_dir)], check=True)
        else:
            node.state_dir.chmod(0o700)
    assert caught.value.code in ("read-only", "not-allowed")
    assert str(node.state_dir) in caught.value.message
    assert bring(node, signer, wanted).staged == [wanted.digest]
