"""Money: within the limits, once per advisor and nonce, and counted as spent until it is known not to be."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cl_hive_comms.services.sendpays import label_of, sats_of
from cl_hive_comms.testing import invoice
from hive_kit.errors import ConflictError, HiveError, LimitError, UnavailableError
from hive_kit.node import RpcError
from hypothesis import given
from hypothesis import strategies as st

DAY = 86_400


def refusal(work: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(HiveError) as refused:
        work()
    return refused.value.code, refused.value.message


def pay(desk: Any, nonce: int, sats: int, advisor: str = "bob", **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = desk.call(
        "hive-client-payments",
        action="pay",
        advisor=advisor,
        nonce=nonce,
        **{"bolt11": invoice(f"{advisor}{nonce}", sats), **more},
    )
    return answer


def statuses(desk: Any) -> list[str]:
    return [payment["status"] for payment in desk.call("hive-client-payments", "history")["payments"]]


# -- one payment ------------------------------------------------------------------------------------------------------


def test_a_payment_is_labelled_capped_counted_and_receipted(desk: Any) -> None:
    bob = desk.app.advisors.find("bob").advisor_id
    paid = pay(desk, 7, 1_000)
    assert paid == {
        "ok": True,
        "payment_id": f"hive-pay:{bob}:7",
        "advisor_id": bob,
        "nonce": 7,
        "payment_hash": paid["payment_hash"],
        "amount_sats": 1_000,
        "spent_sats": 1_001,
        "kind": "bolt11",
        "status": "paid",
        "repeated": False,
    }
    (asked,) = desk.node.calls_of("pay")
    assert (asked["label"], asked["maxfee"], "amount_msat" in asked) == (label_of(bob, 7), 5_000, False)
    status = desk.call("hive-client-status")
    assert status["payments"] == {"total_sats": 1_001, "day_sats": 1_001, "week_sats": 1_001}
    assert status["spending"]["left"] == {"day_sats": 48_999, "week_sats": 198_999}
    actions = [(r["action"], r["result"]["status"]) for r in desk.call("hive-client-receipts", "bob", 2)["receipts"]]
    assert actions == [("pay", "paid"), ("reserve", "reserved")]


def test_one_nonce_is_paid_once(desk: Any) -> None:
    pay(desk, 7, 1_000)
    assert pay(desk, 7, 1_000)["repeated"] is True
    assert refusal(lambda: pay(desk, 7, 2_000))[1].startswith("nonce 7 of this advisor was used for another invoice")
    assert refusal(lambda: pay(desk, 8, 0, bolt11=invoice("bob7", 1_000)))[1].startswith("this invoice is paid")
    assert len(desk.node.paid()) == 1


def test_an_invoice_that_lightningd_paid_without_us_is_refused(desk: Any) -> None:
    desk.node.call("pay", {"bolt11": invoice("bob7", 10), "label": "mine"})
    assert refusal(lambda: pay(desk, 7, 10))[0] == 6002
    assert statuses(desk) == []


def test_an_invoice_without_an_amount_needs_one(desk: Any) -> None:
    text = invoice("any", None)
    assert refusal(lambda: pay(desk, 1, 0, bolt11=text))[1].startswith("amount_sats is required")
    assert pay(desk, 1, 0, bolt11=text, amount_sats=300)["amount_sats"] == 300
    assert desk.node.calls_of("pay")[-1]["amount_msat"] == 300_000


BAD = [
    ({"bolt11": "lnbcrt1rubbish"}, "bolt11: lightningd does not understand it"),
    ({"bolt11": ""}, "missing required parameter: bolt11"),
    ({"nonce": None}, "missing required parameter: nonce"),
    ({"amount_sats": 5}, "amount_sats: the invoice asks for 1000, not 5"),
]


@pytest.mark.parametrize(("change", "sentence"), BAD)
def test_bad_values(desk: Any, change: dict[str, Any], sentence: str) -> None:
    asked = {"action": "pay", "advisor": "bob", "nonce": 1, "bolt11": invoice("x", 1_000), **change}
    code, message = refusal(lambda: desk.call("hive-client-payments", **asked))
    assert (code, message[: len(sentence)]) == (-32602, sentence)
    assert desk.node.calls_of("pay") == []


@pytest.mark.parametrize(
    "answer", [{"type": "bolt12 offer", "valid": True}, {"type": "bolt11 invoice", "valid": False}]
)
def test_what_is_no_valid_invoice_is_refused(desk: Any, answer: dict[str, Any]) -> None:
    desk.node.answers["decode"] = answer
    assert refusal(lambda: pay(desk, 1, 5))[1] == "bolt11: it is no valid BOLT 11 invoice"


def test_the_newer_name_of_the_parameter(desk: Any) -> None:
    original = desk.node.answers["pay"]

    def newer(params: dict[str, Any]) -> Any:
        if "invstring" not in params:
            raise RpcError("pay", -32602, "unknown parameter: bolt11")
        return original({**params, "bolt11": params["invstring"]})

    desk.node.answers["pay"] = newer
    assert pay(desk, 1, 5)["status"] == "paid"


@given(msat=st.integers(0, 10**15))
def test_satoshis_are_rounded_up(msat: int) -> None:
    assert 0 <= sats_of(msat) * 1_000 - msat < 1_000


# -- limits -----------------------------------------------------------------------------------------------------------

LIMITS = [
    ({"hive-comms-per-advisor-daily-limit": "1000"}, {}, "hive-comms-per-advisor-daily-limit"),
    ({"hive-comms-daily-limit": "1000"}, {}, "hive-comms-daily-limit"),
    ({"hive-comms-weekly-limit": "1000"}, {}, "hive-comms-weekly-limit"),
    ({}, {"daily_limit_sats": 1_000}, "the advisor's own daily_limit_sats"),
]


@pytest.mark.parametrize(("options", "advisor", "limit"), LIMITS)
def test_each_limit_holds_for_every_way_to_spend(
    open_desk: Any, tmp_path: Path, options: dict[str, str], advisor: dict[str, int], limit: str
) -> None:
    with open_desk(tmp_path, options) as desk:
        desk.advisor("bob", **advisor)
        desk.call("hive-client-payments", "record", "bob", 500)
        pay(desk, 1, 480)
        ways: list[Callable[[], Any]] = [
            lambda: desk.call("hive-client-payments", "record", "bob", 20),
            lambda: pay(desk, 2, 15),
            lambda: desk.ask("bob", "payments", {"action": "record", "amount_sats": 20}),
            lambda: desk.ask("bob", "payments", {"action": "pay", "bolt11": invoice("x", 15)}),
        ]
        for way in ways:
            with pytest.raises(LimitError) as refused:
                way()
            assert refused.value.data["limit"] == limit
            assert refused.value.data["requested_sats"] == 20, "with the highest fee"
        assert len(desk.node.calls_of("pay")) == 1
        assert pay(desk, 3, 14)["status"] == "paid"


def test_windows_roll_and_other_advisors_have_their_own(desk: Any) -> None:
    desk.advisor("eve")
    desk.call("hive-client-payments", "record", "bob", 25_000)
    assert refusal(lambda: desk.call("hive-client-payments", "record", "bob", 1))[0] == 6007
    desk.call("hive-client-payments", "record", "eve", 25_000)
    desk.time += DAY - 1
    assert refusal(lambda: desk.call("hive-client-payments", "record", "bob", 1))[0] == 6007
    desk.time += 1
    desk.call("hive-client-payments", "record", "bob", 25_000)
    assert desk.call("hive-client-payments", "summary", "bob")["summary"]["week_sats"] == 50_000
    assert desk.call("hive-client-payments")["summary"]["day_sats"] == 25_000


def test_a_clock_that_was_put_back_gives_no_new_allowance(desk: Any) -> None:
    desk.call("hive-client-payments", "record", "bob", 25_000)
    desk.time -= 30 * DAY
    assert refusal(lambda: desk.call("hive-client-payments", "record", "bob", 1))[0] == 6007


def test_limits_change_while_it_runs_and_zero_means_none(desk: Any) -> None:
    desk.app.context.options.set("hive-comms-daily-limit", "0")
    assert refusal(lambda: pay(desk, 1, 1))[1].startswith("daily limit exceeded: 0 of 0 sats are spent and 6 are asked")
    desk.app.context.options.set("hive-comms-daily-limit", "6")
    assert pay(desk, 1, 1)["status"] == "paid"
    for bad in ("-1", "many", str(2_100_000_000_000_001)):
        with pytest.raises(HiveError):
            desk.app.context.options.set("hive-comms-daily-limit", bad)


def test_the_spend_survives_a_restart(open_desk: Any, tmp_path: Path) -> None:
    with open_desk(tmp_path) as desk:
        desk.advisor("bob")
        pay(desk, 1, 20_000)
    with open_desk(tmp_path, node=desk.node) as desk:
        assert refusal(lambda: pay(desk, 2, 6_000))[0] == 6007
        assert pay(desk, 1, 20_000)["repeated"] is True
        assert len(desk.node.paid()) == 1


# -- outcomes that nobody heard of ------------------------------------------------------------------------------------


def test_a_payment_that_failed_gives_its_money_back(desk: Any) -> None:
    desk.node.how = "fail"
    code, sentence = refusal(lambda: pay(desk, 1, 20_000))
    assert code == 6003
    assert "nothing left: Ran out of routes" in sentence
    assert desk.call("hive-client-payments")["summary"]["day_sats"] == 0
    assert statuses(desk) == ["failed"]
    assert refusal(lambda: pay(desk, 1, 20_000))[1].startswith("the payment of nonce 1 failed")
    desk.node.how = "pay"
    assert pay(desk, 2, 0, bolt11=invoice("bob1", 20_000))["status"] == "paid"


def test_an_error_of_pay_with_a_part_under_way_decides_nothing(desk: Any) -> None:
    desk.node.how = "pend"
    desk.node.answers["pay"] = lambda params, original=desk.node.answers["pay"]: _pend_then_fail(original, params)
    assert refusal(lambda: pay(desk, 1, 100))[0] == 6004
    assert statuses(desk) == ["reserved"]


def _pend_then_fail(original: Any, params: Any) -> Any:
    with pytest.raises(UnavailableError):
        original(params)
    raise RpcError("pay", 200, "Timed out while waiting")


@pytest.mark.parametrize(("how", "later"), [("lose", "paid"), ("pend", "reserved"), ("silent", "reserved")])
def test_an_unknown_outcome_counts_until_it_is_known_and_is_never_sent_again(desk: Any, how: str, later: str) -> None:
    desk.node.how = how
    assert refusal(lambda: pay(desk, 1, 20_000))[0] == 6004
    assert desk.call("hive-client-status")["spending"]["in_flight_sats"] == 20_100
    assert refusal(lambda: pay(desk, 1, 20_000))[0] == 6004
    assert refusal(lambda: pay(desk, 2, 5_000))[0] == 6007, "it counts"
    desk.app.spending.resolve()
    assert statuses(desk) == [later]
    assert len(desk.node.calls_of("pay")) == 1


def test_only_what_lightningd_does_not_know_for_two_minutes_has_failed(desk: Any) -> None:
    now = 0.0
    desk.app.spending.clock = lambda: now
    desk.node.how = "silent"
    assert refusal(lambda: pay(desk, 1, 100))[0] == 6004
    for now in (0.0, 60.0, 119.0):  # noqa: B007 - the clock reads it
        desk.app.spending.resolve()
        assert statuses(desk) == ["reserved"]
    desk.time += 30 * DAY  # the wall clock has no say
    desk.app.spending.resolve()
    assert statuses(desk) == ["reserved"]
    now = 120.0
    desk.app.spending.resolve()
    assert statuses(desk) == ["failed"]


def test_what_is_being_sent_is_left_to_its_sender(desk: Any) -> None:
    inside, go_on = threading.Event(), threading.Event()
    original = desk.node.answers["pay"]

    def slow(params: dict[str, Any]) -> Any:
        inside.set()
        assert go_on.wait(20)
        return original(params)

    desk.node.answers["pay"] = slow
    desk.app.spending.clock = lambda: 0.0
    sender = threading.Thread(target=lambda: pay(desk, 1, 100))
    sender.start()
    assert inside.wait(20)
    desk.app.spending.resolve()
    assert desk.node.calls_of("listsendpays") == [
        {"payment_hash": desk.node.calls_of("listsendpays")[0]["payment_hash"]}
    ]
    with pytest.raises(UnavailableError):
        pay(desk, 1, 100)
    with pytest.raises(ConflictError):
        pay(desk, 2, 0, bolt11=invoice("bob1", 100))
    go_on.set()
    sender.join(20)
    assert statuses(desk) == ["paid"]
    assert len(desk.node.calls_of("pay")) == 1


def test_an_advisor_pays_by_envelope_and_a_replay_pays_nothing(desk: Any) -> None:
    asked = desk.made("bob", "payments", {"action": "pay", "bolt11": invoice("e", 900)}, nonce=41)
    result = desk.send("bob", asked)["result"]
    assert (result["nonce"], result["status"], result["spent_sats"]) == (41, "paid", 901)
    assert refusal(lambda: desk.send("bob", asked))[0] == 6002
    again = desk.made("bob", "payments", {"action": "pay", "bolt11": invoice("e", 900)}, nonce=42)
    assert refusal(lambda: desk.send("bob", again))[0] == 6002
    assert len(desk.node.paid()) == 1
    listed = desk.ask("bob", "payments", {"action": "list"}, nonce=43)["result"]
    assert listed["payments"][0]["payment_id"] == result["payment_id"]


def test_a_held_payment_is_made_once_approved(desk: Any) -> None:
    desk.call("hive-client-policy", action="set", overrides={"confirm_from_danger": 5})
    asked = desk.ask("bob", "payments", {"action": "pay", "bolt11": invoice("h", 900)}, nonce=41)
    assert desk.node.calls_of("pay") == []
    approved = desk.call("hive-client-approve", asked["action_id"])["result"]
    assert (approved["nonce"], approved["status"]) == (41, "paid")
    assert refusal(lambda: desk.call("hive-client-approve", asked["action_id"]))[0] == 6002
    assert len(desk.node.paid()) == 1
