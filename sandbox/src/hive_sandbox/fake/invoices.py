"""Invoices of this node: making them, and taking what is paid to them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from . import bolt11, bolt12, onion
from .channel import Htlc
from .errors import INVOICE_LABEL_EXISTS, INVOICE_PREIMAGE_EXISTS, RpcError

if TYPE_CHECKING:
    from .node import Node

DEFAULT_EXPIRY_SECONDS = 604_800
_CURRENCY = "bcrt"


class Invoices:
    """The invoices, by label, kept in the database. `changed` is set anew with every payment."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.paid = asyncio.Condition()

    def listed(self) -> list[dict[str, Any]]:
        """Return the entries of listinvoices; what is past its time is expired."""
        entries = []
        for index, document in self.node.database.rows("SELECT id, document FROM invoices ORDER BY id"):
            entry: dict[str, Any] = {**json.loads(document), "created_index": index}
            if entry["status"] == "unpaid" and entry["expires_at"] < time.time():
                entry["status"] = "expired"
            entries.append({name: value for name, value in entry.items() if not name.startswith("_")})
        return entries

    def make(
        self,
        amount_msat: int | None,
        label: str,
        description: str,
        expiry: int,
        preimage: str | None,
        cltv: int,
        *,
        hash_only: bool,
    ) -> dict[str, Any]:
        """Make an invoice and return the reply of the command.

        Raises:
            RpcError: the label or the preimage is in use.
        """
        if any(entry["label"] == label for entry in self.listed()):
            raise RpcError(INVOICE_LABEL_EXISTS, f"Duplicate label '{label}'")
        key = preimage or secrets.token_hex(32)
        payment_hash = hashlib.sha256(bytes.fromhex(key)).hexdigest()
        if any(entry["payment_hash"] == payment_hash for entry in self.listed()):
            raise RpcError(INVOICE_PREIMAGE_EXISTS, "preimage already used")
        invoice = bolt11.Invoice(
            currency=_CURRENCY,
            amount_msat=amount_msat,
            created_at=int(time.time()),
            payment_hash=payment_hash,
            payment_secret=secrets.token_hex(32),
            description=None if hash_only else description,
            description_hash=hashlib.sha256(description.encode()).hexdigest() if hash_only else None,
            expiry=expiry,
            min_final_cltv=cltv,
        )
        text = bolt11.encode(invoice, self.node.keys)
        document: dict[str, Any] = {"label": label, "bolt11": text, "payment_hash": payment_hash}
        if amount_msat is not None:
            document["amount_msat"] = amount_msat
        document |= {
            "status": "unpaid",
            "description": description,
            "expires_at": invoice.expires_at,
            "_preimage": key,
            "_secret": invoice.payment_secret,
        }
        return {
            "payment_hash": payment_hash,
            "expires_at": invoice.expires_at,
            "bolt11": text,
            "payment_secret": invoice.payment_secret,
            "created_index": self._insert(document),
        }

    def make_for_offer(self, offer: bolt12.Offer, amount_msat: int, payer_id: str, note: str | None) -> bolt12.Invoice:
        """Make the invoice that somebody asked for by an offer of this node."""
        key, secret = secrets.token_hex(32), secrets.token_hex(32)
        payment_hash = hashlib.sha256(bytes.fromhex(key)).hexdigest()
        made = bolt12.make_invoice(
            self.node.keys, offer, payer_id, note, amount_msat, (payment_hash, secret), int(time.time())
        )
        document: dict[str, Any] = {
            "label": f"{offer.offer_id}-{payer_id}-{payment_hash[:8]}",
            "bolt12": made.text,
            "local_offer_id": offer.offer_id,
            "payment_hash": payment_hash,
            "amount_msat": amount_msat,
            "status": "unpaid",
            "description": offer.description,
            "expires_at": made.expires_at,
            "_preimage": key,
            "_secret": secret,
        }
        if note is not None:
            document["invreq_payer_note"] = note
        self._insert(document)
        return made

    def _insert(self, document: dict[str, Any]) -> int | None:
        with self.node.database.transaction() as connection:
            return connection.execute(
                "INSERT INTO invoices (payment_hash, label, document) VALUES (?, ?, ?)",
                (document["payment_hash"], document["label"], json.dumps(document)),
            ).lastrowid

    def delete(self, label: str) -> None:
        """Forget an invoice."""
        with self.node.database.transaction() as connection:
            connection.execute("DELETE FROM invoices WHERE label = ?", (label,))

    async def accept(self, htlc: Htlc, layer: dict[str, Any]) -> dict[str, Any]:
        """Return the outcome of an HTLC that ends here: the preimage when it pays an invoice."""
        rows = self.node.database.rows("SELECT document FROM invoices WHERE payment_hash = ?", htlc.payment_hash)
        refused = onion.failure(onion.UNKNOWN_PAYMENT, self.node.keys.node_id)
        if not rows:
            return refused
        document = json.loads(rows[0][0])
        wanted = document.get("amount_msat")
        fits = wanted is None or wanted <= htlc.amount_msat <= 2 * wanted
        open_still = document["status"] == "unpaid" and document["expires_at"] >= time.time()
        if not fits or not open_still or layer.get("payment_secret") != document["_secret"]:
            return refused
        preimage = document["_preimage"]
        payment = {"label": document["label"], "preimage": preimage, "msat": htlc.amount_msat}
        answer = await self.node.hooks.call("invoice_payment", {"payment": payment})
        if answer.get("result") != "continue":
            return refused
        self._settle(document, htlc.amount_msat)
        self.node.topics.publish(
            "invoice_payment", {"msat": htlc.amount_msat, "preimage": preimage, "label": document["label"]}
        )
        async with self.paid:
            self.paid.notify_all()
        return {"preimage": preimage}

    def _settle(self, document: dict[str, Any], amount_msat: int) -> None:
        number, _ = self.node.database.variable("next_pay_index")
        document |= {
            "status": "paid",
            "pay_index": number,
            "amount_received_msat": amount_msat,
            "paid_at": int(time.time()),
            "payment_preimage": document["_preimage"],
            "updated_index": number,
        }
        with self.node.database.transaction() as connection:
            connection.execute("UPDATE vars SET intval = intval + 1 WHERE name = 'next_pay_index'")
            connection.execute(
                "UPDATE invoices SET document = ? WHERE payment_hash = ?",
                (json.dumps(document), document["payment_hash"]),
            )
