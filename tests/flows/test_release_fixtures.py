"""The fixture plugins do under lightningd what their names say; tests of rollouts rely on it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _manifest
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_sources import read_sources
from ansible_collections.lightning_goats.hive.plugins.module_utils._release_wheels import build_own
from hive_sandbox.fleet import Fleet
from waiting import wait_until

PLUGINS = Path(__file__).resolve().parents[1] / "fixtures/plugins"
NAMES = sorted(path.parent.name for path in PLUGINS.glob("*/pyproject.toml"))


class Node:
    """One node on the fake lightningd."""

    def __init__(self, directory: Path, programs: Path) -> None:
        self.directory = directory
        self._programs = programs

    def __call__(self, *arguments: str) -> dict[str, Any]:
        command = [str(self.directory / "lightning-cli"), "-N", "none", *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        reply: dict[str, Any] = json.loads(ended.stdout)
        return reply

    def program(self, name: str) -> str:
        """The plugin as an executable, installed without a slot."""
        path = self._programs / name / "plugin"
        if not path.exists():
            path.parent.mkdir()
            (wheel,) = build_own(read_sources(PLUGINS / name, "", "", {}, None, []), path.parent)
            zipfile.ZipFile(wheel).extractall(path.parent)
            project = tomllib.loads((PLUGINS / name / "pyproject.toml").read_text())["project"]
            module, function = project["scripts"][project["name"]].split(":")
            path.write_text(
                f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(path.parent)!r})\n"
                f"from {module} import {function}\n{function}()\n"
            )
            path.chmod(0o755)
        return str(path)

    def impatient(self) -> None:
        """Until the end of the test lightningd waits 1 s where it waits 120 s for an answer and 30 s for a shutdown."""
        for fault in ("plugin-timeout", "shutdown-timeout"):
            self("-k", "sandbox-fault", f"fault={fault}", "seconds=1")

    def start(self, name: str) -> dict[str, Any]:
        return self("plugin", "start", self.program(name))

    def stop(self, name: str) -> dict[str, Any]:
        return self("plugin", "stop", self.program(name))

    def active(self) -> set[str]:
        """Names of the fixtures that lightningd calls active."""
        entries = self("plugin", "list")["plugins"]
        return {Path(entry["name"]).parent.name for entry in entries if entry["active"]} & set(NAMES)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    fleet = Fleet(tmp_path_factory.mktemp("fixtures"))
    try:
        fleet.up(1, "fake")
        yield Node(fleet.root / "alpha", tmp_path_factory.mktemp("programs"))
    finally:
        fleet.down()


@pytest.fixture
def node(machine: Node) -> Iterator[Node]:
    yield machine
    machine("-k", "sandbox-fault", "fault=clear")
    for name in machine.active():
        machine.stop(name)
    for path in machine.directory.glob("lightning/regtest/hive_fixture*.db*"):
        path.unlink()


@pytest.mark.parametrize("name", NAMES)
def test_every_fixture_describes_itself(machine: Node, name: str) -> None:
    said = subprocess.run([machine.program(name), "--hive-manifest"], capture_output=True, check=True, timeout=20)
    _manifest.validate_plugin(json.loads(said.stdout))


def test_good_starts_counts_and_stops(node: Node) -> None:
    for starts in (1, 2):
        node.start("good")
        assert node("hive-fixture-health")["status"] == "ok"
        assert node("hive-fixture-status")["starts"] == starts
        node.stop("good")
        assert node.active() == set()
    database = node.directory / "lightning/regtest/hive_fixture.db"
    assert database.stat().st_mode & 0o777 == 0o600


def test_good_takes_its_options(node: Node) -> None:
    node("-k", "plugin", "subcommand=start", f"plugin={node.program('good')}", "hive-fixture-note=x")
    assert node("hive-fixture-status")["options"] == {"hive-fixture-note": "x", "hive-fixture-limit": 10}


def test_two_plugins_side_by_side(node: Node) -> None:
    node.start("good")
    node.start("good-second")
    assert node.active() == {"good", "good-second"}
    assert node("hive-fixture-second-status")["plugin"] == "hive-fixture-second"


def test_a_newer_schema_is_refused_by_the_older_release(node: Node) -> None:
    node.start("new-schema")
    assert node("hive-fixture-health")["schema_version"] == 2
    node.stop("new-schema")
    assert "the database has schema 2, this release knows 1" in node.start("good")["message"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash-at-init", "exited before replying to init"),
        ("hang-at-getmanifest", "timed out before replying to getmanifest"),
        ("hang-at-init", "timed out before replying to init"),
        ("disable-at-init", "disabled itself at init: this fixture always refuses to start"),
        ("clash-of-option", '"alias" already registered'),
    ],
)
def test_what_does_not_start_says_why(node: Node, name: str, reason: str) -> None:
    if name.startswith("hang"):
        node.impatient()
    answer = node.start(name)
    assert answer["code"] == -3
    assert reason in answer["message"]
    assert node.active() == set()


def test_a_method_of_another_plugin_is_refused(node: Node) -> None:
    node.start("good-second")
    assert "hive-fixture-second-status" in node.start("clash-with-plugin")["message"]
    assert node.active() == {"good-second"}


def test_a_method_of_lightningd_is_declared(machine: Node) -> None:
    """Not started: a real lightningd would die of it."""
    said = subprocess.run([machine.program("clash-with-builtin"), "--hive-manifest"], capture_output=True, check=True)
    assert "getinfo" in json.loads(said.stdout)["rpc_methods"]


def test_unhealthy_runs_and_says_so(node: Node) -> None:
    node.start("unhealthy")
    assert node.active() == {"unhealthy"}
    assert node("hive-fixture-health")["status"] == "failed"


def test_floods_stderr_and_still_answers(node: Node) -> None:
    node.start("floods-stderr")
    assert node("hive-fixture-health")["status"] == "ok"


def test_dies_soon_but_not_at_once(node: Node) -> None:
    node.start("dies-soon")
    assert node("hive-fixture-health")["status"] == "ok"
    wait_until(lambda: node.active() == set(), 20, "the plugin to die")


def test_refuses_shutdown_until_killed(node: Node, processes_of: Callable[[str], list[int]]) -> None:
    program = node.program("refuses-shutdown")
    node.start("refuses-shutdown")
    assert len(processes_of(program)) == 1
    node.impatient()
    node.stop("refuses-shutdown")
    wait_until(lambda: processes_of(program) == [], 20, "lightningd to kill it")


@pytest.fixture
def processes_of() -> Callable[[str], list[int]]:
    """Ids of the processes that run a program."""

    def find(program: str) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if program.encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue  # ended while we looked
        return found

    return find
