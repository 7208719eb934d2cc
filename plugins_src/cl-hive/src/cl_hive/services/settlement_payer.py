"""Pays what this node owes, each payment once. Runs beside the hive's thread, because a payment may take a minute.

Before money leaves, the journal holds the invoice. Until a payment is known to have failed there is never a second
invoice for the same period, payer and receiver, and lightningd pays one invoice once. So whatever dies in between,
asking again either finds the payment or makes it: never both. And before anything is paid, lightningd is asked for the
payments it made under the same labels: it knows them also when somebody put an older database in place by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hive_kit.errors import BusyError, UnavailableError

from cl_hive.protocol.settlement_plan import Line
from cl_hive.services.wallet import Payment, Wallet, WalletError, outcome
from cl_hive.storage.settlement_inputs import InputStore
from cl_hive.storage.settlement_payments import Entry, PaymentStore

LABEL_PREFIX: Final = "hive-settlement/"
# lightningd may still try an invoice for as long after its expiry as `pay` was told to retry.
GRACE_SECONDS: Final = 300


def label_of(period: str, payer: str, receiver: str) -> str:
    """The label under which lightningd remembers a payment."""
    return f"{LABEL_PREFIX}{period}/{payer}/{receiver}"


def parse_label(label: str) -> tuple[str, str, str] | None:
    """(period, payer, receiver) of a label, None when it is another's."""
    parts = label.removeprefix(LABEL_PREFIX).split("/")
    return (parts[0], parts[1], parts[2]) if label.startswith(LABEL_PREFIX) and len(parts) == 3 else None


@dataclass
class Outcome:
    """What became of each payment of a run."""

    executed: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)


class Payer:
    """One run at a time."""

    def __init__(
        self, me: str, payments: PaymentStore, inputs: InputStore, wallet: Wallet, now: Callable[[], int]
    ) -> None:
        self._me = me
        self._payments = payments
        self._inputs = inputs
        self._wallet = wallet
        self._now = now
        self._lock = threading.Lock()

    def pay(self, proposal_id: str, period: str, lines: Iterable[Line]) -> Outcome:
        """Pay what is not paid yet. Whoever calls has checked quorum, approval and that nothing is held.

        Raises:
            BusyError: another run is under way.
            UnavailableError: lightningd went away; what it was asked before is in the journal.
        """
        if not self._lock.acquire(blocking=False):
            raise BusyError("a settlement is being paid just now; ask again when it has ended")
        try:
            done = Outcome()
            seen = self._wallet.payments()
            for line in lines:
                self._line(proposal_id, period, line, seen, done)
            return done
        finally:
            self._lock.release()

    def look(self, entry: Entry) -> Entry | None:
        """Find out what became of a reserved payment. Returns it as it is now, None when it is known to have failed.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        status = self._wallet.status(entry.payment_hash)
        if status == "complete":
            self._payments.end(entry, "completed", self._now())
        elif status != "pending" and self._now() > entry.invoice_expires_at + GRACE_SECONDS:
            self._payments.end(entry, "failed", self._now(), "the invoice expired unpaid")
        return self._payments.live(entry.period, entry.from_peer_id, entry.to_peer_id)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _line(self, proposal_id: str, period: str, line: Line, seen: Sequence[Payment], done: Outcome) -> None:
        entry = self._payments.live(period, self._me, line.to_peer_id)
        if entry is None:
            self._find(proposal_id, period, line, seen)
            entry = self._payments.live(period, self._me, line.to_peer_id)
        if entry is not None and entry.status == "reserved":
            entry = self.look(entry)
            if entry is not None and entry.status == "reserved":
                if self._wallet.status(entry.payment_hash) == "pending":
                    done.errors.append({**entry.shown(), "reason": "it is under way in lightningd; ask again"})
                    return
                # The same invoice again: lightningd finishes what it began, or begins now.
                self._send(entry, done, known=False)
                return
        if entry is not None:
            self._skip(entry, line, done)
            return
        label = label_of(period, self._me, line.to_peer_id)
        if outcome(payment for payment in seen if payment.label == label) == "pending":
            done.errors.append(
                {"period": period, **line.document(), "reason": "it is under way in lightningd; ask again"}
            )
            return
        fresh = self._reserve(proposal_id, period, line, done)
        if fresh is not None:
            self._send(fresh, done, known=True)

    def _find(self, proposal_id: str, period: str, line: Line, seen: Sequence[Payment]) -> None:
        """Take over a payment that the journal does not know: lightningd's, by its label, or the monolith's."""
        label = label_of(period, self._me, line.to_peer_id)
        for payment in seen:
            if payment.label == label and payment.status == "complete":
                made = Line(self._me, line.to_peer_id, (payment.amount_msat or 0) // 1000)
                self._payments.recognise(period, made, payment.payment_hash, "recognised", self._now())
                return
        if paid := self._payments.paid_by_field(proposal_id, self._me, line.to_peer_id):
            self._payments.recognise(period, Line(self._me, line.to_peer_id, paid[0]), paid[1], "field", self._now())

    def _skip(self, entry: Entry, line: Line, done: Outcome) -> None:
        if entry.amount_sats == line.amount_sats:
            done.skipped.append({**entry.shown(), "reason": "already paid"})
            return
        reason = f"{entry.amount_sats} sats were paid for this period already, and the plan says {line.amount_sats}"
        done.errors.append({**entry.shown(), "reason": reason})

    def _reserve(self, proposal_id: str, period: str, line: Line, done: Outcome) -> Entry | None:
        offer = self._inputs.offer(line.to_peer_id)
        label = label_of(period, self._me, line.to_peer_id)
        try:
            if not offer:
                raise WalletError("the member has announced no offer to pay to")
            invoice = self._wallet.fetch_invoice(offer, line.amount_sats, label)
        except WalletError as error:
            done.errors.append({"period": period, **line.document(), "reason": str(error)})
            return None
        self._payments.reserve(
            proposal_id, period, line, invoice.text, invoice.payment_hash, invoice.expires_at, self._now()
        )
        return self._payments.live(period, self._me, line.to_peer_id)

    def _send(self, entry: Entry, done: Outcome, *, known: bool) -> None:
        """Pay a reserved invoice. `known`: nobody can have asked for this invoice before."""
        try:
            status = self._wallet.pay(entry.invoice, label_of(entry.period, entry.from_peer_id, entry.to_peer_id))
        except WalletError as error:
            status = self._wallet.status(entry.payment_hash)
            if known and status in ("failed", "none"):
                self._payments.end(entry, "failed", self._now(), str(error))
                done.errors.append({**entry.shown(), "status": "failed", "reason": str(error)})
                return
        except UnavailableError as error:
            done.errors.append({**entry.shown(), "reason": f"the end is not known yet: {error.message}"})
            return
        if status == "complete":
            self._payments.end(entry, "completed", self._now())
            done.executed.append({**entry.shown(), "status": "completed"})
            return
        done.errors.append({**entry.shown(), "reason": "the end is not known yet; ask again"})
