"""Receipts: every change of identity, advisors, aliases and policy leaves one, chained to the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from typing import Any

from hive_kit.errors import IntegrityError
from hive_kit.receipts import verify

from cl_hive_comms.storage.receipt_store import ReceiptStore

OPERATOR = "operator"  # whoever may call our RPC
PLUGIN = "cl-hive-comms"  # what happens without anybody asking for it
_DAY = 86_400
_ACTOR: ContextVar[str] = ContextVar("actor", default=OPERATOR)


class ReceiptService:
    """Writes, lists, proves and prunes receipts."""

    def __init__(self, receipts: ReceiptStore, now: Callable[[], int]) -> None:
        self._receipts = receipts
        self._now = now

    def write(self, schema: str, action: str, params: dict[str, Any], result: dict[str, Any], actor: str = "") -> int:
        """Append a receipt to the open transaction; gives its id.

        Args:
            schema: for example "hive:policy/v1".
            action: for example "set-preset".
            params, result: JSON objects. Never a secret.
            actor: an advisor id, "operator" or "cl-hive-comms"; empty takes the one of `acting`, else the operator.
        """
        actor = actor or _ACTOR.get()
        return self._receipts.append(self._now(), actor, schema, action, params, result).receipt_id

    @contextmanager
    def acting(self, actor: str) -> Iterator[None]:
        """Who causes what is done inside: an advisor's envelope changes things through the operator's own services."""
        token = _ACTOR.set(actor)
        try:
            yield
        finally:
            _ACTOR.reset(token)

    def newest(self, limit: int, advisor_id: str = "") -> list[dict[str, Any]]:
        """The newest receipts first, as JSON."""
        return [asdict(receipt) for receipt in self._receipts.newest(limit, advisor_id)]

    def count(self) -> int:
        """How many are stored."""
        return self._receipts.count()

    def prove(self) -> dict[str, Any]:
        """Walk the whole chain: {valid, checked, pruned, head}.

        Raises:
            IntegrityError: it does not hold; the sentence names the receipt.
        """
        # The ends are read before the walk: receipts written meanwhile are beyond the head and are not walked.
        anchor, head = self._receipts.anchor(), self._receipts.head()
        stored = head.count - anchor.count
        walked = (receipt for number, receipt in enumerate(self._receipts.oldest_first()) if number < stored)
        verdict = verify(walked, anchor, head)
        if not verdict.valid:
            raise IntegrityError(
                f"the receipt chain does not hold: {verdict.problem}; compare with the newest backup set",
                checked=verdict.checked,
            )
        return {"valid": True, "checked": verdict.checked, "pruned": anchor.count, "head": head.receipt_hash}

    def prune(self, days: int) -> int:
        """Remove receipts older than `days`; the chain stays provable. Returns how many went."""
        return self._receipts.prune(self._now() - days * _DAY)
