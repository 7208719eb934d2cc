"""`management_receipts`: the hash chain, with what pruning cut (`chain_anchor`) and where it ends (`chain_head`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from hive_kit.receipts import Anchor, Receipt, receipt_hash
from hive_kit.store import Store

from cl_hive_comms.storage.state_store import StateStore

_ANCHOR = "receipts:chain_anchor"
_HEAD = "receipts:chain_head"
_CONTENT = "created_at, actor, schema_id, action, params_json, result_json, prev_hash, receipt_hash"
_COLUMNS = f"receipt_id, {_CONTENT}"
_PAGE = 500
# created_at, actor, schema_id, action, params, result
Content = tuple[int, str, str, str, dict[str, Any], dict[str, Any]]


class ReceiptStore:
    """Appends, reads and prunes; never changes a receipt."""

    def __init__(self, store: Store, state: StateStore) -> None:
        self._store = store
        self._state = state

    def append(
        self, created_at: int, actor: str, schema_id: str, action: str, params: dict[str, Any], result: dict[str, Any]
    ) -> Receipt:
        """Write the next receipt, in one transaction with the new head (and with whatever transaction is open)."""
        with self._store.atomic():
            head = self.head()
            digest = receipt_hash(created_at, actor, schema_id, action, params, result, head.receipt_hash)
            number = self._store.insert(
                f"INSERT INTO management_receipts ({_CONTENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    created_at,
                    actor,
                    schema_id,
                    action,
                    json.dumps(params, sort_keys=True),
                    json.dumps(result, sort_keys=True),
                    head.receipt_hash,
                    digest,
                ),
            )
            self._write(_HEAD, Anchor(digest, head.count + 1))
        return Receipt(number, created_at, actor, schema_id, action, params, result, head.receipt_hash, digest)

    def append_many(self, entries: Iterable[Content]) -> None:
        """Write the next receipts, in the order given, with one new head; inside the open transaction."""
        head, rows = self.head(), []
        for created_at, actor, schema_id, action, params, result in entries:
            digest = receipt_hash(created_at, actor, schema_id, action, params, result, head.receipt_hash)
            texts = json.dumps(params, sort_keys=True), json.dumps(result, sort_keys=True)
            rows.append((created_at, actor, schema_id, action, *texts, head.receipt_hash, digest))
            head = Anchor(digest, head.count + 1)
        self._store.execute_many(f"INSERT INTO management_receipts ({_CONTENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._write(_HEAD, head)

    def newest(self, limit: int, advisor_id: str = "") -> list[Receipt]:
        """The newest receipts first; with an advisor, those it caused and those about it."""
        where, parameters = "", []
        if advisor_id:
            where = "WHERE actor = ? OR json_extract(params_json, '$.advisor_id') = ?"
            parameters = [advisor_id, advisor_id]
        rows = self._store.query(
            f"SELECT {_COLUMNS} FROM management_receipts {where} ORDER BY receipt_id DESC LIMIT ?", (*parameters, limit)
        )
        return [_receipt(row) for row in rows]

    def last_id(self) -> int:
        """The id of the newest receipt; 0 for none."""
        return int(self._store.value("SELECT max(receipt_id) FROM management_receipts") or 0)

    def oldest_first(self, after: int = 0) -> Iterator[Receipt]:
        """The stored receipts with ids beyond `after`, read in pages so that nobody waits for the lock."""
        last = after
        while rows := self._store.query(
            f"SELECT {_COLUMNS} FROM management_receipts WHERE receipt_id > ? ORDER BY receipt_id LIMIT {_PAGE}",
            (last,),
        ):
            yield from map(_receipt, rows)
            last = rows[-1]["receipt_id"]

    def prune(self, before: int) -> int:
        """Remove receipts older than `before` (unix time), keeping the newest one and the anchor. Returns how many."""
        with self._store.atomic():
            newest_kept = self._store.value(
                "SELECT min(receipt_id) FROM management_receipts WHERE created_at >= ?", (before,)
            ) or self._store.value("SELECT max(receipt_id) FROM management_receipts")
            row = self._store.one(
                "SELECT receipt_hash FROM management_receipts WHERE receipt_id < ? ORDER BY receipt_id DESC LIMIT 1",
                (newest_kept,),
            )
            if row is None:
                return 0
            removed = self._store.execute("DELETE FROM management_receipts WHERE receipt_id < ?", (newest_kept,))
            self._write(_ANCHOR, Anchor(row["receipt_hash"], self.anchor().count + removed))
            return removed

    def count(self) -> int:
        """How many receipts are stored."""
        return int(self._store.value("SELECT count(*) FROM management_receipts"))

    def anchor(self) -> Anchor:
        """What pruning left: hash of the last removed receipt and how many are gone."""
        return self._read(_ANCHOR)

    def head(self) -> Anchor:
        """Hash of the newest receipt and how many there ever were."""
        return self._read(_HEAD)

    def _read(self, key: str) -> Anchor:
        stored = self._state.get_json(key)
        return Anchor() if stored is None else Anchor(str(stored["hash"]), int(stored["count"]))

    def _write(self, key: str, anchor: Anchor) -> None:
        self._state.set_json(key, {"hash": anchor.receipt_hash, "count": anchor.count})


def _receipt(row: sqlite3.Row) -> Receipt:
    return Receipt(
        row["receipt_id"],
        row["created_at"],
        row["actor"],
        row["schema_id"],
        row["action"],
        json.loads(row["params_json"]),
        json.loads(row["result_json"]),
        row["prev_hash"],
        row["receipt_hash"],
    )
