"""The list of forwards, page by page, and `wait`: what the probe counts on, and the probe itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import probe_look
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.probe_forwards import look_at_forwards
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc
from waiting import wait_until

from conformance.lab.fleet import FleetNode

AMOUNT = 1_000_000
FEE = 1_000


def height(node: FleetNode, index: str) -> int:
    """How high an index of the forwards is."""
    return int(node.ok("wait", {"subsystem": "forwards", "indexname": index, "nextvalue": 0})[index])


def send(fleet: list[FleetNode], label: str, fee: int = FEE, known: bool = True) -> None:
    """Let alpha pay charlie through bravo: with a fee that bravo may refuse, or a hash that charlie does not know."""
    alpha, bravo, charlie = fleet[:3]
    invoice = charlie.ok("invoice", {"amount_msat": AMOUNT, "label": label, "description": label})
    route = [
        {
            "id": there.id,
            "channel": here.channel(there)["short_channel_id"],
            "direction": int(here.id > there.id),
            "amount_msat": AMOUNT + more,
            "delay": delay,
        }
        for here, there, more, delay in ((alpha, bravo, fee, 30), (bravo, charlie, 0, 20))
    ]
    payment_hash = invoice["payment_hash"] if known else "5a" * 16 + invoice["payment_hash"][32:]
    given = {"bolt11": invoice["bolt11"]} if known else {}
    secret = invoice["payment_secret"]
    alpha.ok("sendpay", {"route": route, "payment_hash": payment_hash, "payment_secret": secret, **given})
    alpha.rpc("waitsendpay", {"payment_hash": payment_hash, "timeout": 30})


@pytest.fixture
def three(fleet: list[FleetNode], request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Three more forwards in bravo's list: settled, failed by charlie, failed by bravo."""
    bravo, before = fleet[1], height(fleet[1], "created")
    name = request.node.name
    send(fleet, f"{name} settled")
    send(fleet, f"{name} failed", known=False)
    send(fleet, f"{name} refused", fee=0)

    def listed() -> list[dict[str, Any]]:
        page = {"index": "created", "start": before + 1}
        rows: list[dict[str, Any]] = bravo.ok("listforwards", page)["forwards"]
        return rows if [row["status"] for row in rows] == ["settled", "failed", "local_failed"] else []

    return wait_until(listed, 30, "bravo lists all three")


def test_each_has_its_place_in_both_indexes(fleet: list[FleetNode], three: list[dict[str, Any]]) -> None:
    settled, failed, refused = three
    assert [row["created_index"] - settled["created_index"] for row in three] == [0, 1, 2]
    assert failed["updated_index"] == settled["updated_index"] + 1
    assert (settled["out_msat"], settled["fee_msat"]) == (AMOUNT, FEE)
    assert {"updated_index", "resolved_time", "out_msat", "fee_msat"}.isdisjoint(refused)
    assert (height(fleet[1], "created"), height(fleet[1], "updated")) == (
        refused["created_index"],
        failed["updated_index"],
    )


def test_pages(fleet: list[FleetNode], three: list[dict[str, Any]]) -> None:
    bravo, first = fleet[1], three[0]
    updated = {"index": "updated", "start": first["updated_index"]}
    assert bravo.ok("listforwards", updated)["forwards"] == three[:2]
    assert bravo.ok("listforwards", {**updated, "limit": 1})["forwards"] == three[:1]
    created = {"index": "created", "start": first["created_index"] + 1, "limit": 1000}
    assert bravo.ok("listforwards", created)["forwards"] == three[1:]
    assert bravo.ok("listforwards", {**created, "status": "local_failed"})["forwards"] == three[2:]
    assert bravo.ok("listforwards", {**created, "start": 1 << 40})["forwards"] == []
    assert bravo.error("listforwards", {"limit": 5})["message"] == "Can only specify {limit} with {index}"


def test_waiting_for_the_next(fleet: list[FleetNode]) -> None:
    bravo = fleet[1]
    following = height(bravo, "created") + 1
    heard: list[dict[str, Any]] = []
    asked = {"subsystem": "forwards", "indexname": "created", "nextvalue": following}
    waiting = threading.Thread(target=lambda: heard.append(bravo.ok("wait", asked)), daemon=True)
    waiting.start()
    send(fleet, "awaited")
    waiting.join(30)
    assert (heard[0]["subsystem"], heard[0]["created"]) == ("forwards", following)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"indexname": "frob"}, "indexname: unknown index"),
        ({"subsystem": "frob"}, "subsystem: unknown subsystem"),
        ({"nextvalue": "x"}, "nextvalue: should be an unsigned 64 bit integer"),
    ],
)
def test_what_cannot_be_waited_for(fleet: list[FleetNode], wrong: dict[str, Any], why: str) -> None:
    error = fleet[1].error("wait", {"subsystem": "forwards", "indexname": "updated", "nextvalue": 0, **wrong})
    assert error["code"] == -32602
    assert error["message"].startswith(why)


def test_the_probe_counts_them(fleet: list[FleetNode], request: pytest.FixtureRequest) -> None:
    rpc = Rpc(fleet[1].network_dir / "lightning-rpc", 10.0)
    _, cursor = look_at_forwards(rpc, None, 10.0)
    request.getfixturevalue("three")
    found, cursor = look_at_forwards(rpc, cursor, 10.0)
    assert (found["settled"], found["failed"], found["msat"], found["fee_msat"]) == (1, 2, AMOUNT, FEE)
    again, _ = look_at_forwards(rpc, cursor, 10.0)
    assert (again["settled"], again["failed"]) == (0, 0)
    rpc.close()


def test_the_probe_looks(fleet: list[FleetNode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine is given time.
    monkeypatch.setattr(probe_look, "RPC_SECONDS", 30.0)
    monkeypatch.setattr(probe_look, "TICK_SECONDS", 120.0)
    bravo = fleet[1]
    described = {"name": bravo.name, "runtime": "process", "network": bravo.file.network, "state_dir": str(tmp_path)}
    node = Node.from_params({**described, "lightning_dir": str(bravo.network_dir.parent)})
    _, remembered = probe_look.look(node, {})
    sample, _ = probe_look.look(node, remembered)
    assert "trouble" not in sample
    assert sample["lightningd"]["running"]
    assert sample["channels"] == {"CHANNELD_NORMAL": 2}
    assert sample["lost"] == {"count": 0, "channels": []}
    assert (sample["log"]["count"], sample["forwards"]["settled"], sample["lightningd"]["restarts"]) == (0, 0, 0)
