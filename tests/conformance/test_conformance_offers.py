"""BOLT 12: an offer, an invoice asked for by it, and its payment, as settlement uses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from conformance.lab.fleet import FleetNode
from conformance.lab.matching import difference

SHAPES = json.loads((Path(__file__).parent / "data" / "offers.json").read_text(encoding="utf-8"))["shapes"]
AMOUNT = 150_000
SECONDS = 90.0


def check(shape: str, actual: Any) -> None:
    """Compare with a shape."""
    sentence = difference(SHAPES[shape], actual)
    assert sentence is None, sentence


def offered(node: FleetNode, description: str = "settlement") -> dict[str, Any]:
    offer = node.ok("offer", {"amount": "any", "description": description})
    check("offer", offer)
    return offer


def fetched(payer: FleetNode, offer: str, note: str = "week 7") -> str:
    given = {"offer": offer, "amount_msat": AMOUNT, "timeout": 30, "payer_note": note}
    reply = payer.ok("fetchinvoice", given, timeout=SECONDS)
    check("fetchinvoice", reply)
    return str(reply["invoice"])


def paid(payer: FleetNode, invoice: str, label: str) -> dict[str, Any]:
    """Pay as settlement does, by name: by position v26.06 does not hand a label to xpay, and its own pay goes away."""
    return payer.rpc("pay", {"bolt11": invoice, "label": label}, timeout=SECONDS)


def hidden(node: FleetNode, offer: dict[str, Any]) -> bool:
    """Whether the node is not announced, so that each of its offers hides the way to it anew."""
    return "offer_paths" in node.ok("decode", [offer["bolt12"]])


def test_the_same_terms_are_the_same_offer(fleet: list[FleetNode]) -> None:
    bravo = fleet[1]
    first, second = offered(bravo, "twice"), offered(bravo, "twice")
    again = hidden(bravo, first)
    assert (first["created"], second["created"]) == (True, again)
    assert (first["bolt12"] == second["bolt12"]) is not again
    assert offered(bravo, "another")["offer_id"] != first["offer_id"]
    (listed,) = bravo.ok("listoffers", {"offer_id": first["offer_id"]})["offers"]
    check("listed offer", listed)


def test_an_offer_says_whose_it_is(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    decoded = alpha.ok("decode", [offered(bravo)["bolt12"]])
    check("decoded offer", decoded)
    assert (decoded["offer_issuer_id"], decoded["offer_description"]) == (bravo.id, "settlement")


def test_an_invoice_of_an_offer_is_paid_under_a_label(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    offer = offered(bravo)
    invoice = fetched(alpha, offer["bolt12"])
    decoded = alpha.ok("decode", [invoice])
    check("decoded invoice", decoded)
    assert (decoded["invoice_amount_msat"], decoded["invreq_payer_note"]) == (AMOUNT, "week 7")
    assert decoded["offer_id"] == offer["offer_id"]
    label = f"test/2026-07/{alpha.id}/{bravo.id}"
    before = alpha.channel(bravo)["to_us_msat"]
    done = paid(alpha, invoice, label)["result"]
    assert (done["status"], done["payment_hash"]) == ("complete", decoded["invoice_payment_hash"])
    wait_until(alpha.settled, 20, "no HTLC is left")
    assert alpha.channel(bravo)["to_us_msat"] == before - AMOUNT
    (row,) = alpha.ok("listpays", {"payment_hash": decoded["invoice_payment_hash"]})["pays"]
    check("listpays", row)
    assert (row["label"], row["amount_msat"]) == (label, AMOUNT)
    (received,) = bravo.ok("listinvoices", {"payment_hash": decoded["invoice_payment_hash"]})["invoices"]
    check("paid invoice", received)
    assert received["local_offer_id"] == offer["offer_id"]


def test_an_invoice_of_an_offer_is_paid_once(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    invoice = fetched(alpha, offered(bravo)["bolt12"])
    first = paid(alpha, invoice, "once")["result"]
    wait_until(alpha.settled, 20, "no HTLC is left")
    balance = alpha.channel(bravo)["to_us_msat"]
    second = paid(alpha, invoice, "once")
    if "result" in second:
        assert second["result"]["payment_preimage"] == first["payment_preimage"]
    assert alpha.channel(bravo)["to_us_msat"] == balance


def test_every_request_is_another_invoice(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    offer = offered(bravo)["bolt12"]
    hashes = {alpha.ok("decode", [fetched(alpha, offer)])["invoice_payment_hash"] for _ in range(2)}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    "given",
    [{"offer": "lno1rubbish", "amount_msat": AMOUNT}, {"offer": "lnbcrt1rubbish", "amount_msat": AMOUNT}],
)
def test_what_is_no_offer_is_refused(fleet: list[FleetNode], given: dict[str, Any]) -> None:
    assert fleet[0].error("fetchinvoice", given)["code"] == -32602


def test_an_offer_for_any_amount_needs_one(fleet: list[FleetNode]) -> None:
    assert fleet[0].error("fetchinvoice", {"offer": offered(fleet[1])["bolt12"]})["code"] == -32602


def test_a_disabled_offer_gives_no_invoice(fleet: list[FleetNode]) -> None:
    alpha, bravo = fleet[:2]
    offer = offered(bravo, "taken back")
    assert bravo.ok("disableoffer", [offer["offer_id"]])["active"] is False
    given = {"offer": offer["bolt12"], "amount_msat": AMOUNT, "timeout": 20}
    assert alpha.rpc("fetchinvoice", given, timeout=SECONDS)["error"]["code"] == 1004
    again = bravo.rpc("offer", {"amount": "any", "description": "taken back"})
    assert "result" in again if hidden(bravo, offer) else again["error"]["code"] == 1000
