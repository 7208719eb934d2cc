"""Money that leaves on behalf of advisors: limits first, then a reservation, then the payment, then the books.

A payment is known by (advisor, nonce). It is written down as reserved before lightningd hears of it, and counts as
spent until it is known to have failed. Whoever dies in between leaves a reservation; `resolve` asks lightningd.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hive_kit.errors import ConflictError, InvalidParamsError, LimitError, RefusedError, UnavailableError
from hive_kit.node import Node, RpcError
from hive_kit.options import Options
from hive_kit.store import Store

from cl_hive_comms import options as names
from cl_hive_comms.services.receipt_service import PLUGIN, ReceiptService
from cl_hive_comms.services.restore_service import RestoreService
from cl_hive_comms.services.sendpays import COMPLETE, NONE, Sent, label_of, sats_of, sent_by_label, sent_for
from cl_hive_comms.storage.advisor_store import Advisor
from cl_hive_comms.storage.spending_store import (
    BY_PAY,
    BY_RECOUNT,
    FAILED,
    PAID,
    RESERVED,
    Spend,
    SpendingStore,
)

SCHEMA = "hive:payments/v1"
KINDS = ("bolt11", "bolt12", "l402", "cashu")
_RETRY_SECONDS = 60  # lightningd's own default; it goes on so long even when nobody listens any more
_GIVE_UP_SECONDS = 120.0
_UNKNOWN_PARAMETER = -32602
_LOG = logging.getLogger("cl-hive-comms")


@dataclass(frozen=True)
class Quote:
    """What an invoice asks for. `send_msat` is the amount to name to lightningd, for invoices that name none."""

    bolt11: str
    payment_hash: str
    amount_msat: int
    send_msat: int | None

    @property
    def amount_sats(self) -> int:
        """Rounded up."""
        return sats_of(self.amount_msat)

    @property
    def fee_msat(self) -> int:
        """The highest fee: half a percent, at least 5 satoshis, as lightningd's own default."""
        return max(5_000, self.amount_msat // 200)


class SpendingService:
    """Pays, records and counts."""

    def __init__(
        self,
        store: Store,
        spending: SpendingStore,
        receipts: ReceiptService,
        restore: RestoreService,
        options: Options,
        node: Node,
        now: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: clock: measures how long a payment is missing; not the wall clock, which may jump."""
        self._store = store
        self._spending = spending
        self._receipts = receipts
        self._restore = restore
        self._options = options
        self._node = node
        self._now = now
        self.clock = clock
        self._lock = threading.Lock()
        self._sending: set[tuple[str, int]] = set()
        self._missing_since: dict[tuple[str, int], float] = {}
        self._counted_at: float | None = None

    # -- limits -------------------------------------------------------------------------------------------------------

    def check_limits(self, advisor: Advisor, sats: int) -> None:
        """Refuse what would go beyond a limit. Call it in the transaction that writes the payment.

        Raises:
            RestoredError: it is not known what was spent.
            LimitError: the sentence names the limit; data has its numbers.
        """
        self._restore.check_spend()
        now = self._now()
        every, own = self._spending.sums(now), self._spending.sums(now, advisor.advisor_id)
        option = self._options.number(names.PER_ADVISOR_LIMIT)
        per_advisor, where = option, names.PER_ADVISOR_LIMIT
        if 0 < advisor.daily_limit_sats < option:
            per_advisor, where = advisor.daily_limit_sats, "the advisor's own daily_limit_sats"
        self._check("daily", where, per_advisor, own["day_sats"], sats)
        self._check("daily", names.DAILY_LIMIT, self._options.number(names.DAILY_LIMIT), every["day_sats"], sats)
        self._check("weekly", names.WEEKLY_LIMIT, self._options.number(names.WEEKLY_LIMIT), every["week_sats"], sats)

    @staticmethod
    def _check(period: str, where: str, limit: int, spent: int, sats: int) -> None:
        if spent + sats > limit:
            spent_key = "spent_today_sats" if period == "daily" else "spent_week_sats"
            raise LimitError(
                f"{period} limit exceeded: {spent} of {limit} sats are spent and {sats} are asked for; "
                f"wait, or raise {where}",
                **{"limit": where, f"{period}_limit_sats": limit, spent_key: spent, "requested_sats": sats},
            )

    def summary(self) -> dict[str, Any]:
        """{limits, spent{total_sats, day_sats, week_sats}, left{day_sats, week_sats}, in_flight_sats}."""
        spent = self._spending.sums(self._now())
        day, week = self._options.number(names.DAILY_LIMIT), self._options.number(names.WEEKLY_LIMIT)
        return {
            "limits": {
                "day_sats": day,
                "week_sats": week,
                "per_advisor_day_sats": self._options.number(names.PER_ADVISOR_LIMIT),
            },
            "spent": spent,
            "left": {"day_sats": max(0, day - spent["day_sats"]), "week_sats": max(0, week - spent["week_sats"])},
            "in_flight_sats": self._spending.open_sats(),
        }

    def sums(self, advisor_id: str = "") -> dict[str, int]:
        """{total_sats, day_sats, week_sats}, of all or of one advisor."""
        return self._spending.sums(self._now(), advisor_id)

    def history(self, limit: int, advisor_id: str = "") -> list[dict[str, Any]]:
        """Payments, the newest first."""
        return self._spending.history(limit, advisor_id)

    # -- recording what others paid -----------------------------------------------------------------------------------

    def record(self, advisor: Advisor, amount_sats: int, kind: str, note: str) -> tuple[str, int]:
        """Write down a payment made elsewhere; it counts like our own. Gives (payment id, receipt id).

        Raises:
            RestoredError, LimitError: see `check_limits`.
        """
        payment_id = secrets.token_hex(16)
        with self._store.atomic():
            self.check_limits(advisor, amount_sats)
            self._spending.record(payment_id, advisor.advisor_id, amount_sats, kind, note, self._now())
            receipt = self._receipts.write(
                SCHEMA,
                "record",
                {"advisor_id": advisor.advisor_id, "amount_sats": amount_sats, "kind": kind, "note": note},
                {"payment_id": payment_id},
            )
        return payment_id, receipt

    # -- paying -------------------------------------------------------------------------------------------------------

    def known(self, advisor: Advisor, nonce: int, bolt11: str) -> dict[str, Any] | None:
        """What became of the payment of this advisor and nonce; None when there was none.

        Raises:
            ConflictError: the nonce stands for another invoice, or its payment failed.
            UnavailableError: its outcome is not known yet.
        """
        spend = self._spending.find(advisor.advisor_id, nonce)
        if spend is None:
            return None
        if spend.bolt11 not in ("", bolt11):
            raise ConflictError(f"nonce {nonce} of this advisor was used for another invoice; use a new one")
        if spend.status == FAILED:
            raise ConflictError(f"the payment of nonce {nonce} failed and nothing left; use a new nonce to try again")
        if spend.status == RESERVED:
            raise _open(nonce)
        return _paid(spend, repeated=True)

    def quote(self, bolt11: str, amount_sats: int) -> Quote:
        """What an invoice asks for, and that lightningd does not pay it already.

        Args:
            bolt11: the invoice.
            amount_sats: for an invoice without an amount; else 0, or the same amount.

        Raises:
            InvalidParamsError: it is no invoice, or the amount does not fit.
            ConflictError: it is paid, or under way.
            UnavailableError: lightningd does not answer.
        """
        try:
            decoded = self._node.call("decode", {"string": bolt11})
        except RpcError as error:
            raise InvalidParamsError(f"bolt11: lightningd does not understand it: {error.message}") from error
        if decoded.get("type") != "bolt11 invoice" or decoded.get("valid") is not True:
            raise InvalidParamsError("bolt11: it is no valid BOLT 11 invoice")
        asked = decoded.get("amount_msat")
        if asked is None and amount_sats == 0:
            raise InvalidParamsError("amount_sats is required: the invoice names no amount")
        if asked is not None and amount_sats not in (0, sats_of(int(asked))):
            raise InvalidParamsError(f"amount_sats: the invoice asks for {sats_of(int(asked))}, not {amount_sats}")
        payment_hash = str(decoded["payment_hash"])
        if self._spending.by_hash(payment_hash) is not None or sent_for(self._node, payment_hash).state != NONE:
            raise ConflictError("this invoice is paid, or its payment is under way; hive-client-payments history")
        amount = amount_sats * 1_000 if asked is None else int(asked)
        return Quote(bolt11, payment_hash, amount, amount if asked is None else None)

    def reserve(self, advisor: Advisor, nonce: int, quote: Quote, note: str) -> Spend:
        """Write a payment down before it is made, with the highest fee. `send` it once the transaction is committed.

        Raises:
            RestoredError, LimitError: see `check_limits`.
            ConflictError: somebody else was faster with this nonce or this invoice.
        """
        counted = sats_of(quote.amount_msat + quote.fee_msat)
        with self._store.atomic():
            if self._spending.find(advisor.advisor_id, nonce) or self._spending.by_hash(quote.payment_hash):
                raise ConflictError("this nonce or this invoice is in use already; hive-client-payments history")
            self.check_limits(advisor, counted)
            spend = Spend(
                advisor.advisor_id,
                nonce,
                quote.payment_hash,
                quote.bolt11,
                quote.amount_sats,
                counted,
                RESERVED,
                BY_PAY,
                note,
                self._now(),
            )
            self._spending.save(spend)
            self._write_receipt("reserve", spend, "")
            with self._lock:
                self._sending.add((spend.advisor_id, spend.nonce))
        return spend

    def send(self, spend: Spend, quote: Quote) -> dict[str, Any]:
        """Pay what was reserved, and write down what became of it.

        Raises:
            UnavailableError: the outcome is not known; it counts as spent until it is.
            RefusedError: the payment failed and nothing left.
        """
        try:
            reply = self._pay(spend, quote)
        except UnavailableError as error:
            raise _open(spend.nonce) from error
        except RpcError as error:
            return self._after_refusal(spend, error)
        finally:
            with self._lock:
                self._sending.discard((spend.advisor_id, spend.nonce))
        sent = Sent()
        sent.add(reply)
        return self._settle(spend, sent)

    def _pay(self, spend: Spend, quote: Quote) -> dict[str, Any]:
        params: dict[str, Any] = {
            "label": label_of(spend.advisor_id, spend.nonce),
            "maxfee": quote.fee_msat,
            "retry_for": _RETRY_SECONDS,
        }
        if quote.send_msat is not None:
            params["amount_msat"] = quote.send_msat
        timeout = _RETRY_SECONDS + 30.0
        try:
            return self._node.call("pay", {"bolt11": quote.bolt11, **params}, timeout)
        except RpcError as error:
            if error.code != _UNKNOWN_PARAMETER:
                raise
            # v26.06 calls it invstring. A call that was refused for its parameters has sent nothing.
            return self._node.call("pay", {"invstring": quote.bolt11, **params}, timeout)

    def _after_refusal(self, spend: Spend, error: RpcError) -> dict[str, Any]:
        # `pay` gives up while a part of it may still be under way, so its error alone decides nothing.
        sent = sent_for(self._node, spend.payment_hash)
        if sent.state == NONE:
            self._release(spend, error.message)
            raise RefusedError(f"the payment failed and nothing left: {error.message}; use a new nonce to try again")
        return self._settle(spend, sent)

    def _settle(self, spend: Spend, sent: Sent) -> dict[str, Any]:
        if sent.state != COMPLETE:
            raise _open(spend.nonce)
        paid = replace(spend, status=PAID, counted_sats=sent.sats, settled_at=self._now())
        self._close("pay", paid, "")
        return _paid(paid, repeated=False)

    def _release(self, spend: Spend, reason: str) -> None:
        self._close("release", replace(spend, status=FAILED, settled_at=self._now()), reason)

    def _close(self, action: str, ended: Spend, reason: str) -> None:
        with self._store.atomic():
            now = self._spending.find(ended.advisor_id, ended.nonce)
            if now is not None and now.status == RESERVED:  # else `send` and `resolve` met, and one has done it
                self._spending.save(ended)
                self._write_receipt(action, ended, reason)

    # -- what was left open, and what a restore forgot ----------------------------------------------------------------

    def resolve(self) -> None:
        """Ask lightningd about every payment whose outcome is not known and that nobody sends now.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        for spend in self._spending.open():
            with self._lock:
                if (spend.advisor_id, spend.nonce) in self._sending:
                    continue
            with self._receipts.acting(PLUGIN):
                self._resolve(spend, sent_for(self._node, spend.payment_hash))

    def _resolve(self, spend: Spend, sent: Sent) -> None:
        key = (spend.advisor_id, spend.nonce)
        if sent.state == NONE:
            if self._missing_for(key) < _GIVE_UP_SECONDS:
                return
            self._release(spend, "lightningd never sent it")
        elif sent.state == COMPLETE:
            self._settle(spend, sent)
        self._missing_since.pop(key, None)

    def _missing_for(self, key: tuple[str, int]) -> float:
        # Not at once: a `pay` between two attempts has no part under way, and it goes on though its caller died.
        return self.clock() - self._missing_since.setdefault(key, self.clock())

    def recount(self) -> None:
        """After a restore: write back in what lightningd paid for advisors and the restored data does not know.

        Twice: at once, and again when no `pay` from before the restore can be at work any more. One that was between
        two attempts at the first time has no part that lightningd could list.

        Raises:
            UnavailableError: lightningd does not answer; nothing is changed.
        """
        first = self._restore.recount_due
        if first or self._counted_at is None:
            self._counted_at = self.clock()
        final = self.clock() - self._counted_at >= _GIVE_UP_SECONDS
        if not first and not final:
            return
        try:
            sent = sent_by_label(self._node)
        except UnavailableError as error:
            self._restore.recount_error = error.message
            raise
        with self._receipts.acting(PLUGIN), self._store.atomic():
            missing = [spend for key, parts in sent.items() if (spend := self._unknown(key, parts)) is not None]
            for spend in missing:
                self._spending.save(spend)
                self._write_receipt("recount", spend, "paid after the backup was made")
            self._restore.recounted(len(missing), sum(spend.counted_sats for spend in missing), final=final)
        self._restore.recount_error = ""
        _LOG.info("counted the spend anew after a restore: %d payments were missing", len(missing))

    def _unknown(self, key: tuple[str, int], sent: Sent) -> Spend | None:
        known = self._spending.find(*key)
        if known is not None and known.status != FAILED:
            return None  # counted already; `resolve` ends what is open
        complete = sent.state == COMPLETE
        return Spend(
            *key,
            payment_hash=sent.payment_hash,
            bolt11=sent.bolt11,
            amount_sats=sent.delivered_sats,
            counted_sats=sent.sats,
            status=PAID if complete else RESERVED,
            source=BY_RECOUNT,
            note="",
            created_at=sent.created_at,
            settled_at=self._now() if complete else 0,
        )

    def _write_receipt(self, action: str, spend: Spend, reason: str) -> None:
        self._receipts.write(
            SCHEMA,
            action,
            {
                "advisor_id": spend.advisor_id,
                "nonce": spend.nonce,
                "payment_hash": spend.payment_hash,
                "amount_sats": spend.amount_sats,
                "note": spend.note,
            },
            {"status": spend.status, "counted_sats": spend.counted_sats, "reason": reason},
        )


def _open(nonce: int) -> UnavailableError:
    return UnavailableError(
        f"the outcome of the payment of nonce {nonce} is not known yet; it counts as spent until it is, and is never "
        "sent again: look at hive-client-payments history",
        nonce=nonce,
    )


def _paid(spend: Spend, *, repeated: bool) -> dict[str, Any]:
    return {
        "payment_id": label_of(spend.advisor_id, spend.nonce),
        "advisor_id": spend.advisor_id,
        "nonce": spend.nonce,
        "payment_hash": spend.payment_hash,
        "amount_sats": spend.amount_sats,
        "spent_sats": spend.counted_sats,
        "kind": "bolt11",
        "status": spend.status,
        "repeated": repeated,
    }
