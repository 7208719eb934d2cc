"""The three plugins on either lightningd: every combination of the matrix, real handshakes, crashes, restarts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.machine import Machine
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_look import hive_peers
from hive_sandbox.fleet import Fleet
from waiting import wait_until

from conformance.lab.flavour import Flavour
from conformance.lab.fleet import FleetNode

COMMS, ARCHON, HIVE = "cl-hive-comms", "cl-hive-archon", "cl-hive"
HEALTH = {COMMS: "hive-comms-health", ARCHON: "hive-archon-health", HIVE: "hive-health"}
SUPPORTED = [(COMMS,), (COMMS, ARCHON), (COMMS, HIVE), (COMMS, ARCHON, HIVE), (HIVE,)]
Json = dict[str, Any]


def program(name: str) -> str:
    """The plugin as it is installed beside the Python that runs the tests, by its real path."""
    return str(Path(sys.executable).parent / name)


@cache
def manifest(name: str) -> Json:
    """What the plugin says of itself without a lightningd."""
    done = subprocess.run([program(name), "--hive-manifest"], capture_output=True, text=True, check=True, timeout=60)
    described: Json = json.loads(done.stdout)
    return described


def pids(node: FleetNode, name: str) -> list[int]:
    """The processes of a plugin whose parent is this node's lightningd."""
    lightningd = node.file.pid_file.read_text(encoding="utf-8").strip()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            parent = (process / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == lightningd and os.fsencode(program(name)) in command:
            found.append(int(process.name))
    return found


def start(node: FleetNode, *names: str) -> None:
    for name in names:
        node.ok("plugin", ["start", program(name)])


def stop(node: FleetNode, *names: str) -> None:
    for name in names:
        node.ok("plugin", ["stop", program(name)])


def ours(node: FleetNode) -> list[str]:
    """The names of our plugins that `plugin list` shows, all of them active."""
    plugins = node.ok("plugin", ["list"])["plugins"]
    assert all(plugin["active"] for plugin in plugins)
    return [Path(plugin["name"]).name for plugin in plugins if Path(plugin["name"]).name in HEALTH]


def methods(node: FleetNode) -> set[str]:
    """Every command `help` shows."""
    return {entry["command"].split()[0] for entry in node.ok("help")["help"]}


def members(node: FleetNode) -> set[str]:
    return {member["peer_id"] for member in node.ok("hive-members")["members"]}


def members_at_the_probe(node: FleetNode) -> int | None:
    """How many members the probe sees at this node; it knows where they are listed, and nothing else of the plugin."""
    described = {"name": node.name, "runtime": "process", "network": node.file.network, "state_dir": "/nonexistent"}
    machine = Machine(Node.from_params({**described, "lightning_dir": node.file.lightning_dir}))
    try:
        return hive_peers(machine, 10.0)
    finally:
        machine.rpc.close()


def bad_lines(node: FleetNode, since: int) -> list[str]:
    """Lines of the log that say BROKEN, or that a plugin of ours was unusual."""
    text = (Path(node.file.lightning_dir) / "log").read_text(encoding="utf-8", errors="replace")[since:]
    pattern = re.compile(r"\*\*BROKEN\*\*|UNUSUAL plugin-cl-hive")
    return [line for line in text.splitlines() if pattern.search(line)]


def log_size(node: FleetNode) -> int:
    return len((Path(node.file.lightning_dir) / "log").read_text(encoding="utf-8", errors="replace"))


@pytest.fixture
def bare(fleet: list[FleetNode]) -> Iterator[list[FleetNode]]:
    """The fleet with none of our plugins, before and after."""
    yield fleet
    for node in fleet:
        for name in (HIVE, ARCHON, COMMS):
            if name in ours(node):
                node.ok("plugin", ["stop", program(name)])


@pytest.mark.parametrize("stack", SUPPORTED, ids="+".join)
def test_a_supported_combination_starts_and_leaves_no_trace(stack: tuple[str, ...], bare: list[FleetNode]) -> None:
    node = bare[3]
    lightningd, since, before = node.file.pid_file.read_text(encoding="utf-8"), log_size(node), methods(node)
    start(node, *stack)
    assert sorted(ours(node)) == sorted(stack)
    for name in stack:
        health = node.ok(HEALTH[name])
        assert (health["status"], health["plugin"]) == ("ok", name)
        assert Path(health["database"]).parent == node.network_dir
    promised = {method for name in stack for method in manifest(name)["rpc_methods"]}
    assert methods(node) - before == promised
    stop(node, *reversed(stack))
    assert methods(node) == before
    wait_until(lambda: not any(pids(node, name) for name in stack), 10, "the processes are gone")
    assert not list(node.network_dir.glob("cl_hive*.db-*")), "a database was not closed"
    assert bad_lines(node, since) == []
    assert node.file.pid_file.read_text(encoding="utf-8") == lightningd


def test_every_option_of_the_manifest_is_an_option_of_lightningd(bare: list[FleetNode]) -> None:
    node = bare[3]
    start(node, COMMS, ARCHON, HIVE)
    configs = node.ok("listconfigs")["configs"]
    for name in HEALTH:
        promised = {option["name"]: option["dynamic"] for option in manifest(name)["options"]}
        shown = {
            key: value.get("dynamic", False) for key, value in configs.items() if value.get("plugin") == program(name)
        }
        assert shown == promised


def test_archon_without_comms_is_refused(bare: list[FleetNode]) -> None:
    node = bare[3]
    since = log_size(node)
    error = node.error("plugin", ["start", program(ARCHON)])
    assert error["code"] == -3
    assert error["message"].startswith(f"{program(ARCHON)}: disabled itself at init: ")
    assert COMMS in error["message"], "it says what is missing"
    assert ours(node) == []
    assert pids(node, ARCHON) == []
    assert bad_lines(node, since) == []
    start(node, COMMS, ARCHON)
    assert sorted(ours(node)) == sorted((COMMS, ARCHON))


def test_hive_finds_its_siblings_in_whatever_order_they_come(bare: list[FleetNode]) -> None:
    node = bare[3]
    start(node, HIVE)
    assert node.ok("hive-status")["mode"] not in ("full", "with-comms")
    start(node, COMMS, ARCHON)
    wait_until(lambda: node.ok("hive-status")["mode"] == "full", 60, "hive sees both siblings")
    stop(node, ARCHON)
    wait_until(lambda: node.ok("hive-status")["mode"] == "with-comms", 60, "hive sees that archon has gone")


def test_a_killed_plugin_hurts_nobody_and_comes_back_with_its_state(bare: list[FleetNode]) -> None:
    node = bare[3]
    start(node, COMMS, ARCHON, HIVE)
    identity = node.ok("hive-client-identity")["pubkey"]
    (pid,) = pids(node, COMMS)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: COMMS not in ours(node), 10, "lightningd drops it")
    assert node.rpc("hive-client-identity")["error"]["code"] == -32601
    assert node.ok("hive-health")["status"] in ("ok", "degraded")
    assert node.ok("hive-archon-health")["status"] in ("ok", "degraded")
    start(node, COMMS)
    assert node.ok("hive-client-identity")["pubkey"] == identity
    assert node.ok("hive-client-receipts", {"verify": True})["verification"]["valid"] is True


