"""Forwards since the look before, page by page: their indexes only ever grow, whatever a clock or a clean-up does."""

from __future__ import annotations

import time
from typing import Any

from .._rpc import Rpc
from .errors import RpcRefusedError, RpcTimeoutError

# At some 350 bytes a forward a page is a third of a megabyte.
PAGE = 1000
# What one look reads of a list at most; the next goes on from there.
PAGES = 20
SECONDS = 4.0
INDEXES = ("updated", "created")
FAILED = frozenset({"failed", "local_failed"})

Json = dict[str, Any]


def look_at_forwards(rpc: Rpc, cursor: Json | None, timeout: float) -> tuple[Json, Json | None]:
    """Count the forwards that ended since the look before.

    A forward that was sent on is updated when it ends; one that failed here before it left is only ever created.

    Args:
        cursor: how far the look before came, by index; None for the first, which begins at the end.
        timeout: of one call.

    Returns:
        settled, failed, msat (sent on) and fee_msat of them, and how far this look came: `created` and `updated`, and
        `behind` when there is more. Without `settled`, `trouble` says why nothing is known.
    """
    deadline = time.monotonic() + SECONDS
    known = dict(cursor or {})
    counts: Json = {"settled": 0, "failed": 0, "msat": 0, "fee_msat": 0}
    behind = False
    try:
        for name in INDEXES:
            # With 0 it waits for nothing, and says how high the index is.
            asked = {"subsystem": "forwards", "indexname": name, "nextvalue": 0}
            end = int(rpc.call("wait", asked, timeout=timeout)[name])
            # Beyond the end: this is not the list it was, such as that of a database from before.
            start = int(known.get(name, end))
            known[name] = _read(rpc, name, min(start, end), end, counts, min(timeout, SECONDS), deadline)
            behind = behind or known[name] < end
    except (RpcRefusedError, RpcTimeoutError) as error:
        # What was counted is given up with the cursor, so that the next look counts it all.
        return {"trouble": error.code}, cursor
    return {**counts, **known, **({"behind": True} if behind else {})}, known


def _read(rpc: Rpc, name: str, reached: int, end: int, counts: Json, timeout: float, deadline: float) -> int:
    """Count what stands after `reached` and up to `end`; return how far that came."""
    for _ in range(PAGES):
        if reached >= end or time.monotonic() >= deadline:
            break
        rows = rpc.call("listforwards", {"index": name, "start": reached + 1, "limit": PAGE}, timeout=timeout)[
            "forwards"
        ]
        if not rows:
            # Those in between were deleted.
            return end
        for row in rows:
            _count(name, row, counts)
        reached = max(reached, *(int(row.get(f"{name}_index", 0)) for row in rows))
    return reached


def _count(name: str, row: Json, counts: Json) -> None:
    status = row.get("status")
    if name == "created":
        counts["failed"] += int(status in FAILED and not row.get("updated_index"))
    elif status == "settled":
        counts["settled"] += 1
        counts["msat"] += int(row.get("out_msat", 0))
        counts["fee_msat"] += int(row.get("fee_msat", 0))
    else:
        counts["failed"] += int(status in FAILED)
