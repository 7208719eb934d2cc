"""After a restore: nothing is paid until lightningd's own list of payments has been compared with the database.

lightningd's state is never restored, so it knows every payment; the database may be older than some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from hive_kit.errors import InvalidParamsError
from hive_kit.restored import Restored

from cl_hive.errors import SettlementHeldError
from cl_hive.protocol import fields
from cl_hive.protocol import settlement_messages as wire
from cl_hive.protocol.settlement_plan import Line
from cl_hive.services.settlement_payer import LABEL_PREFIX, Payer, label_of, parse_label
from cl_hive.services.wallet import Payment, Wallet, outcome
from cl_hive.storage.settlement_payments import PaymentStore

MAX_KEPT: Final = 1000


@dataclass
class Findings:
    """What the comparison found; every entry names the label of the payment it is about."""

    recognised: list[dict[str, Any]] = field(default_factory=list)
    known: list[dict[str, Any]] = field(default_factory=list)
    unpaid: list[dict[str, Any]] = field(default_factory=list)
    undecided: list[dict[str, Any]] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As the reply and the record have it."""
        return {name: entries[:MAX_KEPT] for name, entries in vars(self).items()}


class Hold:
    """The newest restore of the database, until it has been reconciled."""

    def __init__(
        self,
        me: str,
        restored: Restored | None,
        payments: PaymentStore,
        payer: Payer,
        wallet: Wallet,
        now: Callable[[], int],
    ) -> None:
        self._me = me
        self._restored = restored
        self._payments = payments
        self._payer = payer
        self._wallet = wallet
        self._now = now

    @property
    def held(self) -> bool:
        """Whether nothing may be paid."""
        return self._restored is not None and not self._payments.is_reconciled(self._restored.key)

    def check(self) -> None:
        """Let through only when nothing is held.

        Raises:
            SettlementHeldError: the restore has not been reconciled.
        """
        if self.held:
            raise SettlementHeldError(
                "settlement is held: the database was restored and may not know what was paid since its backup; "
                "run hive-settlement-reconcile",
                restore=self.restore(),
            )

    def restore(self) -> dict[str, Any] | None:
        """The newest restore, for the operator."""
        if self._restored is None:
            return None
        return {
            "set": self._restored.set_id,
            "created_at": int(self._restored.created_at),
            "restored_at": int(self._restored.restored_at),
        }

    def reconcile(self, owed: Collection[tuple[str, Line]], paid: Collection[str], unpaid: Collection[str]) -> Findings:
        """Compare with lightningd, write back what was paid, and end the hold when nothing is left open.

        Args:
            owed: (period, payment) of everything this node owes by a plan it knows.
            paid, unpaid: labels the operator has decided about, of payments that this could not decide.

        Raises:
            InvalidParamsError: a label is none, or is in both.
            UnavailableError: lightningd does not answer.
        """
        self._check_labels(paid, unpaid)
        found = Findings()
        for entry in self._payments.reserved():
            self._payer.look(entry)
        seen = self._wallet.payments()
        labelled = self._labelled(seen)
        for label, rows in sorted(labelled.items()):
            self._recognise(label, rows, found)
        for period, line in sorted(owed):
            if label_of(period, line.from_peer_id, line.to_peer_id) not in labelled:
                self._judge(period, line, seen, paid, unpaid, found)
        if self._restored is not None and not found.undecided:
            note = self._restored
            self._payments.reconciled(
                note.key, note.set_id, note.created_at, note.restored_at, self._now(), found.document()
            )
        return found

    # -- inside -------------------------------------------------------------------------------------------------------

    def _labelled(self, seen: Collection[Payment]) -> dict[str, list[Payment]]:
        rows: dict[str, list[Payment]] = {}
        for payment in seen:
            parts = parse_label(payment.label)
            if parts is not None and not wire.period(parts[0]) and parts[1] == self._me and fields.is_pubkey(parts[2]):
                rows.setdefault(payment.label, []).append(payment)
        return rows

    def _recognise(self, label: str, rows: list[Payment], found: Findings) -> None:
        period, payer, receiver = label.removeprefix(LABEL_PREFIX).split("/")
        entry = self._payments.live(period, payer, receiver)
        complete = [row for row in rows if row.status == "complete"]
        sats = (complete[0].amount_msat or 0) // 1000 if complete else 0
        shown = {"label": label, "period": period, "to_peer_id": receiver, "amount_sats": sats}
        if complete and entry is not None and entry.status == "completed":
            found.known.append(shown)
        elif complete:
            self._payments.recognise(
                period, Line(payer, receiver, sats), complete[0].payment_hash, "recognised", self._now()
            )
            found.recognised.append(shown)
        elif outcome(rows) == "pending":
            found.undecided.append({**shown, "reason": "it is under way in lightningd; ask again when it has ended"})
        else:
            found.unpaid.append({**shown, "reason": "every attempt failed"})

    def _judge(
        self,
        period: str,
        line: Line,
        seen: Collection[Payment],
        paid: Collection[str],
        unpaid: Collection[str],
        found: Findings,
    ) -> None:
        """Decide about a payment that lightningd does not know by its label."""
        label = label_of(period, line.from_peer_id, line.to_peer_id)
        entry = self._payments.live(period, line.from_peer_id, line.to_peer_id)
        shown = {"label": label, "period": period, "to_peer_id": line.to_peer_id, "amount_sats": line.amount_sats}
        if entry is not None and entry.status == "completed":
            found.known.append(shown)
        elif label in paid:
            self._payments.recognise(period, line, "", "confirmed", self._now())
            found.recognised.append({**shown, "reason": "the operator says so"})
        elif label in unpaid:
            found.unpaid.append({**shown, "reason": "the operator says so"})
        elif doubt := self._doubt(line, seen):
            found.undecided.append({**shown, "reason": f"{doubt}; say paid=<label> or unpaid=<label>"})
        else:
            found.unpaid.append({**shown, "reason": "lightningd knows no such payment"})

    def _doubt(self, line: Line, seen: Collection[Payment]) -> str:
        """Why a payment that lightningd does not know by its label may have been made all the same, or ""."""
        if self._restored is None:
            return ""
        made = int(self._restored.created_at)
        memory = self._wallet.memory_seconds()
        if memory is not None and self._now() - made > memory:
            return f"lightningd's autoclean forgets payments after {memory} s, and the backup is older"
        for payment in seen:
            fits = payment.amount_msat == line.amount_sats * 1000 and payment.status in ("complete", "pending")
            whom = payment.destination == line.to_peer_id or payment.bolt12
            # The monolith pays without a label.
            if fits and whom and not payment.label and payment.created_at >= made:
                return f"payment {payment.payment_hash} of {payment.created_at} has the same amount and no label"
        return ""

    def _check_labels(self, paid: Collection[str], unpaid: Collection[str]) -> None:
        for label in (*paid, *unpaid):
            parts = parse_label(label)
            if parts is None or parts[1] != self._me:
                raise InvalidParamsError(f"{label!r} is no label of a payment of this node; undecided lists them")
        if both := set(paid) & set(unpaid):
            raise InvalidParamsError(f"{min(both)} cannot be paid and unpaid")
