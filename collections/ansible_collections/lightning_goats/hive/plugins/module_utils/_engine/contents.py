"""What the engine reads in the databases of our plugins: who they are, where their receipts end, what was paid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._sqlite import open_read_only, tables
from .compare import Difference, lost_values
from .errors import HiveError
from .files import Owner

if TYPE_CHECKING:
    import sqlite3

Json = dict[str, Any]
STATE, RECEIPTS, IDENTITY, STEPS = "nostr_state", "management_receipts", "archon_identity", "kit_migrations"
# The source of an identity that is made of the node's id, and of nothing else.
DERIVED = "local-fallback"
# Rows in these are payments: a database that forgets them may pay again.
PAYMENTS = (
    "settlement_executions",
    "settlement_payments",
    "settlement_sub_payments",
    "hive_settlement_journal",
    "comms_payments",
    "comms_spending",
)
PERIODS, PERIOD = "settled_periods", "period"


def contents(path: Path, owner: Owner, immutable: bool = False) -> Json:
    """Return what a plugin's database says about the plugin; empty when it cannot be read, or says nothing.

    `identity`: the public key or the DID; `bound`: it is derived from the node's id; `receipts`: number and hash at the
    end of the chain; `readable_by`: the oldest release that can run on its schema.

    Args:
        immutable: it is a copy that nobody writes to.
    """
    import sqlite3  # imported late: most calls never open a database

    try:
        connection = _open(path, owner, immutable)
    except HiveError:
        return {}
    try:
        return _read(connection)
    except sqlite3.DatabaseError:
        return {}
    finally:
        connection.close()


def _open(path: Path, owner: Owner, immutable: bool) -> sqlite3.Connection:
    import sqlite3  # imported late, as above

    if not immutable:
        return open_read_only(path, owner)
    return sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)


def _read(connection: sqlite3.Connection) -> Json:
    there = set(tables(connection))
    found: Json = {}
    if STATE in there:
        state = dict(
            connection.execute(
                f"SELECT key, value FROM {STATE} WHERE key IN ('config:pubkey', 'receipts:chain_head')"
            ).fetchall()
        )
        if "config:pubkey" in state:
            found["identity"] = str(state["config:pubkey"])
        head = _head(str(state.get("receipts:chain_head", "")))
        if head is not None:
            found["receipts"] = head
    if IDENTITY in there:
        row = connection.execute(f"SELECT did, source FROM {IDENTITY}").fetchone()
        if row is not None:
            found.update(identity=str(row[0]), bound=row[1] == DERIVED)
    if STEPS in there:
        row = connection.execute(f"SELECT readable_by FROM {STEPS} ORDER BY version DESC LIMIT 1").fetchone()
        if row is not None:
            found["readable_by"] = str(row[0])
    return found


def _head(text: str) -> Json | None:
    try:
        head = json.loads(text)
        return {"count": int(head["count"]), "hash": str(head["hash"])}
    except (ValueError, KeyError, TypeError):
        return None


def chain_break(present: Path, owner: Owner, now: Json, then: Json) -> Json | None:
    """Return what a restore does to a chain of receipts; None when nothing of it would be gone.

    `gone` receipts, of them `first` to `last` by number; `parted` when the chain of the copy is no beginning of the
    present one, so that nobody can say which.
    """
    import sqlite3  # imported late, as above

    if not now or now == then:
        return None
    try:
        connection = open_read_only(present, owner)
    except HiveError:
        return None
    try:
        row = connection.execute(
            f"SELECT receipt_id FROM {RECEIPTS} WHERE receipt_hash = ?", (then.get("hash", ""),)
        ).fetchone()
        known = row is not None or not then.get("count")
        last_kept = int(row[0]) if row is not None else 0
        first, last, gone = connection.execute(
            f"SELECT min(receipt_id), max(receipt_id), count(*) FROM {RECEIPTS} WHERE receipt_id > ?", (last_kept,)
        ).fetchone()
    except sqlite3.DatabaseError:
        return None
    finally:
        connection.close()
    ends = {"now": now, "then": then or None}
    return {**ends, "gone": int(gone), "first": first, "last": last, "parted": not known}


def money_reasons(present: Path, copy: Path, owner: Owner, rows: Difference) -> list[str]:
    """Return what was paid or settled since a copy was made and would be forgotten, one sentence each."""
    reasons = []
    if rows.get(PERIODS, {}).get("lost"):
        periods = lost_values(present, copy, owner, PERIODS, PERIOD)
        more = rows[PERIODS]["lost"] - len(periods)
        listed = ", ".join(periods) + (f" and {more} more" if more > 0 else "")
        reasons.append(f"settled since then and would be forgotten: period {listed}")
    for table in PAYMENTS:
        lost = rows.get(table, {}).get("lost", 0)
        if lost:
            reasons.append(f"payments since then would be forgotten: {lost} of {table}")
    return reasons
