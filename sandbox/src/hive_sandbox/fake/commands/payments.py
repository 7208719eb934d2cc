"""Commands about invoices and payments."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .. import bolt11, bolt12
from ..errors import (
    INVALID_PARAMS,
    INVOICE_EXPIRED_WAIT,
    INVOICE_NOT_FOUND,
    INVOICE_STATUS_UNEXPECTED,
    INVOICE_WAIT_TIMED_OUT,
    LIGHTNINGD,
    PAY_INVOICE_EXPIRED,
    PAY_ROUTE_NOT_FOUND,
    RpcError,
)
from ..invoices import DEFAULT_EXPIRY_SECONDS
from ..params import (
    Param,
    anything,
    bad_param,
    boolean,
    decimal,
    hash32,
    list_of,
    msat,
    node_id,
    number,
    one_of,
    string,
)
from ..routes import Hop
from .channels import indexed
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_INDEX = one_of("unrecognized index", "created", "updated")
_NO_SUCH_PAYMENT = 208
_WAIT_TIMED_OUT = 200
_FAILED_AT_DESTINATION, _FAILED_ON_ROUTE = 203, 204
_LISTED_PAGE = (Param("index", _INDEX, None), Param("start", number, 0), Param("limit", number, None))
_STATUS = one_of("should be 'pending', 'complete' or 'failed'", "pending", "complete", "failed")


def _amount_or_any(value: Any) -> int | None:
    return None if value == "any" else msat(value)


@command(
    "invoice",
    Param("amount_msat", _amount_or_any),
    Param("label", string),
    Param("description", string),
    Param("expiry", number, DEFAULT_EXPIRY_SECONDS),
    Param("fallbacks", anything, None),
    Param("preimage", hash32, None),
    Param("exposeprivatechannels", anything, None),
    Param("cltv", number, None),
    Param("deschashonly", boolean, False),
)
async def invoice(node: Node, request: Request) -> Result:
    """Make an invoice."""
    args = request.args
    cltv = node.options.value("cltv-final") if args["cltv"] is None else args["cltv"]
    made = node.invoices.make(
        args["amount_msat"],
        args["label"],
        args["description"],
        args["expiry"],
        args["preimage"],
        cltv,
        hash_only=args["deschashonly"],
    )
    if not any(channel.receivable_msat for channel in node.channels.by_id.values()):
        made["warning_capacity"] = "Insufficient incoming channel capacity to pay invoice"
    return made


@command(
    "listinvoices",
    Param("label", string, None),
    Param("invstring", string, None),
    Param("payment_hash", hash32, None),
    Param("offer_id", hash32, None),
    *_LISTED_PAGE,
)
async def listinvoices(node: Node, request: Request) -> Result:
    """Return all invoices, or one."""
    args = request.args
    if sum(args[name] is not None for name in ("label", "invstring", "payment_hash", "offer_id")) > 1:
        raise RpcError(INVALID_PARAMS, "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}")
    rows = [
        row
        for row in node.invoices.listed()
        if args["label"] in (None, row["label"])
        and args["invstring"] in (None, row.get("bolt11"), row.get("bolt12"))
        and args["payment_hash"] in (None, row["payment_hash"])
        and args["offer_id"] in (None, row.get("local_offer_id"))
    ]
    return {"invoices": indexed(rows, args)}


@command(
    "delinvoice",
    Param("label", string),
    Param("status", one_of("should be 'expired', 'paid' or 'unpaid'", "expired", "paid", "unpaid")),
    Param("desconly", boolean, False),
)
async def delinvoice(node: Node, request: Request) -> Result:
    """Forget an invoice in a given status."""
    found = _labelled(node, request.args["label"], RpcError(INVOICE_NOT_FOUND, "Unknown invoice"))
    if found["status"] != request.args["status"]:
        raise RpcError(
            INVOICE_STATUS_UNEXPECTED,
            f"Invoice status is {found['status']} not {request.args['status']}",
            {"current_status": found["status"], "expected_status": request.args["status"]},
        )
    node.invoices.delete(found["label"])
    return found


def _labelled(node: Node, label: str, missing: RpcError) -> Result:
    found = next((row for row in node.invoices.listed() if row["label"] == label), None)
    if found is None:
        raise missing
    return found


@command("waitinvoice", Param("label", string))
async def waitinvoice(node: Node, request: Request) -> Result:
    """Wait until an invoice is paid or expired."""
    while True:
        found = _labelled(node, request.args["label"], RpcError(LIGHTNINGD, "Label not found"))
        if found["status"] == "paid":
            return found
        if found["status"] == "expired":
            raise RpcError(INVOICE_EXPIRED_WAIT, "Invoice expired during wait", found)
        try:
            async with asyncio.timeout(max(0.1, found["expires_at"] - time.time())), node.invoices.paid:
                await node.invoices.paid.wait()
        except TimeoutError:
            continue


@command("waitanyinvoice", Param("lastpay_index", number, 0), Param("timeout", number, None))
async def waitanyinvoice(node: Node, request: Request) -> Result:
    """Return the first invoice paid after `lastpay_index`, waiting for it."""

    def next_paid() -> Result | None:
        later = [row for row in node.invoices.listed() if row.get("pay_index", 0) > request.args["lastpay_index"]]
        return min(later, key=lambda row: int(row["pay_index"])) if later else None

    try:
        async with asyncio.timeout(request.args["timeout"]), node.invoices.paid:
            found = await node.invoices.paid.wait_for(next_paid)
    except TimeoutError:
        raise RpcError(INVOICE_WAIT_TIMED_OUT, "Timed out while waiting for invoice to be paid") from None
    return found or {}


_PAY_PARAMS = (
    Param("bolt11", string),
    Param("amount_msat", msat, None),
    Param("label", string, None),
    Param("riskfactor", decimal, None),
    Param("maxfeepercent", decimal, None),
    Param("retry_for", number, None),
    Param("maxdelay", number, None),
    Param("exemptfee", msat, None),
    Param("localinvreqid", anything, None),
    Param("exclude", anything, None),
    Param("maxfee", msat, None),
    Param("description", string, None),
    Param("partial_msat", msat, None),
)


@command("pay", *_PAY_PARAMS, renamed={"v26.06.6": {"bolt11": "invstring"}})
async def pay(node: Node, request: Request) -> Result:
    """Pay an invoice."""
    started = time.time()
    invoice_text = request.args.get("bolt11") or request.args["invstring"]
    record = await _pay(node, invoice_text, request.args["amount_msat"], request.args["label"])
    return {
        "destination": record["destination"],
        "payment_hash": record["payment_hash"],
        "created_at": started,
        "parts": 1,
        "amount_msat": record["amount_msat"],
        "amount_sent_msat": record["amount_sent_msat"],
        "payment_preimage": record["payment_preimage"],
        "status": "complete",
    }


@command(
    "xpay",
    Param("invstring", string),
    Param("amount_msat", msat, None),
    Param("maxfee", msat, None),
    Param("layers", anything, None),
    Param("retry_for", number, None),
    Param("partial_msat", msat, None),
    Param("maxdelay", number, None),
)
async def xpay(node: Node, request: Request) -> Result:
    """Pay an invoice, with the shorter answer."""
    record = await _pay(node, request.args["invstring"], request.args["amount_msat"], None)
    return {
        "payment_preimage": record["payment_preimage"],
        "failed_parts": 0,
        "successful_parts": 1,
        "amount_msat": record["amount_msat"],
        "amount_sent_msat": record["amount_sent_msat"],
    }


async def _pay(node: Node, text: str, amount_msat: int | None, label: str | None) -> Result:
    by_xpay = node.options.value("xpay-handle-pay")
    try:
        wanted: bolt11.Invoice | bolt12.Invoice
        of_offer = text.lower().startswith("lni1")
        wanted = bolt12.read_invoice(text) if of_offer else bolt11.decode(text)
    except ValueError as error:
        what = "bolt11 invoice" if by_xpay else "bolt11"
        raise RpcError(INVALID_PARAMS, f"Invalid {what}: {error}") from None
    if wanted.amount_msat is not None and amount_msat is not None:
        raise RpcError(INVALID_PARAMS, "amount_msat parameter unnecessary")
    amount = wanted.amount_msat if amount_msat is None else amount_msat
    if amount is None:
        raise RpcError(INVALID_PARAMS, "amount_msat required" if by_xpay else "amount_msat parameter required")
    if wanted.expires_at < time.time():
        raise RpcError(PAY_INVOICE_EXPIRED, "Invoice expired")
    about: Result = {"payment_hash": wanted.payment_hash, "bolt12" if of_offer else "bolt11": text}
    if label is not None:
        about["label"] = label
    return await node.payments.pay(wanted.payee, amount, wanted.payment_secret, about, wanted.min_final_cltv)


@command(
    "getroute",
    Param("id", node_id),
    Param("amount_msat", msat),
    Param("riskfactor", decimal),
    Param("cltv", number, 9),
    Param("fromid", node_id, None),
    Param("fuzzpercent", decimal, None),
    Param("exclude", anything, None),
    Param("maxhops", number, 20),
)
async def getroute(node: Node, request: Request) -> Result:
    """Return the cheapest route."""
    args = request.args
    hops = node.payments.route(args["id"], args["amount_msat"], args["cltv"], args["fromid"])
    if not hops or len(hops) > args["maxhops"]:
        raise RpcError(PAY_ROUTE_NOT_FOUND, "Could not find a route")
    return {"route": [hop.listed() for hop in hops]}


def _hop(value: Any) -> Hop:
    return Hop(value["id"], value["channel"], value.get("direction", 0), msat(value["amount_msat"]), value["delay"])


@command(
    "sendpay",
    Param("route", list_of(_hop)),
    Param("payment_hash", hash32),
    Param("label", string, None),
    Param("amount_msat", msat, None),
    Param("bolt11", string, None),
    Param("payment_secret", hash32, None),
    Param("partid", number, None),
)
async def sendpay(node: Node, request: Request) -> Result:
    """Send a payment along a given route."""
    args = request.args
    hops: list[Hop] = args["route"]
    if not hops:
        raise bad_param("route", "Empty route")
    about = {name: args[name] for name in ("label", "bolt11") if args[name] is not None}
    amount = hops[-1].amount_msat if args["amount_msat"] is None else args["amount_msat"]
    record = node.payments.send(hops, args["payment_hash"], args["payment_secret"] or "00" * 32, amount, about)
    return {"message": "Monitor status with listpays or waitsendpay", **node.payments.shown(record)}


@command(
    "waitsendpay",
    Param("payment_hash", hash32),
    Param("timeout", number, None),
    Param("partid", number, None),
    Param("groupid", number, None),
)
async def waitsendpay(node: Node, request: Request) -> Result:
    """Wait for the end of a payment."""
    records = node.payments.records(request.args["payment_hash"])
    if not records:
        raise RpcError(_NO_SUCH_PAYMENT, f"Never attempted payment part 0 for '{request.args['payment_hash']}'")
    try:
        record = await node.payments.outcome(records[-1], request.args["timeout"])
    except TimeoutError:
        raise RpcError(_WAIT_TIMED_OUT, "Timed out while waiting") from None
    if record["status"] == "complete":
        return node.payments.shown(record)
    at_end = record["_failure"]["node"] == record["destination"]
    code = _FAILED_AT_DESTINATION if at_end else _FAILED_ON_ROUTE
    raise RpcError(code, node.payments.failure_text(record), node.payments.failure_data(record))


@command(
    "listsendpays",
    Param("bolt11", string, None),
    Param("payment_hash", hash32, None),
    Param("status", _STATUS, None),
    *_LISTED_PAGE,
)
async def listsendpays(node: Node, request: Request) -> Result:
    """Return every attempt to send."""
    return {"payments": indexed([node.payments.shown(row) for row in _chosen(node, request)], request.args)}


@command(
    "listpays",
    Param("bolt11", string, None),
    Param("payment_hash", hash32, None),
    Param("status", _STATUS, None),
    *_LISTED_PAGE,
)
async def listpays(node: Node, request: Request) -> Result:
    """Return the payments."""
    rows = []
    for record in _chosen(node, request):
        complete = record["status"] == "complete"
        row = {
            "bolt11": record.get("bolt11"),
            "bolt12": record.get("bolt12"),
            "destination": record["destination"],
            "payment_hash": record["payment_hash"],
            "label": record.get("label"),
            "status": record["status"],
            "created_at": record["created_at"],
            "completed_at": record.get("completed_at") if complete else None,
            "preimage": record.get("payment_preimage"),
            "amount_msat": record["amount_msat"] if record["status"] != "failed" else None,
            "amount_sent_msat": record["amount_sent_msat"] if record["status"] != "failed" else 0,
            "created_index": record["created_index"],
            "updated_index": record.get("updated_index"),
        }
        rows.append({name: value for name, value in row.items() if value is not None})
    return {"pays": indexed(rows, request.args)}


def _chosen(node: Node, request: Request) -> list[Result]:
    args = request.args
    return [
        record
        for record in node.payments.records(args["payment_hash"])
        if args["bolt11"] in (None, record.get("bolt11"), record.get("bolt12"))
        and args["status"] in (None, record["status"])
    ]
