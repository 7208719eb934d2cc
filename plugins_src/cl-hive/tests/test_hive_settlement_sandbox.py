"""A week is settled between two lightningd: paid once, over deaths of plugin and lightningd, and over a restore."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cl_hive.protocol.settlement_plan import bounds, previous
from conformance.lab.fleet import FleetNode, messages
from hive_sandbox.backend import SandboxError
from hive_sandbox.fleet import Fleet
from waiting import wait_until

pytestmark = [pytest.mark.slow]
SECONDS = 60.0
PROGRAM = str(Path(sys.executable).parent / "cl-hive")


class Pair:
    """alpha, which owes for last week, and bravo; each with the plugin."""

    def __init__(self, fleet: Fleet, flavour: str) -> None:
        self.fleet = fleet
        self.flavour = flavour
        fleet.up(2, flavour)
        self.alpha, self.bravo = (FleetNode(file) for file in fleet.nodes())

    def start(self, node: FleetNode) -> None:
        node.ok("plugin", ["start", PROGRAM])

    def stop(self, node: FleetNode) -> None:
        node.ok("plugin", ["stop", PROGRAM])

    def both_stopped(self) -> list[FleetNode]:
        nodes = [self.alpha, self.bravo]
        for node in nodes:
            self.stop(node)
        return nodes

    def database(self, node: FleetNode) -> Path:
        return node.network_dir / "cl_hive.db"

    def pid(self, node: FleetNode) -> int:
        """The process of alpha's plugin."""
        parent = (node.network_dir.parent / "lightningd-regtest.pid").read_text("utf-8").strip()
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split():
            if PROGRAM.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                return int(child)
        raise AssertionError(f"{PROGRAM} is not a child of {parent}")

    def owned(self) -> int:
        """What alpha has in its channel, in sats."""
        wait_until(self.alpha.settled, SECONDS, "no HTLC is left")
        return int(self.alpha.channel(self.bravo)["to_us_msat"]) // 1000

    def has_paid(self) -> bool:
        """Whether alpha's lightningd knows that its payment arrived."""
        return [row["status"] for row in self.alpha.ok("listpays")["pays"]] == ["complete"]

    def settlement(self) -> dict[str, Any]:
        found: dict[str, Any] = self.alpha.ok("hive-status")["settlement"]
        return found

    def execute(self) -> dict[str, Any]:
        return self.alpha.rpc("hive-settlement-execute", {"dry_run": False}, timeout=170)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    fleet = Fleet(tmp_path / "fleet")
    try:
        yield Pair(fleet, request.param)
    except SandboxError as error:
        if request.param == "real" and "no lightningd" in str(error):
            pytest.skip(str(error))
        raise
    finally:
        fleet.down()


def agree(pair: Pair) -> int:
    """Found, join, offer; last week was alpha's; its operator is asked. Returns how many sats are due."""
    alpha, bravo = pair.alpha, pair.bravo
    for node in (alpha, bravo):
        pair.start(node)
    alpha.ok("hive-genesis", {"hive_id": "settles"})
    ticket = alpha.ok("hive-invite", {"peer_id": bravo.id})["ticket"]
    bravo.ok("hive-join", {"ticket": ticket})
    wait_until(lambda: bravo.ok("hive-members")["count"] == 2, SECONDS, "bravo is in")
    for node in (alpha, bravo):
        assert node.ok("hive-settlement-generate-offer")["offer"].startswith("lno1")
    offers = "hive-settlement-list-offers"
    wait_until(lambda: len(alpha.ok(offers)["offers"]) == 2, SECONDS, "alpha knows where to pay bravo")
    now = int(time.time())
    begin, end = bounds(previous(now))
    for node in pair.both_stopped():
        with sqlite3.connect(pair.database(node)) as database:
            for peer, fees, forwards in ((alpha.id, 50_000, 10), (bravo.id, 0, 60)):
                database.execute(
                    "INSERT OR REPLACE INTO fee_reports VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
                    (peer, previous(now), fees, forwards, begin, end, now),
                )
        database.close()
    for node in (alpha, bravo):
        pair.start(node)
    wait_until(lambda: alpha.ok("hive-pending-actions")["count"] == 1, 2 * SECONDS, "alpha's operator is asked")
    (action,) = alpha.ok("hive-pending-actions")["actions"]
    assert action["action_type"] == "settlement_execute"
    return int(action["payload"]["total_sats"])


