"""Each kind of node gets the wheels that it can run, by their locked hash and not otherwise."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._manifest import ReleaseError
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import Locked, read_sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_wheels import (
    Target,
    Wheel,
    build_own,
    choose,
    fetch,
)

OLD = "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
NEW = "demo-1.0-cp311-cp311-manylinux_2_34_x86_64.whl"
TOO_NEW = "demo-1.0-cp311-cp311-manylinux_2_39_x86_64.whl"
MUSL = "demo-1.0-cp311-cp311-musllinux_1_2_x86_64.whl"
MAC = "demo-1.0-cp311-cp311-macosx_11_0_arm64.whl"
ABI3 = "demo-1.0-cp39-abi3-manylinux_2_28_aarch64.whl"
PURE = "demo-1.0-py3-none-any.whl"


def locked(*files: str, marker: str = "") -> Locked:
    return Locked("demo", "1.0", marker, tuple((file, hashlib.sha256(file.encode()).hexdigest()) for file in files))


def chosen(item: Locked, python: str = "3.11", machine: str = "x86_64") -> list[str]:
    return [wheel.file for wheel in choose([item], Target(python, machine))]


def test_the_wheel_that_most_nodes_can_run_is_preferred() -> None:
    assert chosen(locked(TOO_NEW, NEW, OLD, MUSL, MAC, PURE)) == [OLD]
    assert chosen(locked(TOO_NEW, NEW, MUSL, MAC, PURE)) == [NEW]
    assert chosen(locked(TOO_NEW, MUSL, MAC, PURE)) == [PURE]


def test_abi3_serves_newer_pythons_of_its_machine_only() -> None:
    assert chosen(locked(ABI3), "3.13", "aarch64") == [ABI3]
    with pytest.raises(ReleaseError, match=r"demo 1.0 has no wheel for CPython 3.13 on x86_64: lock another version"):
        chosen(locked(ABI3), "3.13", "x86_64")


@pytest.mark.parametrize("file", [TOO_NEW, MUSL, MAC, OLD])
def test_a_wheel_that_nodes_cannot_run_is_no_wheel(file: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        chosen(locked(file), "3.12")
    assert caught.value.code == "wheel"


@pytest.mark.parametrize(
    ("marker", "applies"),
    [
        ("python_version < '3.12'", True),
        ("python_version >= '3.12'", False),
        ("python_full_version >= '3.11.1'", False),
        ("sys_platform == 'win32'", False),
        ("platform_python_implementation != 'PyPy' and platform_machine == 'x86_64'", True),
    ],
)
def test_markers_are_asked_of_the_node_not_of_the_builder(marker: str, applies: bool) -> None:
    assert chosen(locked(PURE, marker=marker)) == ([PURE] if applies else [])


def test_a_target_knows_whether_a_package_runs_there() -> None:
    assert Target("3.13", "x86_64").runs(">=3.11,<3.14")
    assert not Target("3.13", "x86_64").runs(">=3.11,<3.13")
    assert Target("3.11", "x86_64").runs("")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: Path) -> Wheel:
    """A package index that is a directory with one wheel; the network is never asked."""
    directory = tmp_path / "index"
    directory.mkdir()
    (built,) = build_own(read_sources(plugins / "good", "", "", {}, None, []), directory)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return Wheel("hive-fixture==0.1.0", built.name, hashlib.sha256(built.read_bytes()).hexdigest())


def test_wheels_are_fetched_once_for_all_targets(tmp_path: Path, index: Wheel) -> None:
    needed = {Target("3.11", "x86_64"): [index], Target("3.13", "aarch64"): [index]}
    assert fetch(needed, tmp_path / "wheels") == 1
    assert hashlib.sha256((tmp_path / "wheels" / index.file).read_bytes()).hexdigest() == index.sha256
    assert fetch(needed, tmp_path / "wheels") == 0
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [index.file]


def test_a_damaged_wheel_in_the_wheelhouse_is_fetched_again(tmp_path: Path, index: Wheel) -> None:
    needed = {Target("3.11", "x86_64"): [index]}
    fetch(needed, tmp_path / "wheels")
    (tmp_path / "wheels" / index.file).write_bytes(b"damaged")
    assert fetch(needed, tmp_path / "wheels") == 1


@pytest.mark.parametrize("sha256", ["0" * 64])
def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, index: Wheel, sha256: str) -> None:
    wrong = Wheel(index.requirement, index.file, sha256)
    with pytest.raises(ReleaseError) as caught:
        fetch({Target("3.11", "x86_64"): [wrong]}, tmp_path / "wheels")
    assert caught.value.code == "fetch"
    assert list((tmp_path / "wheels").iterdir()) == []


def test_an_unreachable_index_says_what_to_check(tmp_path: Path, index: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    with pytest.raises(ReleaseError, match="check the connection to the package index"):
        fetch({Target("3.11", "x86_64"): [index]}, tmp_path / "wheels")
