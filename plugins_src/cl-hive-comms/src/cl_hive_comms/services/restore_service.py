"""What a restore means for the management plane.

The restored replay state is older than the world: nonces that were used after the backup look unused. Every envelope
that this node ever accepted before the restore carried a timestamp of at most restore + skew, because the node's clock
said "before the restore" when it checked the skew. So

 - until restore + skew every envelope is refused, and
 - afterwards, for ever and for every sender, one whose timestamp is not beyond restore + skew.

The spend of the restored database misses what was paid since: until it is counted anew, nothing is paid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hive_kit.errors import RestoredError
from hive_kit.health import Check
from hive_kit.restored import Restored
from hive_kit.store import Store

from cl_hive_comms.services.envelope import SKEW_SECONDS
from cl_hive_comms.services.receipt_service import PLUGIN, ReceiptService
from cl_hive_comms.storage.state_store import StateStore

SCHEMA = "hive:restore/v1"
_NOTICED = "restore:noticed"
_RECOUNTED = "restore:recounted"


class RestoreService:
    """Knows the newest restore, and says what must wait because of it."""

    def __init__(
        self,
        restored: Restored | None,
        store: Store,
        state: StateStore,
        receipts: ReceiptService,
        now: Callable[[], int],
    ) -> None:
        """Args: restored: the note beside the database; its first sight leaves a receipt."""
        self._restored = restored
        self._store = store
        self._state = state
        self._now = now
        self.recount_error = ""
        if restored is not None and state.get(_NOTICED) != restored.key:
            with store.atomic():
                state.set(_NOTICED, restored.key)
                receipts.write(
                    SCHEMA,
                    "notice",
                    {"set": restored.set_id, "created_at": int(restored.created_at)},
                    {"restored_at": int(restored.restored_at), "envelopes_accepted_after": self.accepted_after},
                    PLUGIN,
                )

    @property
    def accepted_after(self) -> int:
        """Unix time: an envelope must carry a later timestamp. -1 when there was no restore."""
        return -1 if self._restored is None else math.ceil(self._restored.restored_at) + SKEW_SECONDS

    @property
    def from_the_future(self) -> bool:
        """Whether the restore lies ahead of this clock, which was put back since, or was wrong then."""
        return self._restored is not None and self._restored.restored_at > self._now() + 1

    def check_window(self) -> None:
        """Refuse every envelope while one from before the restore could still be fresh.

        Raises:
            RestoredError: with the time when it ends.
        """
        if self._now() > self.accepted_after:
            return
        ends = self.accepted_after
        advice = (
            "that restore lies in the future of this node's clock: put the clock right, or restore once more"
            if self.from_the_future
            else "send it again, signed anew, after that"
        )
        raise RestoredError(
            f"the data was restored, so envelopes are refused until {_shown(ends)}; {advice}", until=ends
        )

    def check_timestamp(self, timestamp: int) -> None:
        """Refuse an envelope that this node may have carried out before the restore.

        Raises:
            RestoredError: it is not newer than the window.
        """
        if timestamp <= self.accepted_after:
            raise RestoredError(
                f"this envelope may have been carried out before the data was restored; sign it anew with a timestamp "
                f"after {self.accepted_after} ({_shown(self.accepted_after)})",
                accepted_after=self.accepted_after,
            )

    @property
    def recount_due(self) -> bool:
        """Whether the spend was not counted anew yet: nothing may be paid."""
        return self._restored is not None and not self._record()

    @property
    def recount_open(self) -> bool:
        """Whether it is to be counted (once more): what was under way at the restore may have arrived since."""
        return self._restored is not None and not self._record().get("final", False)

    def check_spend(self) -> None:
        """Refuse to pay while it is not known what was paid.

        Raises:
            RestoredError: the spend is not counted anew yet.
        """
        if self.recount_due:
            reason = f"; the last attempt failed: {self.recount_error}" if self.recount_error else ""
            raise RestoredError(
                "the data was restored and the payments since the backup are not counted yet, so nothing is paid; "
                f"try again in a minute{reason}"
            )

    def recounted(self, found: int, sats: int, *, final: bool) -> None:
        """The spend is complete again; part of the transaction that wrote it.

        Args:
            found: payments that the restored data did not know.
            sats: what they come to.
            final: nothing from before the restore can be under way any more.
        """
        assert self._restored is not None
        before = self._record()
        self._state.set_json(
            _RECOUNTED,
            {
                "key": self._restored.key,
                "at": self._now(),
                "payments": before.get("payments", 0) + found,
                "sats": before.get("sats", 0) + sats,
                "final": final,
            },
        )

    def summary(self) -> dict[str, Any] | None:
        """For the status: {set, restored_at, envelopes_refused_until, recount{state, payments, sats, error}}."""
        if self._restored is None:
            return None
        done = self._record()
        waiting = "failing" if self.recount_error else "waiting"
        return {
            "set": self._restored.set_id,
            "created_at": int(self._restored.created_at),
            "restored_at": int(self._restored.restored_at),
            "from_the_future": self.from_the_future,
            "envelopes_refused": self._now() <= self.accepted_after,
            "envelopes_refused_until": self.accepted_after,
            "recount": {
                "state": "done" if done else waiting,
                "payments": done.get("payments", 0),
                "sats": done.get("sats", 0),
                "error": self.recount_error,
            },
        }

    def checks(self) -> tuple[Check, ...]:
        """For health: a recount that fails, a note from the future. A window that merely runs is no fault."""
        if self._restored is None:
            return ()
        failing = self.recount_due and bool(self.recount_error)
        future = "the restore lies in the future: put the clock right, or restore once more"
        return (
            Check("spend recount", not failing, f"nothing is paid: {self.recount_error}" if failing else ""),
            Check("restore time", not self.from_the_future, future if self.from_the_future else ""),
        )

    def _record(self) -> dict[str, Any]:
        """What was written down about the recount after this very restore; empty when nothing was."""
        stored: dict[str, Any] = self._state.get_json(_RECOUNTED) or {}
        return stored if self._restored is not None and stored.get("key") == self._restored.key else {}


def _shown(when: int) -> str:
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"unix time {when}"
