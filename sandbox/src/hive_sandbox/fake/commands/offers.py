"""Commands of BOLT 12, and `decode`, which explains both kinds of invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import bolt11, bolt12
from ..errors import INVALID_PARAMS, RpcError
from ..params import Param, anything, bad_param, boolean, decimal, hash32, msat, number, string
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_FETCH_SECONDS = 60
_REFUSED_OFFER = ("quantity_max", "absolute_expiry", "recurrence", "recurrence_base", "recurrence_paywindow")


def _amount_or_any(value: Any) -> int | None:
    return None if value == "any" else msat(value)


def _flag_that_is_off(value: Any) -> bool:
    if boolean(value):
        raise RpcError(INVALID_PARAMS, "the sandbox's fake lightningd makes only offers that can be used many times")
    return False


@command(
    "offer",
    Param("amount", _amount_or_any),
    Param("description", string, ""),
    Param("issuer", string, None),
    Param("label", string, None),
    *(Param(name, anything, None) for name in _REFUSED_OFFER),
    Param("recurrence_limit", anything, None),
    Param("single_use", _flag_that_is_off, False),
)
async def offer(node: Node, request: Request) -> Result:
    """Make an offer, or return the one that was made."""
    args = request.args
    asked = [name for name in (*_REFUSED_OFFER, "recurrence_limit") if args[name] is not None]
    if asked:
        raise RpcError(INVALID_PARAMS, f"{asked[0]}: the sandbox's fake lightningd does not do this")
    entry, created = node.offers.make(args["amount"], args["description"], args["issuer"], args["label"])
    return {**entry, "created": created}


@command("listoffers", Param("offer_id", hash32, None), Param("active_only", boolean, False))
async def listoffers(node: Node, request: Request) -> Result:
    """Return the offers."""
    args = request.args
    return {
        "offers": [
            {**entry, "description": bolt12.read_offer(entry["bolt12"]).description}
            for entry in node.offers.listed()
            if args["offer_id"] in (None, entry["offer_id"]) and (entry["active"] or not args["active_only"])
        ]
    }


@command("disableoffer", Param("offer_id", hash32))
async def disableoffer(node: Node, request: Request) -> Result:
    """Take an offer back."""
    entry = node.offers.disable(request.args["offer_id"])
    if entry is None:
        raise bad_param("offer_id", "Unknown offer")
    return entry


@command(
    "fetchinvoice",
    Param("offer", string),
    Param("amount_msat", msat, None),
    Param("quantity", number, None),
    Param("recurrence_counter", number, None),
    Param("recurrence_start", decimal, None),
    Param("recurrence_label", string, None),
    Param("timeout", decimal, _FETCH_SECONDS),
    Param("payer_note", string, None),
    Param("payer_metadata", string, None),
    Param("bip353", string, None),
)
async def fetchinvoice(node: Node, request: Request) -> Result:
    """Ask the node behind an offer for an invoice."""
    args = request.args
    try:
        wanted = bolt12.read_offer(args["offer"])
    except ValueError as error:
        raise bad_param("offer", f"Unparsable offer: {error}") from None
    amount = wanted.amount_msat if args["amount_msat"] is None else args["amount_msat"]
    if amount is None:
        raise RpcError(INVALID_PARAMS, "msatoshi parameter required")
    invoice = await node.offers.fetch(wanted, amount, args["payer_note"], args["timeout"])
    changes = {"amount_msat": invoice.amount_msat} if invoice.amount_msat != amount else {}
    return {"invoice": invoice.text, "changes": changes}


@command("decode", Param("string", string))
async def decode(node: Node, request: Request) -> Result:
    """Explain an invoice or an offer."""
    del node
    text = request.args["string"].lower()
    try:
        if text.startswith("lno1"):
            return _offer(bolt12.read_offer(text))
        if text.startswith("lni1"):
            return _invoice(bolt12.read_invoice(text))
        found = bolt11.decode(text)
    except ValueError as error:
        raise bad_param("string", str(error)) from None
    result: Result = {
        "type": "bolt11 invoice",
        "currency": found.currency,
        "created_at": found.created_at,
        "expiry": found.expiry,
        "payee": found.payee,
        "amount_msat": found.amount_msat,
        "description": found.description,
        "description_hash": found.description_hash,
        "min_final_cltv_expiry": found.min_final_cltv,
        "payment_secret": found.payment_secret,
        "features": found.features,
        "payment_hash": found.payment_hash,
        "signature": found.signature,
        "valid": True,
    }
    return {name: value for name, value in result.items() if value is not None}


def _offer(found: bolt12.Offer) -> Result:
    result: Result = {
        "type": "bolt12 offer",
        "offer_id": found.offer_id,
        "offer_chains": [bolt12.REGTEST.hex()],
        "offer_description": found.description,
        "offer_amount_msat": found.amount_msat,
        "offer_issuer": found.issuer,
        "offer_issuer_id": found.issuer_id,
        "valid": True,
    }
    return {name: value for name, value in result.items() if value is not None}


def _invoice(found: bolt12.Invoice) -> Result:
    records = found.records
    note = records.get(bolt12.PAYER_NOTE)
    result: Result = {
        "type": "bolt12 invoice",
        "offer_id": found.offer_id,
        "offer_chains": [bolt12.REGTEST.hex()],
        "offer_description": records.get(bolt12.DESCRIPTION, b"").decode("utf-8", "replace"),
        "offer_issuer_id": records[bolt12.ISSUER_ID].hex(),
        "invreq_metadata": records[bolt12.INVREQ_METADATA].hex(),
        "invreq_payer_id": records[bolt12.PAYER_ID].hex(),
        "invreq_amount_msat": int.from_bytes(records[bolt12.INVREQ_AMOUNT], "big"),
        "invreq_payer_note": None if note is None else note.decode("utf-8", "replace"),
        "invoice_paths": [],
        "invoice_created_at": found.created_at,
        "invoice_relative_expiry": found.expiry,
        "invoice_payment_hash": found.payment_hash,
        "invoice_amount_msat": found.amount_msat,
        "invoice_node_id": found.payee,
        "signature": records[bolt12.SIGNATURE].hex(),
        "valid": True,
    }
    return {name: value for name, value in result.items() if value is not None}
