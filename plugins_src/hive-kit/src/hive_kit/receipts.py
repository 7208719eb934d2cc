"""Hash-chained receipts: each names the one before, so that nothing can be changed, dropped or slipped in unseen.

Pure functions; the tables belong to the plugin. The formula is the field's, so existing chains stay verifiable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hive_kit.canonical import canonical_json, sha256_hex

GENESIS = ""


@dataclass(frozen=True)
class Receipt:
    """One entry of the chain. `receipt_id` counts up by one; `created_at` is unix time in seconds."""

    receipt_id: int
    created_at: int
    actor: str
    schema_id: str
    action: str
    params: dict[str, Any]
    result: dict[str, Any]
    prev_hash: str
    receipt_hash: str


@dataclass(frozen=True)
class Anchor:
    """Where the stored part of a chain begins (after pruning) or ends (its head).

    Args:
        receipt_hash: hash of the last receipt up to here; empty for a chain without any.
        count: receipts up to here since the very first.
    """

    receipt_hash: str = GENESIS
    count: int = 0


@dataclass(frozen=True)
class Verdict:
    """Result of `verify`: whether the chain holds, how many receipts were checked, and what is wrong first."""

    valid: bool
    checked: int
    problem: str = ""


def receipt_hash(
    created_at: int, actor: str, schema_id: str, action: str, params: Any, result: Any, prev_hash: str
) -> str:
    """SHA-256 (hex) of the canonical JSON of one receipt and the hash before it."""
    return sha256_hex(
        canonical_json(
            {
                "created_at": created_at,
                "actor": actor,
                "schema_id": schema_id,
                "action": action,
                "params": params,
                "result": result,
                "prev_hash": prev_hash,
            }
        )
    )


def verify(receipts: Iterable[Receipt], start: Anchor, head: Anchor | None = None) -> Verdict:
    """Walk the stored receipts, oldest first.

    Args:
        receipts: all that are stored, in order.
        start: what pruning left: the hash that the first one must name.
        head: what the last write left; proves that no receipt was cut off at the end. None when it is not known.
    """
    previous, checked, last_id = start.receipt_hash, 0, 0
    for receipt in receipts:
        if receipt.prev_hash != previous:
            return Verdict(False, checked, f"receipt {receipt.receipt_id} does not follow the one before it")
        expected = receipt_hash(
            receipt.created_at,
            receipt.actor,
            receipt.schema_id,
            receipt.action,
            receipt.params,
            receipt.result,
            receipt.prev_hash,
        )
        if receipt.receipt_hash != expected:
            return Verdict(False, checked, f"receipt {receipt.receipt_id} was changed after it was written")
        if receipt.receipt_id <= last_id:
            return Verdict(False, checked, f"receipt {receipt.receipt_id} is out of order")
        previous, last_id, checked = receipt.receipt_hash, receipt.receipt_id, checked + 1
    if head is not None and (head.receipt_hash != previous or head.count != start.count + checked):
        return Verdict(False, checked, f"the newest of {head.count} receipts are missing")
    return Verdict(True, checked)