def lightningd_dies_between_reserve_and_pay(pair: Pair) -> None:
    before = pair.owned()
    pair.alpha.ok("sandbox-fault", {"fault": "die-on-command", "command": "pay"})
    with pytest.raises((ConnectionError, OSError, ValueError, AssertionError)):
        pair.alpha.ok("hive-approve-action", {"action_id": 1}, timeout=60)
    pair.fleet.up(2, pair.flavour)
    pair.start(pair.alpha)
    wait_until(lambda: pair.alpha.connected(pair.bravo), SECONDS, "they meet again")
    assert pair.settlement()["payments_without_known_end"] == 1
    assert pair.owned() == before


def the_plugin_dies_between_pay_and_record(pair: Pair, directory: Path) -> None:
    holder = pair.bravo.start_plugin(
        directory / "hold.py",
        {
            "manifest": {"hooks": [{"name": "htlc_accepted"}]},
            "on": {"htlc_accepted": {"delay_ms": 2000, "result": {"result": "continue"}}},
        },
    )
    method = "hive-settlement-execute" if pair.flavour == "fake" else "hive-approve-action"
    given = "dry_run=false" if pair.flavour == "fake" else "action_id=1"
    command = [*pair.alpha.file.lightning_cli, "-k", method, given]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_until(lambda: messages(holder, "htlc_accepted"), SECONDS, "bravo is offered the payment")
        os.kill(pair.pid(pair.alpha), signal.SIGKILL)
    wait_until(pair.has_paid, SECONDS, "lightningd has paid all the same")
    pair.bravo.ok("plugin", ["stop", str(holder.path)])
    pair.start(pair.alpha)


def it_was_paid_once_and_both_know(pair: Pair, before: int, due: int) -> None:
    reply = pair.execute()["result"]
    assert (reply["execution_status"], reply["payments_executed"]) == ("completed", []), reply
    assert reply["payments_skipped"][0]["reason"] == "already paid"
    assert pair.owned() == before - due
    status = "hive-distributed-settlement-status"
    for node in (pair.alpha, pair.bravo):
        # A report that was not acknowledged is sent again after half a minute, then after a whole one.
        wait_until(lambda node=node: node.ok(status)["settled_periods"], 3 * SECONDS, f"{node.name} has settled")  # type: ignore[misc]


def an_older_database_comes_back(pair: Pair, copy: Path, created_at: float) -> None:
    pair.stop(pair.alpha)
    path = pair.database(pair.alpha)
    shutil.copy(copy, path)
    note = {"set": "set-1", "created_at": created_at, "restored_at": time.time()}
    path.with_name(path.name + ".restored").write_text(json.dumps(note), encoding="utf-8")
    pair.start(pair.alpha)


@pytest.mark.timeout(600)
def test_a_week_is_paid_once(pair: Pair, tmp_path: Path) -> None:
    due = agree(pair)
    pair.stop(pair.alpha)
    created_at, copy = time.time(), tmp_path / "set.db"
    shutil.copy(pair.database(pair.alpha), copy)
    pair.start(pair.alpha)
    before = pair.owned()
    if pair.flavour == "fake":
        lightningd_dies_between_reserve_and_pay(pair)
    the_plugin_dies_between_pay_and_record(pair, tmp_path)
    it_was_paid_once_and_both_know(pair, before, due)
    an_older_database_comes_back(pair, copy, created_at)
    assert pair.settlement()["held"] is True
    for method, given in (("hive-settlement-execute", {"dry_run": False}), ("hive-approve-action", {"action_id": 1})):
        error = pair.alpha.error(method, given)
        assert (error["code"], error["data"]["restore"]["set"]) == (6109, "set-1")
    found = pair.alpha.ok("hive-settlement-reconcile")
    assert (found["status"], found["held"], len(found["recognised"])) == ("reconciled", False, 1)
    assert found["recognised"][0]["amount_sats"] == due
    error = pair.execute()["error"]
    assert (error["code"], error["data"]["reason"]) == (6110, "settled")
    assert pair.owned() == before - due
    pays = [row for row in pair.alpha.ok("listpays")["pays"] if row["status"] == "complete"]
    assert [row["label"].rsplit("/", 1)[1] for row in pays] == [pair.bravo.id]
