"""Three nodes with the plugin under lightningd: the sandbox's fake one, and a real one where there is any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cl_hive.main import SPEC
from hive_sandbox.backend import SandboxError
from hive_sandbox.fleet import Fleet
from waiting import wait_until

pytestmark = [pytest.mark.slow]
NAMES = ("alpha", "bravo", "charlie")
SECONDS = 60.0


class Cli:
    """lightning-cli of one node."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = str(Path(sys.executable).parent / "cl-hive")
        self.id = json.loads((directory / "node.json").read_text("utf-8"))["node_id"]

    def __call__(self, method: str, **params: object) -> dict[str, Any]:
        given = [f"{key}={value}" for key, value in params.items()]
        command = [str(self.directory / "lightning-cli"), "-N", "none", "-J", "-k", method, *given]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        reply: dict[str, Any] = json.loads(ended.stdout)
        return reply

    def sibling(self, name: str) -> str:
        return str(Path(sys.executable).parent / name)

    def start(self, **options: object) -> None:
        reply = self("plugin", subcommand="start", plugin=self.program, **options)
        assert "code" not in reply, reply

    def stop(self) -> None:
        assert "code" not in self("plugin", subcommand="stop", plugin=self.program)

    def members(self) -> set[str]:
        return {member["peer_id"] for member in self("hive-members").get("members", [])}

    def hashes(self) -> tuple[str, str]:
        sync = self("hive-status")["sync"]
        return sync["fleet_hash"], sync["membership_hash"]

    def plugin_pid(self) -> int:
        """The child of this node's lightningd that runs our program."""
        parent = (self.directory / "lightning" / "lightningd-regtest.pid").read_text("utf-8").strip()
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split():
            if self.program.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return int(child)
        raise AssertionError(f"{self.program} is not a child of {parent}")

    def log(self) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in self.directory.glob("lightning/**/*log*"))


Trio = dict[str, Cli]


@pytest.fixture(scope="module", params=["fake", pytest.param("real", marks=pytest.mark.real)])
def trio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """alpha, bravo and charlie, each with the plugin, each with channels to the others."""
    fleet = Fleet(tmp_path_factory.mktemp(f"hive-{request.param}"))
    try:
        fleet.up(3, request.param)
        nodes = {name: Cli(fleet.root / name) for name in NAMES}
        for node in nodes.values():
            node.start()
        yield nodes
    except SandboxError as error:
        if request.param == "real" and "no lightningd" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        fleet.down()


def all_list(trio: Trio, *names: str) -> bool:
    expected = {trio[name].id for name in names}
    return all(trio[name].members() == expected for name in names)


def all_agree(trio: Trio, *names: str) -> bool:
    return all_list(trio, *names) and len({trio[name].hashes() for name in names}) == 1


# Each step goes on where the one before it ended, as an operator's day does.


def founding_inviting_joining(trio: Trio) -> None:
    alpha = trio["alpha"]
    assert alpha("hive-genesis", hive_id="sandbox")["hive_id"] == "sandbox"
    for name in ("bravo", "charlie"):
        ticket = alpha("hive-invite", valid_hours=1, peer_id=trio[name].id)["ticket"]
        assert trio[name]("hive-join", ticket=ticket)["status"] == "join_requested"
    wait_until(lambda: all_list(trio, *NAMES), SECONDS, "the three nodes list each other")
    wait_until(lambda: all_agree(trio, *NAMES), SECONDS, "the three nodes know the same")
    status = trio["bravo"]("hive-status")
    assert (status["hive_id"], status["membership"]["tier"], status["join"]["status"]) == (
        "sandbox",
        "neophyte",
        "joined",
    )
    assert status["members"] == {"total": 3, "member": 1, "neophyte": 2}


def a_second_genesis_or_join_is_told_apart_by_its_code(trio: Trio) -> None:
    assert trio["alpha"]("hive-genesis")["code"] == 6101
    ticket = trio["alpha"]("hive-invite")["ticket"]
    again = trio["bravo"]("hive-join", ticket=ticket)
    assert (again["code"], again["data"]) == (6101, {"hive_id": "sandbox", "same_hive": True})
    assert trio["bravo"]("hive-invite")["code"] == 6105


def health_and_help(trio: Trio) -> None:
    for node in trio.values():
        health = node("hive-health")
        assert (health["status"], health["mode"]) == ("ok", "monolith"), health
        commands = {entry["command"].split()[0] for entry in node("help")["help"]}
        assert {name for name in commands if name.startswith("hive-")} == {
            SPEC.health_rpc,
            *(method.name for method in SPEC.methods),
        }


