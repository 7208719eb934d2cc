"""The list of forwards: two indexes that only grow, and who waits for them."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Node

Record = dict[str, Any]

_ORDER = (
    "created_index", "updated_index", "in_channel", "in_htlc_id", "out_channel", "out_htlc_id", "in_msat", "out_msat",
    "fee_msat", "status", "failcode", "failreason", "style", "received_time", "resolved_time",
)  # fmt: skip
_EVENT_MEMBERS = (*_ORDER[:2], "payment_hash", *_ORDER[2:])
# By index: what the list is sorted by, and where it begins. One that was never updated has no index of its own there.
_SORTED_BY = {"created": "id", "updated": "coalesce(json_extract(document, '$.updated_index'), 0)"}


class Forwards:
    """All forwards of the node. One that is sent on is updated when it ends; one that fails here is only created."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.grown = asyncio.Condition()
        self._heights = {"created": 0, "updated": 0, "deleted": 0}

    def load(self) -> None:
        """Go on counting where the last run ended."""
        key = _SORTED_BY["updated"]
        self.node.database.connection.execute(f"CREATE INDEX IF NOT EXISTS forwards_updated ON forwards ({key})")
        for name, key in _SORTED_BY.items():
            self._heights[name] = int(self.node.database.rows(f"SELECT coalesce(max({key}), 0) FROM forwards")[0][0])

    def height(self, name: str) -> int:
        """Return how high an index is: `created`, `updated` or `deleted`."""
        return self._heights[name]

    def offered(self, members: Record, payment_hash: str) -> int:
        """Note a forward that is sent on; return its number."""
        return self._add({**members, "status": "offered"}, payment_hash)

    def refused(self, members: Record, payment_hash: str, kind: tuple[int, str]) -> None:
        """Note a forward that fails here, before it left."""
        self._add({**members, "status": "local_failed", "failcode": kind[0], "failreason": kind[1]}, payment_hash)

    def sent(self, index: int, htlc_id: int) -> None:
        """Note which HTLC a forward was sent on with."""
        self._write(index, {"out_htlc_id": htlc_id})

    def ended(self, index: int, settled: bool) -> None:
        """Note how a forward ended."""
        self._heights["updated"] += 1
        end = {"status": "settled" if settled else "failed", "resolved_time": time.time()}
        self._write(index, {**end, "updated_index": self._heights["updated"]})
        self._tell(self.records(index)[0])

    def made_up(self, count: int, status: str, out_msat: int) -> None:
        """Note so many forwards at once that nobody sent, so that a list can be as long as that of a busy node."""
        at = time.time()
        rows = []
        for _ in range(count):
            self._heights["created"] += 1
            record: Record = {"in_channel": "1x1x1", "in_htlc_id": self._heights["created"], "out_channel": "1x2x1"}
            record |= {"in_msat": out_msat + out_msat // 1000, "status": status, "style": "tlv", "received_time": at}
            if status != "local_failed":
                self._heights["updated"] += 1
                record |= {"out_htlc_id": record["in_htlc_id"], "out_msat": out_msat, "fee_msat": out_msat // 1000}
                record |= {"resolved_time": at, "updated_index": self._heights["updated"]}
            rows.append((json.dumps({**record, "payment_hash": "00" * 32}),))
        with self.node.database.transaction() as connection:
            connection.executemany("INSERT INTO forwards (document) VALUES (?)", rows)
        self.node.spawn(self._notify())

    def records(self, index: int | None = None) -> list[Record]:
        """Return the forwards with all that is known of them, oldest first."""
        rows = self.node.database.rows(
            "SELECT id, document FROM forwards WHERE id = coalesce(?, id) ORDER BY id", index
        )
        return [{"created_index": number, **json.loads(document)} for number, document in rows]

    def page(self, name: str, start: int, limit: int | None) -> list[Record]:
        """Return the forwards from a place of an index on."""
        key = _SORTED_BY[name]
        rows = self.node.database.rows(
            f"SELECT id, document FROM forwards WHERE {key} >= ? ORDER BY {key}, id LIMIT ?",
            start,
            -1 if limit is None else limit,
        )
        return [{"created_index": number, **json.loads(document)} for number, document in rows]

    def fees_collected(self) -> int:
        """Return the fees of all settled forwards, in millisatoshi."""
        return int(
            self.node.database.rows(
                "SELECT coalesce(sum(json_extract(document, '$.fee_msat')), 0) FROM forwards "
                "WHERE json_extract(document, '$.status') = 'settled'"
            )[0][0]
        )

    def _add(self, members: Record, payment_hash: str) -> int:
        record = {**members, "style": "tlv", "received_time": time.time(), "payment_hash": payment_hash}
        with self.node.database.transaction() as connection:
            connection.execute("INSERT INTO forwards (document) VALUES (?)", (json.dumps(record),))
        self._heights["created"] += 1
        self._tell({"created_index": self._heights["created"], **record})
        return self._heights["created"]

    def _write(self, index: int, changes: Record) -> None:
        record = {**self.records(index)[0], **changes}
        with self.node.database.transaction() as connection:
            connection.execute("UPDATE forwards SET document = ? WHERE id = ?", (json.dumps(record), index))

    def _tell(self, record: Record) -> None:
        event = {name: record[name] for name in _EVENT_MEMBERS if name in record}
        if "updated_index" in event:
            del event["created_index"]
        self.node.topics.publish("forward_event", event)
        self.node.spawn(self._notify())

    async def _notify(self) -> None:
        async with self.grown:
            self.grown.notify_all()


def listed(record: Record) -> Record:
    """Return a record as listforwards shows it, without the payment hash."""
    return {name: record[name] for name in _ORDER if name in record}
