"""The monolith's `management_receipts`, which name a credential, become links of our chain; the chain only grows.

Each is wrapped whole: the receipt of the chain holds the row as it was, so that its signature can still be checked.
"""

from __future__ import annotations

from collections.abc import Sequence

from hive_kit.adoption import Column, Row, identifier, json_text, number, text
from hive_kit.adoption_back import NOT_ADOPTED, Back, BackTally
from hive_kit.adoption_pass import Found, Pass, Tally
from hive_kit.errors import AdoptionError
from hive_kit.receipts import verify

from cl_hive_comms.storage.receipt_store import Content, ReceiptStore
from cl_hive_comms.storage.state_store import StateStore

ADOPTED = "adopted"
ORPHAN = "its credential_id names no row of management_credentials"
CHAINED = "receipts of the chain have no place in the monolith, whose receipts each name a credential"
_CREDENTIALS = "management_credentials"
_MAX_DANGER = 10


class Receipts:
    """`Mover` of `management_receipts`."""

    table = "management_receipts"
    key = ("receipt_id",)
    columns: tuple[Column, ...] = (
        identifier("receipt_id"),
        identifier("credential_id"),
        identifier("schema_id"),
        identifier("action"),
        json_text("params_json"),
        number("danger_score", low=1, high=_MAX_DANGER),
        json_text("result_json", optional=True),
        text("state_hash_before", optional=True),
        text("state_hash_after", optional=True),
        number("executed_at"),
        identifier("executor_signature"),
    )
    secret_keys: frozenset[str] = frozenset()

    def adopt(self, work: Pass) -> Tally:
        """See `Mover.adopt`. A row that changed since it was taken is wrapped once more: a chain is never rewritten."""
        tally = Tally()
        store = ReceiptStore(work.store, StateStore(work.store, work.now))
        start, last = store.head(), store.last_id()
        names = work.source.columns(self.table)
        for batch, basis in work.found(tally, ("executed_at", "receipt_id")):
            fresh = [found for found in batch if not found.problem]
            agents = self._agents(work, names, fresh)
            place = names.index("credential_id")
            orphans = [found for found in fresh if found.row[place] not in agents]
            work.quarantine(tally, [(found.text, ORPHAN, found.row) for found in orphans])
            good = [found for found in fresh if found.row[place] in agents]
            if not good:
                continue
            store.append_many([self._wrap(names, found.row, agents[found.row[place]]) for found in good])
            work.remember([(found.text, found.digest) for found in good])
            tally.updated += sum(found.text in basis for found in good)
            tally.inserted += sum(found.text not in basis for found in good)
        verdict = verify(store.oldest_first(last), start, store.head())
        if not verdict.valid or verdict.checked != tally.inserted + tally.updated:
            raise AdoptionError(
                "verify-failed", f"the receipt chain does not hold: {verdict.problem}; nothing was kept"
            )
        return tally

    def carry_back(self, back: Back) -> BackTally:
        """See `Mover.carry_back`: what was adopted is there still, and the chain's own receipts stay here."""
        tally = BackTally()
        own = back.store.value(
            f"SELECT count(*) FROM {self.table} WHERE json_extract(params_json, '$.{ADOPTED}') IS NULL"
        )
        tally.leave(CHAINED if back.adopted else NOT_ADOPTED, int(own))
        return tally

    @staticmethod
    def _agents(work: Pass, names: Sequence[str], rows: Sequence[Found]) -> dict[str, str]:
        """credential_id -> who held it, for the credentials that exist."""
        place = names.index("credential_id") if names else 0
        ids = sorted({str(found.row[place]) for found in rows})
        if not ids or _CREDENTIALS not in work.source.tables:
            return {}
        found = work.source.by_key(_CREDENTIALS, ("credential_id",), ("agent_id",), [(one,) for one in ids])
        return {text: str(row[0] or text) for text, row in found.items()}

    @staticmethod
    def _wrap(names: Sequence[str], row: Row, agent: str) -> Content:
        whole = dict(zip(names, row, strict=True))
        result = whole.pop("result_json")
        return (
            whole["executed_at"],
            agent,
            whole["schema_id"],
            whole["action"],
            {ADOPTED: whole},
            {ADOPTED: result},
        )
