"""What settlement asks of lightningd: forwards, offers, invoices and payments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from hive_kit.errors import UnavailableError
from hive_kit.node import Node, RpcError

from cl_hive.services.amounts import msat

PaymentStatus = Literal["complete", "pending", "failed", "none"]
_SECONDS: Final = 10.0
_LIST_SECONDS: Final = 60.0
_FETCH_SECONDS: Final = 30
_PAY_SECONDS: Final = 150.0
INVALID_PARAMS: Final = -32602


class WalletError(Exception):
    """lightningd says no; the text says why. Nothing was paid."""


@dataclass(frozen=True)
class Invoice:
    """A BOLT 12 invoice as lightningd explains it."""

    text: str
    payment_hash: str
    amount_msat: int
    expires_at: int


@dataclass(frozen=True)
class Payment:
    """A row of listpays. `amount_msat` is None where lightningd does not say, as of a failed one."""

    payment_hash: str
    status: PaymentStatus
    label: str
    destination: str
    created_at: int
    amount_msat: int | None
    bolt12: bool


class Wallet:
    """Every call has a deadline. Only `pay` moves money."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def earned(self, begin: int, end: int) -> tuple[int, int]:
        """(sats earned, count) of the forwards that were settled in a time."""
        answer = self._node.call("listforwards", {"status": "settled"}, _LIST_SECONDS)
        rows = [
            row
            for row in answer["forwards"]
            if begin <= float(row.get("resolved_time") or row.get("received_time") or 0) < end
        ]
        return sum(msat(row.get("fee_msat")) for row in rows) // 1000, len(rows)

    def make_offer(self, description: str) -> str:
        """An offer of this node for any amount; the same description gives the same offer where the node is announced.

        Raises:
            WalletError: lightningd makes none.
            UnavailableError: it does not answer.
        """
        try:
            return str(self._node.call("offer", {"amount": "any", "description": description}, _SECONDS)["bolt12"])
        except RpcError as error:
            raise WalletError(f"lightningd makes no offer: {error.message}") from error

    def fetch_invoice(self, offer: str, amount_sats: int, note: str) -> Invoice:
        """Ask the member behind an offer for an invoice over exactly this amount.

        Raises:
            WalletError: it gives none, or another one than asked for.
            UnavailableError: lightningd does not answer.
        """
        wanted = {"offer": offer, "amount_msat": amount_sats * 1000, "timeout": _FETCH_SECONDS, "payer_note": note}
        try:
            text = str(self._node.call("fetchinvoice", wanted, _FETCH_SECONDS + _SECONDS)["invoice"])
            found = self._node.call("decode", {"string": text}, _SECONDS)
        except RpcError as error:
            raise WalletError(f"no invoice: {error.message}") from error
        invoice = Invoice(
            text,
            str(found.get("invoice_payment_hash", "")),
            msat(found.get("invoice_amount_msat")),
            int(found.get("invoice_created_at") or 0) + int(found.get("invoice_relative_expiry") or 7200),
        )
        if found.get("valid") is not True or not invoice.payment_hash:
            raise WalletError("the invoice is not valid")
        if invoice.amount_msat != amount_sats * 1000:
            raise WalletError(f"the invoice asks for {invoice.amount_msat} msat instead of {amount_sats * 1000}")
        return invoice

    def pay(self, invoice: str, label: str) -> PaymentStatus:
        """Pay an invoice. The same invoice is never paid twice by lightningd, however often it is asked.

        Raises:
            WalletError: lightningd gave up on it.
            UnavailableError: it did not answer: the payment may have been made.
        """
        try:
            try:
                answer = self._pay({"bolt11": invoice, "label": label})
            except RpcError as error:
                if error.code != INVALID_PARAMS:
                    raise
                # lightningd 26 calls the parameter otherwise; it refuses an unknown one before it looks at anything.
                answer = self._pay({"invstring": invoice, "label": label})
        except RpcError as error:
            raise WalletError(error.message) from error
        return "complete" if answer.get("status") == "complete" else "pending"

    def payments(self, payment_hash: str = "") -> list[Payment]:
        """What lightningd knows of payments, or of one.

        Raises:
            UnavailableError: it does not answer.
        """
        given = {"payment_hash": payment_hash} if payment_hash else {}
        try:
            rows = self._node.call("listpays", given, _LIST_SECONDS)["pays"]
        except RpcError as error:
            raise UnavailableError(f"lightningd does not list its payments: {error.message}") from error
        return [_payment(row) for row in rows]

    def memory_seconds(self) -> int | None:
        """After how many seconds lightningd forgets payments that arrived; None when it never does."""
        try:
            answer = self._node.call("autoclean-status", {"subsystem": "succeededpays"}, _SECONDS)
        except RpcError:
            return None  # no autoclean plugin, so nobody forgets
        found = (answer.get("autoclean") or {}).get("succeededpays") or {}
        return int(found.get("age") or 0) if found.get("enabled") else None

    def status(self, payment_hash: str) -> PaymentStatus:
        """What became of a payment: complete, pending, failed, or none when lightningd never heard of it.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        return outcome(self.payments(payment_hash))

    def _pay(self, params: dict[str, Any]) -> dict[str, Any]:
        return self._node.call("pay", params, _PAY_SECONDS)


def outcome(payments: Iterable[Payment]) -> PaymentStatus:
    """What attempts at the same thing amount to."""
    found = {payment.status for payment in payments}
    order: tuple[PaymentStatus, ...] = ("complete", "pending", "failed")
    return next((status for status in order if status in found), "none")


def _payment(row: dict[str, Any]) -> Payment:
    amount = row.get("amount_msat")
    status: PaymentStatus = row["status"]
    return Payment(
        str(row.get("payment_hash", "")),
        status,
        str(row.get("label") or ""),
        str(row.get("destination") or ""),
        int(row.get("created_at") or 0),
        None if amount is None else msat(amount),
        "bolt12" in row,
    )
