"""Money in the simulated network: offers, invoices and payments of its nodes, and deaths in the middle of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hive_kit.node import RpcError

_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
EXPIRY_SECONDS: Final = 7200


class KilledError(BaseException):
    """The plugin's process died here; nothing of it catches this."""


@dataclass
class Bill:
    """An invoice anywhere in the network."""

    payee: str
    amount_msat: int
    payment_hash: str
    created_at: int
    paid: bool = False


@dataclass
class Ledger:
    """What all wallets share. `paid` lists every movement of money: payer, payee, sats."""

    now: Callable[[], int]
    bills: dict[str, Bill] = field(default_factory=dict)
    offers: dict[str, str] = field(default_factory=dict)
    paid: list[tuple[str, str, int]] = field(default_factory=list)


def _text(prefix: str, *parts: object) -> str:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return prefix + "1" + "".join(_BECH32[byte % 32] for byte in digest)


class SimWallet:
    """The part of one lightningd that pays. It outlives the plugin, and is never restored."""

    def __init__(self, node_id: str, ledger: Ledger) -> None:
        self.node_id = node_id
        self.ledger = ledger
        self.pays: list[dict[str, Any]] = []
        self.forwards: list[dict[str, Any]] = []
        # Called with the parameters before and after a method does its work; may raise.
        self.before: dict[str, Callable[[dict[str, Any]], None]] = {}
        self.after: dict[str, Callable[[dict[str, Any]], None]] = {}
        # What becomes of the next payments: complete, pending or failed.
        self.ending = "complete"
        self.parameter = "bolt11"
        self.autoclean: dict[str, Any] = {"enabled": False}

    def methods(self) -> Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]:
        """The commands."""
        own = {
            "listforwards": lambda _: {"forwards": list(self.forwards)},
            "offer": self._offer,
            "fetchinvoice": self._fetch,
            "decode": self._decode,
            "pay": self._pay,
            "listpays": self._list,
            "autoclean-status": lambda _: {"autoclean": {"succeededpays": self.autoclean}},
        }
        return {name: self._watched(name, work) for name, work in own.items()}

    def earn(self, moment: int, sats: int, forwards: int) -> None:
        """Let the node have forwarded, and earned this much in all."""
        for number in range(forwards):
            share = sats * 1000 // forwards + (sats * 1000 % forwards if number == 0 else 0)
            self.forwards.append({"status": "settled", "fee_msat": share, "resolved_time": moment + number / 10})

    def finish(self, status: str) -> None:
        """End the payments that are under way."""
        for row in self.pays:
            if row["status"] == "pending":
                row["status"] = status
                if status == "complete":
                    self._move(row)

    def _watched(
        self, name: str, work: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        def run(params: dict[str, Any]) -> dict[str, Any]:
            if name in self.before:
                self.before[name](params)
            answer = work(params)
            if name in self.after:
                self.after[name](params)
            return answer

        return run

    def _offer(self, params: dict[str, Any]) -> dict[str, Any]:
        text = _text("lno", self.node_id, params["description"])
        self.ledger.offers[text] = self.node_id
        return {"bolt12": text, "active": True, "created": True}

    def _fetch(self, params: dict[str, Any]) -> dict[str, Any]:
        payee = self.ledger.offers.get(params["offer"])
        if payee is None:
            raise RpcError("fetchinvoice", 1003, "Could not find route to offer issuer")
        text = _text("lni", payee, params["amount_msat"], params["payer_note"], len(self.ledger.bills))
        payment_hash = hashlib.sha256(text.encode()).hexdigest()
        self.ledger.bills[text] = Bill(payee, params["amount_msat"], payment_hash, self.ledger.now())
        return {"invoice": text, "changes": {}}

    def _decode(self, params: dict[str, Any]) -> dict[str, Any]:
        bill = self.ledger.bills[params["string"]]
        return {
            "type": "bolt12 invoice",
            "valid": True,
            "invoice_payment_hash": bill.payment_hash,
            "invoice_amount_msat": bill.amount_msat,
            "invoice_created_at": bill.created_at,
            "invoice_relative_expiry": EXPIRY_SECONDS,
        }

    def _pay(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.parameter not in params:
            raise RpcError("pay", -32602, f"missing required parameter: {self.parameter}")
        bill = self.ledger.bills[params[self.parameter]]
        for row in self.pays:
            if row["payment_hash"] == bill.payment_hash and row["status"] != "failed":
                return row
        if self.ledger.now() > bill.created_at + EXPIRY_SECONDS:
            raise RpcError("pay", 207, "Invoice expired")
        row = {
            "payment_hash": bill.payment_hash,
            "label": params["label"],
            "status": self.ending,
            "amount_msat": bill.amount_msat,
            "destination": bill.payee,
            "created_at": self.ledger.now(),
            "bolt12": params[self.parameter],
        }
        self.pays.append(row)
        if self.ending == "complete":
            self._move(row)
        if self.ending == "failed":
            raise RpcError("pay", 205, "Could not find a route")
        return row

    def _move(self, row: dict[str, Any]) -> None:
        bill = self.ledger.bills[row["bolt12"]]
        if bill.paid:
            raise AssertionError(f"{row['label']} would be paid twice by one invoice")
        bill.paid = True
        self.ledger.paid.append((self.node_id, bill.payee, bill.amount_msat // 1000))

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("payment_hash")
        return {"pays": [dict(row) for row in self.pays if wanted in (None, row["payment_hash"])]}
