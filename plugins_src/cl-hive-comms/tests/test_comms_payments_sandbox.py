"""A payment between two fake lightningds is made once, although the plugin is killed in the middle of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hive_sandbox.testing import FakeNode, open_channel
from waiting import wait_until

# Holds every HTLC until a file appears; alone on its node, so it may stand still.
HOLD = """#!{python}
import json, os, sys, time
for line in iter(sys.stdin.readline, ""):
    if not line.strip():
        continue
    asked = json.loads(line)
    if asked["method"] == "getmanifest":
        result = {{"options": [], "rpcmethods": [], "dynamic": True, "hooks": [{{"name": "htlc_accepted"}}]}}
    elif asked["method"] == "htlc_accepted":
        open({seen!r}, "w").close()
        while not os.path.exists({release!r}):
            time.sleep(0.02)
        result = {{"result": "continue"}}
    else:
        result = {{}}
    if "id" in asked:
        sys.stdout.write(json.dumps({{"jsonrpc": "2.0", "id": asked["id"], "result": result}}) + "\\n\\n")
        sys.stdout.flush()
"""
Nodes = tuple[FakeNode, FakeNode]


@pytest.fixture(scope="module", params=["v25.12.1", "v26.06.6"])
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A payer with a channel to a payee."""
    base = tmp_path_factory.mktemp("payments")
    made = tuple(FakeNode(base / name, "--addr=127.0.0.1:0", release=request.param) for name in ("payer", "payee"))
    payer, payee = made
    try:
        for node in made:
            node.start()
        open_channel(payer, payee)
        yield payer, payee
    finally:
        for node in made:
            node.close()


@pytest.fixture
def payer(nodes: Nodes) -> Iterator[FakeNode]:
    """The payer with comms and the advisor bob; comms is stopped at the end."""
    node = nodes[0]
    start(node)
    node.rpc("hive-client-authorize", ["bob", "payments"])
    yield node
    if program() in node.plugins():
        node.rpc("plugin", ["stop", program()])
    (node.net / "cl_hive_comms.db.restored").unlink(missing_ok=True)


