"""Bad input: one sentence that says what to do, and nothing has changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import signed_releases
from ansible_collections.lightning_goats.hive.plugins.module_utils import _manifest, _release_keys
from flows.flow_fleet import PLUGIN, Fleet, Shelf


def stack(version: str = "0.1.0", name: str = PLUGIN, **options: Any) -> list[dict[str, Any]]:
    return [{"name": name, "version": version, "options": options}]


def refused(fleet: Fleet, *words: str, **variables: Any) -> str:
    """The sentence of a refused rollout, after which everything is as before."""
    before = {node: (fleet.version(node), fleet.pid(node), fleet.journal(node)) for node in fleet.nodes}
    outcome = fleet.bad("rollout", **variables)
    sentence = outcome.sentence(words[0])
    assert all(word in sentence for word in words), sentence
    assert {node: (fleet.version(node), fleet.pid(node), fleet.journal(node)) for node in fleet.nodes} == before
    report = fleet.report
    assert report["result"] == "refused"
    assert len(report["reasons"]) == 1
    return sentence


@pytest.fixture
def nobody(shelf: Shelf, tmp_path: Path) -> Fleet:
    """An inventory and no nodes."""
    fleet = Fleet(tmp_path, shelf)
    fleet.inventory.mkdir()
    return fleet


def test_wrong_inventory(nobody: Fleet) -> None:
    (nobody.inventory / "hosts.yml").write_text("somebody_else:\n  hosts:\n    mail:\n")
    outcome = nobody.bad("rollout")
    assert "has no host in group hive_nodes" in outcome.sentence("name the right one with -i")


def test_no_inventory_at_all(nobody: Fleet) -> None:
    assert "has no host in group hive_nodes" in nobody.bad("rollout").text


def test_variable_of_the_wrong_type(running: Fleet) -> None:
    outcome = running.bad("rollout", hive_soak_seconds="a while")
    assert "hive_soak_seconds" in outcome.text


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            stack(name="hive-fixtures"),
            ["hive-fixtures is not among the releases", "hive-fixture,", "correct hive_stack"],
        ),
        (stack("9.9.9"), ["hive-fixture 9.9.9 is not in", "0.1.0, 0.1.1", "correct the version"]),
        (stack(**{f"{PLUGIN}-limit": "many"}), [f"Option {PLUGIN}-limit", "is a whole number, not 'many'"]),
        (stack(**{f"{PLUGIN}-colour": "red"}), [f"has no option {PLUGIN}-colour", f"{PLUGIN}-note"]),
        (stack(name="hive-fixture-second"), ["does not run without hive-fixture", "add hive-fixture"]),
    ],
    ids=["unknown plugin", "unknown version", "bad option value", "unknown option", "missing dependency"],
)
def test_a_stack_that_cannot_run(running: Fleet, wanted: list[dict[str, Any]], words: list[str]) -> None:
    refused(running, *words, hive_stack=wanted)


def at(shelf: Shelf) -> dict[str, Any]:
    """Variables that take the newer release from another shelf."""
    place = {"hive_releases_dir": str(shelf.releases), "hive_allowed_signers": str(shelf.signers)}
    return {**place, "hive_stack": stack("0.1.1")}


def test_a_flipped_byte(running: Fleet, own_shelf: Shelf) -> None:
    artifact = own_shelf.releases / PLUGIN / "0.1.1" / f"{PLUGIN}-0.1.1.pex"
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.write_bytes(content)
    refused(running, "was damaged or changed", "take the release again", **at(own_shelf))


def test_the_signature_of_a_stranger(running: Fleet, own_shelf: Shelf) -> None:
    directory = own_shelf.releases / PLUGIN / "0.1.1"
    (directory / "manifest.json.sig").unlink()
    stranger = signed_releases.signer(own_shelf.directory / "stranger")
    _release_keys.sign(directory / "manifest.json", stranger)
    refused(running, "was not made by a key of", "add the key if you trust it", **at(own_shelf))


def test_a_manifest_changed_after_it_was_signed(running: Fleet, own_shelf: Shelf) -> None:
    path = own_shelf.releases / PLUGIN / "0.1.1/manifest.json"
    content = json.loads(path.read_bytes())
    content["start_order"] = 99
    path.write_bytes(_manifest.canonical(content))
    refused(running, "was changed after it was signed", **at(own_shelf))


FOREIGN = """#!{python}
from pyln.client import Plugin

plugin = Plugin()


@plugin.method("hive-fixture-second-status")
def status(plugin):
    return {{}}


plugin.run()
"""


def test_an_rpc_name_that_is_taken(running: Fleet, tmp_path: Path) -> None:
    foreign = tmp_path / "somebody-elses.py"
    foreign.write_text(FOREIGN.format(python=sys.executable))
    foreign.chmod(0o755)
    assert "plugins" in running.cli("alpha", "plugin", "start", str(foreign))
    try:
        both = [*stack(), *stack(name="hive-fixture-second")]
        words = "brings the RPC method hive-fixture-second-status, which alpha already has"
        refused(running, words, "take that plugin out", hive_stack=both)
    finally:
        running.cli("alpha", "plugin", "stop", str(foreign))


def test_a_node_that_is_still_syncing(running: Fleet) -> None:
    running.fault("alpha", "unsynced")
    try:
        refused(running, "is still syncing at height", "run again when it has caught up", hive_stack=stack("0.1.1"))
    finally:
        running.fault("alpha", "clear")


def test_a_full_disk(running: Fleet) -> None:
    refused(running, "make room, then run again", hive_stack=stack("0.1.1"), hive_min_free_bytes=10**16)


def test_an_expiring_payment(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(2)
    fleet.fault("alpha", "htlc-expiring")
    words = ("A payment through alpha expires in", "run again when it is settled")
    refused(fleet, *words, hive_htlc_margin_blocks=100, hive_htlc_wait_seconds=0)


def test_a_stopped_lightningd(one_node: Fleet) -> None:
    one_node.cli("alpha", "stop")
    outcome = one_node.bad("rollout")
    assert "does not answer: start it, then run again" in outcome.text
    assert one_node.report["result"] == "refused"


def test_an_unreachable_node_keeps_the_others_as_they_are(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(2)
    hosts = fleet.inventory / "host_vars"
    hosts.mkdir()
    unreachable = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": 9,
        "ansible_ssh_args": "-o ControlMaster=no -o ConnectTimeout=2",
    }
    (hosts / "bravo.yml").write_text(json.dumps(unreachable))
    refused(fleet, "bravo cannot be reached", "look at its connection, then run again")


def test_a_second_run_beside_a_first(running: Fleet) -> None:
    """The note of a run whose process lives; process 1 stands in for it."""
    from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_marker

    marker = _plan_marker.path_for(running.reports, "flows")
    _plan_marker.write(marker, "r0", 1)
    refused(running, "Rollout r0 of this fleet is under way here", hive_stack=stack("0.1.1"))
    assert marker.exists()
    _plan_marker.remove(marker)
