"""comms pays an invoice for an advisor: once, under its label, counted anew from lightningd after a restore."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from conformance.lab.fleet import FleetNode

SECONDS = 60.0


def program() -> str:
    return str(Path(sys.executable).parent / "cl-hive-comms")


@pytest.fixture
def payer(fleet: list[FleetNode]) -> Iterator[FleetNode]:
    node = fleet[0]
    node.ok("plugin", ["start", program()], timeout=SECONDS)
    node.ok("hive-client-authorize", ["bob", "payments"])
    yield node
    node.ok("plugin", ["stop", program()])
    note(node).unlink(missing_ok=True)


def database(node: FleetNode) -> Path:
    return node.network_dir / "cl_hive_comms.db"


def note(node: FleetNode) -> Path:
    return database(node).with_name("cl_hive_comms.db.restored")


def invoice(node: FleetNode, msat: int) -> str:
    return str(node.ok("invoice", [msat, f"advisor-{time.time_ns()}", "advice"])["bolt11"])


def pay(node: FleetNode, nonce: int, bolt11: str) -> dict[str, Any]:
    asked = {"action": "pay", "advisor": "bob", "nonce": nonce, "bolt11": bolt11}
    return node.ok("hive-client-payments", asked, timeout=120)


def own(payer: FleetNode, payee: FleetNode) -> int:
    wait_until(payer.settled, 30, "no HTLC is left")
    return int(payer.channel(payee)["to_us_msat"])


def recounted(payer: FleetNode) -> dict[str, Any]:
    """What the count after a restore found; empty while it is not done."""
    found: dict[str, Any] = payer.ok("hive-client-status")["restore"]["recount"]
    return found if found["state"] == "done" else {}


def test_a_payment_for_an_advisor_is_made_once_and_found_again_after_a_restore(
    fleet: list[FleetNode], payer: FleetNode
) -> None:
    payee = fleet[1]
    payer.ok("plugin", ["stop", program()])
    kept = database(payer).with_name("kept")
    shutil.copy(database(payer), kept)
    payer.ok("plugin", ["start", program()], timeout=SECONDS)
    before, bolt11 = own(payer, payee), invoice(payee, 1_000_000)
    answer = pay(payer, 7, bolt11)
    assert (answer["status"], answer["repeated"]) == ("paid", False)
    assert own(payer, payee) == before - 1_000_000
    parts = payer.ok("listsendpays", {"bolt11": bolt11})["payments"]
    assert {part["label"] for part in parts} == {answer["payment_id"]}
    assert pay(payer, 7, bolt11)["repeated"] is True
    payer.ok("plugin", ["stop", program()])
    shutil.copy(kept, database(payer))
    kept.unlink()
    told = {"set": "a-set", "created_at": time.time() - 60, "restored_at": time.time()}
    note(payer).write_text(json.dumps(told), encoding="utf-8")
    payer.ok("plugin", ["start", program()], timeout=SECONDS)
    counted = wait_until(lambda: recounted(payer), SECONDS, "the spend is counted")
    assert counted["sats"] == 1_000
    assert pay(payer, 7, bolt11)["repeated"] is True
    assert own(payer, payee) == before - 1_000_000