def program() -> str:
    return str(shutil.which("cl-hive-comms", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}"))


def start(node: FakeNode) -> None:
    node.rpc("plugin", ["start", program()])


def kill(node: FakeNode) -> None:
    """SIGKILL our own child's child: the comms of this node."""
    assert node.process is not None
    parent = node.process.pid
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text("utf-8").split():
        if program().encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
            os.kill(int(child), signal.SIGKILL)
            wait_until(lambda: program() not in node.plugins(), 20, "lightningd noticed")
            return
    raise AssertionError("comms is not a child of this lightningd")


def invoice(node: FakeNode, label: str, sats: int = 1_000) -> str:
    return str(node.rpc("invoice", [sats * 1_000, f"{label}-{time.time_ns()}", label])["bolt11"])


def paid(node: FakeNode, bolt11: str) -> int:
    """How many milli-satoshis came in for an invoice."""
    (found,) = node.rpc("listinvoices", {"invstring": bolt11})["invoices"]
    return int(found.get("amount_received_msat", 0))


def pay(node: FakeNode, nonce: int, bolt11: str) -> dict[str, Any]:
    asked = {"action": "pay", "advisor": "bob", "nonce": nonce, "bolt11": bolt11}
    answer: dict[str, Any] = node.rpc("hive-client-payments", asked)
    return answer


def history(node: FakeNode, nonce: int) -> dict[str, Any]:
    listed = node.rpc("hive-client-payments", ["history"])["payments"]
    return next(payment for payment in listed if payment["nonce"] == nonce)


def received(node: FakeNode) -> int:
    return sum(int(channel["in_fulfilled_msat"]) for channel in node.rpc("listpeerchannels")["channels"])


def test_a_payment_arrives_under_its_label(nodes: Nodes, payer: FakeNode) -> None:
    bolt11 = invoice(nodes[1], "plain")
    answer = pay(payer, 1, bolt11)
    assert (answer["status"], answer["repeated"]) == ("paid", False)
    assert paid(nodes[1], bolt11) == 1_000_000
    (listed,) = payer.rpc("listpays", {"bolt11": bolt11})["pays"]
    assert listed["label"] == answer["payment_id"]
    before = received(nodes[1])
    assert pay(payer, 1, bolt11)["repeated"] is True
    assert received(nodes[1]) == before
    assert payer.refused("hive-client-payments", ["pay", "bob", 0, "bolt11", "", 1, bolt11, 2])[0] == 6002


def test_killed_between_the_reservation_and_the_end_it_is_paid_once(
    nodes: Nodes, payer: FakeNode, tmp_path: Path
) -> None:
    payee = nodes[1]
    seen, release, holder = tmp_path / "seen", tmp_path / "release", tmp_path / "hold.py"
    holder.write_text(HOLD.format(python=sys.executable, seen=str(seen), release=str(release)), encoding="utf-8")
    holder.chmod(holder.stat().st_mode | stat.S_IXUSR)
    payee.rpc("plugin", ["start", str(holder)])
    before, bolt11 = received(payee), invoice(payee, "held")
    with Asked(payer, 11, bolt11):
        wait_until(seen.exists, 20, "the payee is offered the HTLC")
        kill(payer)
    start(payer)
    assert history(payer, 11)["status"] == "reserved"
    assert payer.rpc("hive-client-status")["spending"]["in_flight_sats"] == 1_005
    code, sentence = payer.refused(
        "hive-client-payments", {"action": "pay", "advisor": "bob", "nonce": 11, "bolt11": bolt11}
    )
    assert code == 6004
    assert "is never sent again" in sentence
    release.touch()
    wait_until(lambda: paid(payee, bolt11) > 0, 20, "the payment arrived")
    payer.rpc("plugin", ["stop", program()])
    start(payer)  # it asks at once
    wait_until(lambda: history(payer, 11)["status"] == "paid", 20, "the books are right")
    assert pay(payer, 11, bolt11)["repeated"] is True
    assert received(payee) - before == 1_000_000
    payee.rpc("plugin", ["stop", str(holder)])
    receipts = payer.rpc("hive-client-receipts", {"advisor": "bob", "verify": True})
    actions = [r["action"] for r in receipts["receipts"] if r["params"].get("nonce") == 11]
    assert (actions, receipts["verification"]["valid"]) == (["pay", "reserve"], True)


def test_after_a_restore_the_spend_is_counted_from_lightningd(nodes: Nodes, payer: FakeNode) -> None:
    payee, database = nodes[1], payer.net / "cl_hive_comms.db"
    payer.rpc("plugin", ["stop", program()])
    shutil.copy(database, payer.net / "saved")
    start(payer)
    spent = payer.rpc("hive-client-payments")["summary"]["day_sats"]
    bolt11 = invoice(payee, "later", 2_000)
    pay(payer, 21, bolt11)
    payer.rpc("plugin", ["stop", program()])
    shutil.copy(payer.net / "saved", database)
    note = {"set": "a-set", "created_at": time.time() - 60, "restored_at": time.time()}
    Path(f"{database}.restored").write_text(json.dumps(note), encoding="utf-8")
    before = received(payee)
    start(payer)
    state = wait_until(
        lambda: (shown := payer.rpc("hive-client-status")["restore"])["recount"]["state"] == "done" and shown,
        20,
        "the spend is counted",
    )
    assert state["recount"] == {"state": "done", "payments": 1, "sats": 2_000, "error": ""}
    assert payer.rpc("hive-client-payments")["summary"]["day_sats"] == spent + 2_000
    assert pay(payer, 21, bolt11)["repeated"] is True
    assert received(payee) == before
    assert payer.rpc("hive-comms-health")["status"] == "ok"
    envelope = {"schema_type": "hive:monitor/v1", "schema_payload": {}, "nonce": 1, "timestamp": int(time.time())}
    code, sentence = payer.refused("hive-comms-rpc", [{**envelope, "signature": "0" * 64}, "bob"])
    assert (code, "envelopes are refused until" in sentence) == (6014, True)


class Asked:
    """A payment asked for in a thread; whoever dies while it runs, its end is no failure here."""

    def __init__(self, node: FakeNode, nonce: int, bolt11: str) -> None:
        self._thread = threading.Thread(target=self._ask, args=(node, nonce, bolt11))

    @staticmethod
    def _ask(node: FakeNode, nonce: int, bolt11: str) -> None:
        asked = {"action": "pay", "advisor": "bob", "nonce": nonce, "bolt11": bolt11}
        node.refused("hive-client-payments", asked)

    def __enter__(self) -> Asked:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
