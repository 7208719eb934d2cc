"""archon under lightningd, beside comms: the sandbox's fake one, and a real one where there is any."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cl_hive_archon.main import SPEC
from hive_sandbox.backend import SandboxError
from hive_sandbox.fleet import Fleet
from waiting import wait_until

ARCHON, COMMS = (str(shutil.which(name)) for name in ("cl-hive-archon", "cl-hive-comms"))


class Node:
    """One sandbox node and its lightning-cli."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.directory = fleet.root / "alpha"
        self.config = self.directory / "lightning" / "config"
        self.plain_config = self.config.read_text()

    def __call__(self, *arguments: str, named: bool = False) -> dict[str, Any]:
        command = [str(self.directory / "lightning-cli"), "-N", "none", "-J", *(["-k"] if named else []), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        reply: dict[str, Any] = json.loads(ended.stdout)
        assert ended.returncode == (1 if "code" in reply else 0), ended.stderr
        return reply

    def start(self, plugin: str, *options: str) -> dict[str, Any]:
        return self("plugin", "subcommand=start", f"plugin={plugin}", *options, named=True)

    def running(self) -> set[str]:
        """Our plugins that are active."""
        return {entry["name"] for entry in self("plugin", "list")["plugins"] if entry["active"]} & {ARCHON, COMMS}

    def restart_with(self, *plugins: str) -> None:
        """Stop lightningd and start it with these plugins in its config."""
        self.fleet.down()
        self.config.write_text(self.plain_config + "".join(f"plugin={plugin}\n" for plugin in plugins))
        self.fleet.up(1, "auto")


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.real)])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    made = Fleet(tmp_path_factory.mktemp(f"archon-{request.param}"))
    try:
        made.up(1, request.param)
        yield made
    except SandboxError as error:
        if request.param == "real" and "no lightningd" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        made.down()


@pytest.fixture(scope="module")
def machine(fleet: Fleet) -> Node:
    return Node(fleet)


@pytest.fixture
def node(machine: Node) -> Iterator[Node]:
    yield machine
    for plugin in machine.running():
        machine("plugin", "stop", plugin)


def test_without_comms_it_disables_itself_with_a_reason(node: Node) -> None:
    refused = node.start(ARCHON)
    assert refused["code"] == -3
    assert "disabled itself at init: cl-hive-archon needs cl-hive-comms on the same node" in refused["message"]
    assert node.running() == set()


def test_identity_bindings_and_signatures_that_others_can_check(node: Node) -> None:
    node.start(COMMS)
    node.start(ARCHON)
    own_id = node("getinfo")["id"]
    pubkey = node("hive-client-identity")["pubkey"]
    did = node("hive-archon-provision", "false", "alpha")["did"]
    assert node("hive-archon-bind-nostr", f"nostr_pubkey={pubkey}", named=True)["subject"] == pubkey
    assert node("hive-archon-bind-cln")["subject"] == own_id
    status = node("hive-archon-status")
    assert (status["identity"]["did"], status["bindings"], status["mode"]) == (
        did,
        {"nostr": 1, "cln": 1},
        "with-comms",
    )
    for entry in status["attestations"]:
        text = json.dumps(entry["attestation"], sort_keys=True, separators=(",", ":"))
        # Quoted once more, because lightning-cli takes what looks like JSON for JSON.
        checked = node("checkmessage", json.dumps(text), entry["signature"], own_id)
        assert checked["verified"] is True
    signed = node("hive-archon-sign-message", "message=hello", "domain=hive", named=True)
    assert node("checkmessage", "hive|hello", signed["signature"], own_id)["verified"] is True
    assert node("checkmessage", "hello", signed["signature"], own_id)["verified"] is False
    assert node("hive-archon-sign-message", "nostr_key_derivation")["code"] == 6003
    assert node("hive-archon-health")["status"] == "ok"
    node("plugin", "stop", ARCHON)
    node.start(ARCHON)
    assert node("hive-archon-provision")["did"] == did
    assert node("hive-archon-status")["bindings"] == {"nostr": 1, "cln": 1}


def test_methods_and_options_are_those_of_the_manifest(node: Node) -> None:
    node.start(COMMS)
    node.start(ARCHON)
    methods = {entry["command"].split()[0] for entry in node("help")["help"]}
    ours = {SPEC.health_rpc, *(method.name for method in SPEC.methods)}
    assert {name for name in methods if name.startswith("hive-archon-")} == ours
    configs = node("listconfigs")["configs"]
    assert {name for name, entry in configs.items() if entry.get("plugin") == ARCHON} == {
        option.name for option in SPEC.options
    }


def test_it_outlives_comms_and_finds_it_again(node: Node) -> None:
    node.start(COMMS)
    node.start(ARCHON)
    node("hive-archon-provision")
    node("plugin", "stop", COMMS)
    assert node("hive-archon-bind-nostr")["code"] == 6004
    wait_until(lambda: node("hive-archon-health")["status"] == "degraded", 10, "archon to miss comms")
    assert node("hive-archon-health")["mode"] == "waiting-for-comms"
    assert node("hive-archon-sign-message", "hive|x")["ok"] is True
    node.start(COMMS)
    wait_until(lambda: node("hive-archon-health")["status"] == "ok", 10, "archon to find comms again")
    assert node("hive-archon-bind-nostr")["ok"] is True


def test_a_bad_option_disables_with_the_reason(node: Node) -> None:
    node.start(COMMS)
    refused = node.start(ARCHON, "hive-archon-network-enabled=true")
    assert "calls no gateway; set it to false" in refused["message"]
    assert node.running() == {COMMS}


def test_at_boot_the_order_of_the_config_does_not_matter(node: Node) -> None:
    try:
        node.restart_with(ARCHON, COMMS)
        assert node.running() == {ARCHON, COMMS}
        wait_until(lambda: node("hive-archon-health")["status"] == "ok", 20, "archon to see comms")
        assert node("hive-archon-provision")["ok"] is True
    finally:
        node.restart_with()


def test_at_boot_without_comms_only_archon_stays_away(node: Node) -> None:
    try:
        node.restart_with(ARCHON)
        assert node.running() == set()
        assert node("getinfo")["id"]
        assert node("hive-archon-status")["code"] == -32601
    finally:
        node.restart_with()
