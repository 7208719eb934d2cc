"""What the engine knows of the inside of our plugins' databases, and what a plugin is told of a restore, is the same
on both sides."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine import contents, monolith
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.aside import leave_note
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.compare import differences
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.files import Owner
from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.node import Node
from cl_hive.migrations import MIGRATIONS as HIVE
from cl_hive.protocol.settlement_plan import Line
from cl_hive.storage.settlement_payments import PaymentStore
from cl_hive_archon.migrations import MIGRATIONS as ARCHON
from cl_hive_archon.storage.identity_store import Identity, IdentityStore
from cl_hive_comms.migrations import MIGRATIONS as COMMS
from cl_hive_comms.storage.receipt_store import ReceiptStore
from cl_hive_comms.storage.state_store import StateStore
from hive_kit.restored import read_note
from hive_kit.store import Store, schema_tables

ME = Owner(os.getuid(), os.getgid())


def test_identity_and_chain_of_comms_are_found_where_comms_keeps_them(tmp_path: Path) -> None:
    now, then = tmp_path / "now.db", tmp_path / "then.db"
    for path, count in ((then, 2), (now, 5)):
        with Store.open(path, "cl-hive-comms", COMMS, "0.1.0") as store:
            state = StateStore(store, lambda: 7)
            state.set("config:pubkey", "ab" * 32)
            receipts = ReceiptStore(store, state)
            for number in range(count):
                receipts.append(number, "operator", "hive:policy/v1", "set", {"n": number}, {"ok": True})
            head = receipts.head()
        found = contents.contents(path, ME)
        assert found["identity"] == "ab" * 32
        assert found["receipts"] == {"count": count, "hash": head.receipt_hash}
        assert found["readable_by"] == COMMS[-1].readable_by
    ends = [contents.contents(path, ME)["receipts"] for path in (now, then)]
    broken = contents.chain_break(now, ME, *ends)
    assert broken is not None
    assert (broken["gone"], broken["first"], broken["last"], broken["parted"]) == (3, 3, 5, False)


def test_an_identity_of_archon_says_whether_it_is_bound_to_its_node(tmp_path: Path) -> None:
    for source, bound in (("local-fallback", True), ("gateway", False)):
        path = tmp_path / f"{source}.db"
        with Store.open(path, "cl-hive-archon", ARCHON, "0.1.0") as store:
            IdentityStore(store).put(Identity("did:cid:x", "basic", "active", source, "", "", 1, 1))
        found = contents.contents(path, ME)
        assert (found["identity"], found["bound"]) == ("did:cid:x", bound)


def test_every_table_of_payments_is_one_that_a_plugin_has(tmp_path: Path) -> None:
    known = {*schema_tables("cl-hive", HIVE), *schema_tables("cl-hive-comms", COMMS)}
    assert {*contents.PAYMENTS, contents.PERIODS} <= known
    now, then = tmp_path / "now.db", tmp_path / "then.db"
    for path, settled in ((then, False), (now, True)):
        with Store.open(path, "cl-hive", HIVE, "0.1.0") as store:
            if settled:
                store.execute(f"INSERT INTO {contents.PERIODS} VALUES ('2026-47', 'p', 1, 2)")
    assert contents.money_reasons(now, then, ME, differences(now, then, ME)) == [
        "settled since then and would be forgotten: period 2026-47"
    ]


def test_the_note_of_a_restore_is_the_one_that_plugins_read(tmp_path: Path) -> None:
    (tmp_path / "lightning").mkdir()
    node = Node.from_params(
        {
            "name": "n",
            "runtime": "process",
            "lightning_dir": str(tmp_path / "lightning"),
            "network": "regtest",
            "state_dir": str(tmp_path / "hive"),
        }
    )
    leave_note(node, tmp_path / "x.db", {"set": "s", "created_at": 1.5, "restored_at": 2.25})
    note = read_note(tmp_path / "x.db")
    assert note is not None
    assert (note.set_id, note.created_at, note.restored_at, note.key) == ("s", 1.5, 2.25, "s@2.250")


def test_settlement_payments_without_an_end_are_found_where_hive_keeps_them(tmp_path: Path) -> None:
    database = tmp_path / "cl_hive.db"
    with Store.open(database, "cl-hive", HIVE, "0.1.0") as store:
        payments = PaymentStore(store)
        assert monolith.open_payments(database, ME) == 0
        for receiver in ("02aa", "02bb"):
            payments.reserve("p1", "2026-47", Line("03ff", receiver, 5), "lni1", receiver, 0, 7)
        payments.end(payments.reserved()[0], "completed", 8)
        store.checkpoint()
        assert monolith.open_payments(database, ME) == 1