def a_killed_plugin_catches_up_with_what_it_missed(trio: Trio) -> None:
    charlie, bravo = trio["charlie"], trio["bravo"]
    before = charlie("hive-status")["sync"]["gossip_version"]
    os.kill(charlie.plugin_pid(), signal.SIGKILL)
    wait_until(lambda: "code" in charlie("hive-status"), 10, "lightningd noticed")
    assert bravo("hive-leave", reason="rehearsal")["status"] == "left"
    wait_until(lambda: trio["alpha"].members() == {trio["alpha"].id, charlie.id}, SECONDS, "alpha heard it")
    charlie.start()
    wait_until(lambda: all_agree(trio, "alpha", "charlie"), SECONDS, "charlie heard it from alpha or bravo")
    assert bravo.members() == set()
    assert charlie("hive-status")["sync"]["gossip_version"] >= before


def who_left_comes_back(trio: Trio) -> None:
    ticket = trio["alpha"]("hive-invite")["ticket"]
    assert trio["bravo"]("hive-join", ticket=ticket)["status"] == "join_requested"
    wait_until(lambda: all_agree(trio, *NAMES), SECONDS, "bravo is back everywhere")


def a_used_ticket_is_refused_with_a_reason(trio: Trio) -> None:
    ticket = trio["alpha"]("hive-invite")["ticket"]
    assert trio["bravo"]("hive-leave")["status"] == "left"
    wait_until(lambda: len(trio["alpha"].members()) == 2, SECONDS, "alpha heard that bravo left")
    assert trio["charlie"]("hive-leave")["status"] == "left"
    wait_until(lambda: len(trio["alpha"].members()) == 1, SECONDS, "alpha heard that charlie left")
    trio["bravo"]("hive-join", ticket=ticket)
    wait_until(lambda: all_list(trio, "alpha", "bravo"), SECONDS, "bravo is in")
    trio["charlie"]("hive-join", ticket=ticket)
    wait_until(lambda: trio["charlie"]("hive-status")["join"]["status"] == "refused", SECONDS, "charlie is refused")
    assert trio["charlie"]("hive-status")["join"]["reason"].startswith("used:")


def all_restart_and_nothing_is_lost(trio: Trio) -> None:
    for node in trio.values():
        node.stop()
        assert not list(node.directory.glob("lightning/regtest/cl_hive.db-*")), "checkpointed and closed"
    for node in trio.values():
        node.start()
    assert all_list(trio, "alpha", "bravo")
    ticket = trio["alpha"]("hive-invite")["ticket"]
    trio["charlie"]("hive-join", ticket=ticket)
    wait_until(lambda: all_agree(trio, *NAMES), SECONDS, "the three nodes know the same again")


def siblings_come_and_go_while_the_fleet_goes_on(trio: Trio) -> None:
    alpha, bravo = trio["alpha"], trio["bravo"]
    for sibling in ("cl-hive-comms", "cl-hive-archon"):
        assert "code" not in bravo("plugin", subcommand="start", plugin=bravo.sibling(sibling))
    wait_until(lambda: bravo("hive-status")["mode"] == "full", SECONDS, "bravo found its siblings")
    assert bravo("hive-phase6-plugins")["warnings"] == []
    before = alpha("hive-status")["sync"]["connected_members"]
    assert before[bravo.id] is True
    wait_until(lambda: bravo("hive-status")["signer"]["archon"] > 0, 2 * SECONDS, "archon has signed")
    wait_until(lambda: all_agree(trio, *NAMES), SECONDS, "the others believe archon's signature")
    key = bravo("hive-client-identity")["pubkey"]
    unmapped = bravo("hive-inject-packet", payload='{"type":"HELLO","payload":{}}', pubkey="00" * 32)
    assert unmapped["code"] == 6106
    mapped = bravo("hive-inject-packet", payload='{"type":"HELLO","payload":{}}', pubkey=key)
    assert mapped == {"result": "queued", "source": "nostr", "sender": bravo.id}
    assert "dropped_signature" not in alpha("hive-status")["counters"]
    for sibling in ("cl-hive-archon", "cl-hive-comms"):
        assert "code" not in bravo("plugin", subcommand="stop", plugin=bravo.sibling(sibling))
    wait_until(lambda: bravo("hive-status")["mode"] == "monolith", SECONDS, "bravo noticed that they are gone")
    signed = bravo("hive-status")["signer"]["node"]
    assert bravo("hive-leave")["status"] == "left"
    assert bravo("hive-status")["signer"]["node"] > signed
    wait_until(lambda: len(alpha.members()) == 2, SECONDS, "alpha believed the node's own signature")


def nobody_logged_a_defect(trio: Trio) -> None:
    for node in trio.values():
        assert "cl-hive" in node.log()
        assert [line for line in node.log().splitlines() if "BROKEN" in line and "hive" in line] == []


STEPS = (
    founding_inviting_joining,
    a_second_genesis_or_join_is_told_apart_by_its_code,
    health_and_help,
    a_killed_plugin_catches_up_with_what_it_missed,
    who_left_comes_back,
    a_used_ticket_is_refused_with_a_reason,
    all_restart_and_nothing_is_lost,
    siblings_come_and_go_while_the_fleet_goes_on,
    nobody_logged_a_defect,
)


def test_a_day_of_a_fleet(trio: Trio) -> None:
    """One test, as its steps only make sense in this order."""
    for step in STEPS:
        step(trio)