def test_a_hive_forms_by_tickets_and_every_member_knows_it(
    bare: list[FleetNode], fleet_root: Path, flavour: Flavour
) -> None:
    alpha, bravo, charlie, delta = bare
    group = [alpha, bravo, delta]
    for node in group:
        start(node, COMMS, ARCHON, HIVE)
    founded = alpha.ok("hive-genesis")
    for joiner in (bravo, delta):
        ticket = alpha.ok("hive-invite")["ticket"]
        assert joiner.ok("hive-join", {"ticket": ticket})["status"] == "join_requested"
    everybody = {node.id for node in group}
    wait_until(lambda: all(members(node) == everybody for node in group), 60, "all three list each other")
    wait_until(lambda: members_at_the_probe(alpha) == 2, 30, "the probe at alpha sees the two others")
    assert {node.ok("hive-status")["hive_id"] for node in group} == {founded["hive_id"]}

    used = alpha.ok("hive-invite")["ticket"]
    assert bravo.rpc("hive-join", {"ticket": used}).get("error"), "a member does not join again"

    start(charlie, HIVE)
    charlie.ok("hive-join", {"ticket": used})
    wait_until(lambda: "no_channel" in charlie.ok("hive-status")["join"]["reason"], 30, "a stranger is refused")
    assert all(members(node) == everybody for node in group)

    os.kill(pids(delta, HIVE)[0], signal.SIGKILL)
    wait_until(lambda: HIVE not in ours(delta), 10, "delta's hive is dropped")
    start(delta, HIVE)
    assert members(delta) == everybody

    bravo.ok("stop")
    wait_until(lambda: not alpha.connected(bravo), 30, "bravo is gone")
    assert members(alpha) == everybody
    Fleet(fleet_root).up(len(bare), flavour.name)
    assert ours(bravo) == [], "what was started by hand does not come back by itself"
    start(bravo, COMMS, ARCHON, HIVE)
    assert members(bravo) == everybody

    delta.ok("hive-leave")
    rest = everybody - {delta.id}
    wait_until(lambda: all(members(node) == rest for node in (alpha, bravo)), 60, "the others hear that delta left")


def test_options_in_the_configuration_reach_the_plugins(
    bare: list[FleetNode], fleet_root: Path, flavour: Flavour
) -> None:
    """As a managed include does it: plugin lines and their options, read at the next start of lightningd."""
    node = bare[3]
    config = Path(node.file.lightning_dir) / "config"
    original = config.read_text(encoding="utf-8")
    include = config.with_name("hive.conf")
    lines = [
        f"plugin={program(COMMS)}",
        f"plugin={program(HIVE)}",
        "hive-comms-policy-preset=conservative",
        "hive-max-members=7",
    ]
    include.write_text("\n".join(lines) + "\n", encoding="utf-8")
    try:
        config.write_text(original + "include hive.conf\n", encoding="utf-8")
        check = subprocess.run([*node.file.lightningd, "--help"], capture_output=True, check=False, timeout=60)
        assert check.returncode == 0, check.stderr
        node.ok("stop")
        wait_until(lambda: not node.file.pid_file.exists(), 40, "lightningd has stopped")
        Fleet(fleet_root).up(len(bare), flavour.name)
        assert sorted(ours(node)) == sorted((COMMS, HIVE))
        assert node.ok("hive-client-status")["policy"]["preset"] == "conservative"
        assert node.ok("hive-status")["limits"]["max_members"] == 7
        shown = node.ok("listconfigs", ["hive-max-members"])["configs"]["hive-max-members"]
        assert shown["source"] == f"{include}:4"

        stop(node, HIVE)
        stop(node, COMMS)
        start(node, COMMS, HIVE)
        assert node.ok("hive-status")["limits"]["max_members"] == 7, "a plugin started by list gets what is configured"
        stop(node, HIVE, COMMS)
    finally:
        config.write_text(original, encoding="utf-8")
        include.unlink()
    node.ok("stop")
    wait_until(lambda: not node.file.pid_file.exists(), 40, "lightningd has stopped")
    Fleet(fleet_root).up(len(bare), flavour.name)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(COMMS, "hive-comms-marketplace-publish", False), (HIVE, "hive-max-members", 9)],
)
def test_a_dynamic_option_changes_in_the_running_plugin(
    name: str, option: str, value: Any, bare: list[FleetNode], fleet_root: Path, flavour: Flavour
) -> None:
    node = bare[3]
    start(node, name)
    node.ok("setconfig", {"config": option, "val": value, "transient": True})
    shown = node.ok("listconfigs", [option])["configs"][option]
    assert value in (shown.get("value_bool"), shown.get("value_int"), shown.get("value_str"))
    bad = node.error("setconfig", {"config": option, "val": "nonsense", "transient": True})
    assert option in bad["message"]
    stop(node, name)
    # The value set would stay with lightningd, orphaned; see data/plugin_setconfig.json for what that can do.
    node.ok("stop")
    wait_until(lambda: not node.file.pid_file.exists(), 40, "lightningd has stopped")
    Fleet(fleet_root).up(len(bare), flavour.name)
