"""A week is settled: reported, proposed, voted, approved and paid; and everything a member can get wrong in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cl_hive.protocol import settlement_messages as wire
from cl_hive.protocol.settlement_plan import WEEK_SECONDS, bounds, period_of, previous
from cl_hive.services.settlement_payer import GRACE_SECONDS
from cl_hive.testing import Network, signed_by
from cl_hive.testing_wallet import EXPIRY_SECONDS
from hive_kit.errors import HiveError

Fleet = Callable[..., Network]
NAMES = ("alpha", "bravo", "charlie")
STEP = 600


@pytest.fixture
def agreed(week: Network) -> Network:
    """The same, once all three have voted."""
    until(week, all_are(week, "ready"), 6, "the plan has its quorum")
    return week


def later(network: Network, seconds: int) -> None:
    """Let hours pass in steps of ten minutes: what happens in settlement happens that seldom."""
    for _ in range(max(1, seconds // STEP)):
        network.time += STEP
        network.run(2)


def until(network: Network, predicate: Callable[[], bool], hours: int, what: str) -> None:
    """Let time pass until something holds."""
    end = network.time + hours * 3600
    network.run(4)
    while not predicate():
        assert network.time < end, f"after {hours} h still not: {what}"
        later(network, STEP)


def all_are(network: Network, *wanted: str) -> Callable[[], bool]:
    return lambda: all(statuses(network, name) == list(wanted) for name in NAMES)


def statuses(network: Network, name: str) -> list[str]:
    return [row["status"] for row in network.nodes[name].rpc("hive-distributed-settlement-proposals")["proposals"]]


def refusal(network: Network, name: str, method: str, **params: Any) -> HiveError:
    with pytest.raises(HiveError) as caught:
        network.nodes[name].rpc(method, **params)
    return caught.value


def count(network: Network, name: str, counter: str) -> int:
    return network.nodes[name].hive.counters.get(counter)


def names_of(network: Network) -> dict[str, str]:
    return {node.id: node.name for node in network.nodes.values()}


def moved(network: Network) -> list[tuple[str, str, int]]:
    """Every payment that was made, by names."""
    names = names_of(network)
    return sorted((names[payer], names[payee], sats) for payer, payee, sats in network.ledger.paid)


def approve(network: Network, name: str = "alpha") -> dict[str, Any]:
    (action,) = network.nodes[name].rpc("hive-pending-actions")["actions"]
    return network.nodes[name].rpc("hive-approve-action", action_id=action["id"])


# -- the way to a plan ---


def test_a_week_is_settled_and_everybody_knows_it(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    period = previous(agreed.now())
    plan = alpha.rpc("hive-settlement-execute")
    assert (plan["period"], plan["total_fees_sats"], plan["execution_status"]) == (period, 91_000, "dry_run")
    assert moved(agreed) == []
    (action,) = alpha.rpc("hive-pending-actions")["actions"]
    assert (action["action_type"], action["payload"]["period"], action["status"]) == (
        "settlement_execute",
        period,
        "pending",
    )
    assert agreed.nodes["bravo"].rpc("hive-pending-actions")["count"] == 0  # only who pays is asked
    reply = approve(agreed)
    assert (reply["status"], len(reply["payments_executed"]), reply["payments_errors"]) == ("executed", 2, [])
    required = sorted((line["to_peer"], line["amount_sats"]) for line in plan["payments_required"])
    names = names_of(agreed)
    assert moved(agreed) == sorted(("alpha", names[peer], sats) for peer, sats in required)
    until(agreed, all_are(agreed, "completed"), 12, "everybody heard it")
    for name in NAMES:
        status = agreed.nodes[name].rpc("hive-distributed-settlement-status")
        (settled,) = status["settled_periods"]
        assert (settled["period"], settled["total_distributed_sats"]) == (period, sum(sats for _, sats in required))
        assert (status["pending_proposals"], status["ready_proposals"], status["hold"]["held"]) == (0, 0, False)
    assert alpha.rpc("hive-pending-actions")["count"] == 0
    (row,) = alpha.rpc("hive-settlement-history")["settlement_periods"]
    details = alpha.rpc("hive-settlement-period-details", period_id=row["period_id"])
    assert (row["status"], row["total_members"], len(details["contributions"])) == ("completed", 3, 3)
    assert [payment["status"] for payment in details["payments"]] == ["completed", "completed"]
    assert all(payment["bolt12_offer"].startswith("lno1") and payment["paid_at"] for payment in details["payments"])
    again = refusal(agreed, "alpha", "hive-settlement-execute", dry_run=False)
    assert (again.code, again.data["reason"]) == (6110, "settled")
    later(agreed, 2 * 3600)
    assert statuses(agreed, "alpha") == ["completed"]  # and it is not proposed again
    assert len(agreed.ledger.paid) == 2


def test_nothing_is_paid_without_a_quorum(week: Network) -> None:
    alpha = week.nodes["alpha"]
    error = refusal(week, "alpha", "hive-settlement-execute", dry_run=False)
    assert (error.code, error.data["reason"]) == (6110, "no_proposal")
    for name in ("bravo", "charlie"):
        week.unlink(alpha.id, week.nodes[name].id)
    alpha.hive.settlement.inputs.close_week()
    assert alpha.hive.settlement.propose(previous(week.now())) is not None
    error = refusal(week, "alpha", "hive-settlement-execute", dry_run=False)
    assert (error.code, error.data["reason"]) == (6110, "no_quorum")
    assert "1 of 2 votes" in error.message
    assert alpha.rpc("hive-pending-actions")["count"] == 0
    assert moved(week) == []


@pytest.mark.parametrize("mode", ["advisor", "failsafe"])
def test_nothing_is_paid_without_the_operator(agreed: Network, mode: str) -> None:
    alpha = agreed.nodes["alpha"]
    alpha.options["hive-governance-mode"] = mode
    alpha.stop()
    later(agreed, 1200)
    first = alpha.rpc("hive-settlement-execute", dry_run=False)
    second = alpha.rpc("hive-settlement-execute", dry_run="false")
    assert first["execution_status"] == second["execution_status"] == "awaiting_approval"
    assert first["action_id"] == second["action_id"], "one question, however often it is asked"
    assert moved(agreed) == []
    rejected = alpha.rpc("hive-reject-action", action_id=first["action_id"], reason="not this week")
    assert rejected["reason"] == "not this week"
    later(agreed, 3600)
    assert alpha.rpc("hive-pending-actions")["count"] == 0, "a no stands"
    assert moved(agreed) == []
    asked = alpha.rpc("hive-settlement-execute", dry_run=False)
    assert asked["action_id"] > first["action_id"]
    assert alpha.rpc("hive-approve-action")["approved"] == [asked["action_id"]]
    assert len(moved(agreed)) == 2


def test_an_unanswered_question_is_asked_again_the_next_day(agreed: Network) -> None:
    (first,) = agreed.nodes["alpha"].rpc("hive-pending-actions")["actions"]
    agreed.time += 25 * 3600
    later(agreed, 1200)
    (second,) = agreed.nodes["alpha"].rpc("hive-pending-actions")["actions"]
    assert second["id"] > first["id"]
    error = refusal(agreed, "alpha", "hive-approve-action", action_id=first["id"])
    assert (error.code, error.data["status"]) == (6111, "expired")


def test_an_answer_is_given_once(agreed: Network) -> None:
    (action,) = agreed.nodes["alpha"].rpc("hive-pending-actions")["actions"]
    for amount in (1, 500):
        with pytest.raises(HiveError, match="amount_sats override not supported"):
            agreed.nodes["alpha"].rpc("hive-approve-action", action_id=action["id"], amount_sats=amount)
    approve(agreed)
    for method in ("hive-approve-action", "hive-reject-action"):
        error = refusal(agreed, "alpha", method, action_id=action["id"])
        assert (error.code, error.data["status"]) == (6111, "executed")
    assert refusal(agreed, "alpha", "hive-approve-action", action_id=99).code == 6001
    assert refusal(agreed, "alpha", "hive-approve-action", action_id="x").code == -32602
    assert agreed.nodes["alpha"].rpc("hive-approve-action")["status"] == "no_actions"
    assert agreed.nodes["alpha"].rpc("hive-reject-action")["rejected_count"] == 0


def test_an_action_of_another_kind_is_not_pretended(agreed: Network) -> None:
    bravo = agreed.nodes["bravo"]
    number = bravo.hive.settlement.actions.store.add("channel_open", {"target": "x"}, agreed.now())
    error = refusal(agreed, "bravo", "hive-approve-action", action_id=number)
    assert (error.code, error.data["action_type"]) == (6003, "channel_open")
    assert bravo.rpc("hive-approve-action")["errors"][0]["action_id"] == number
    assert bravo.rpc("hive-reject-action", action_id=number)["action_type"] == "channel_open"


def test_messages_that_get_lost_come_again(week: Network) -> None:
    week.faults.loss = 0.4
    week.faults.duplication = 0.3
    week.faults.longest_delay = 20
    until(week, all_are(week, "ready"), 12, "the plan has its quorum")
    until(week, lambda: knows_offers(week), 12, "alpha knows where to pay")
    assert len(approve(week)["payments_executed"]) == 2
    until(week, all_are(week, "completed"), 12, "everybody heard it")
    assert len(moved(week)) == 2


def knows_offers(network: Network) -> bool:
    return len(network.nodes["alpha"].rpc("hive-settlement-list-offers")["offers"]) == len(NAMES)


def test_two_who_propose_at_once_agree_on_one(week: Network) -> None:
    later(week, 1200)  # everybody has reported
    for name in ("alpha", "bravo", "charlie"):
        store = week.nodes[name].hive.settlement.store
        for proposal in store.with_status(("pending", "ready")):
            store.store.execute("DELETE FROM settlement_proposals WHERE proposal_id = ?", (proposal.proposal_id,))
    made = [week.nodes[name].hive.settlement.propose(previous(week.now())) for name in ("alpha", "bravo")]
    assert all(made)
    until(week, all_are(week, "ready"), 12, "one plan has its quorum")
    later(week, 1200)
    chosen = [week.nodes[name].hive.settlement.store.of_period(previous(week.now())) for name in NAMES]
    smallest = min(proposal.proposal_id for proposal in made if proposal)
    assert [proposal.proposal_id for proposal in chosen if proposal] == [smallest] * 3
    assert len(approve(week)["payments_executed"]) == 2
    until(week, all_are(week, "completed"), 12, "everybody heard it")
    assert len(moved(week)) == 2


def test_figures_stand_once_they_are_voted_about(agreed: Network) -> None:
    bravo, alpha = agreed.nodes["bravo"], agreed.nodes["alpha"]
    period = previous(agreed.now())
    before = alpha.rpc("hive-fee-reports", period=period)
    begin, end = bounds(period)
    more = {
        "peer_id": bravo.id,
        "fees_earned_sats": 5_000,
        "rebalance_costs_sats": 0,
        "period_start": begin,
        "period_end": end,
        "forward_count": 99,
    }
    agreed.forge("bravo", "alpha", wire.FEE_REPORT.number, signed_by(bravo, wire.FEE_REPORT, more))
    agreed.run(4)
    assert count(agreed, "alpha", "fee_report_refused_closed") == 1
    assert alpha.rpc("hive-fee-reports", period=period) == before


def test_reports_only_grow_and_stay_in_their_time(week: Network) -> None:
    alpha, bravo = week.nodes["alpha"], week.nodes["bravo"]
    begin, end = bounds(period_of(week.now()))

    def report(fees: int, start: int = begin, stop: int = end) -> None:
        body = {
            "peer_id": bravo.id,
            "fees_earned_sats": fees,
            "period_start": start,
            "period_end": stop,
            "forward_count": 1,
        }
        week.forge("bravo", "alpha", wire.FEE_REPORT.number, signed_by(bravo, wire.FEE_REPORT, body))
        week.run(2)

    period = period_of(begin)
    report(500)
    report(900)
    report(700)
    assert [row["fees_earned_sats"] for row in alpha.rpc("hive-fee-reports", period=period)["reports"]] == [900]
    assert count(week, "alpha", "fee_report_refused_smaller") == 1
    report(1, begin - 8 * WEEK_SECONDS, end - 8 * WEEK_SECONDS)
    assert count(week, "alpha", "fee_report_refused_time") == 1
    report(1, begin + 5, end)
    report(1, begin, end + 1)
    assert count(week, "alpha", "dropped_malformed") == 2
    assert refusal(week, "alpha", "hive-fee-reports", period="2027-99").code == -32602


def test_costs_lower_the_profit(fleet: Fleet) -> None:
    network = fleet("alpha", "bravo")
    begin, end = bounds(period_of(network.now()))
    network.nodes["alpha"].wallet.earn(begin + 1, 10_000, 3)
    assert network.nodes["alpha"].rpc("hive-report-period-costs", rebalance_costs_sats=4_000)["status"] == "recorded"
    network.time = end + 60
    later(network, 1200)
    (mine,) = [
        share
        for share in network.nodes["bravo"].rpc("hive-settlement-calculate")["fair_shares"]
        if share["peer_id"] == network.nodes["alpha"].id
    ]
    assert (mine["fees_earned"], mine["rebalance_costs"], mine["net_profit_sats"]) == (10_000, 4_000, 6_000)


def test_calculating_says_what_is_missing(week: Network) -> None:
    warnings = week.nodes["alpha"].rpc("hive-settlement-calculate")["warnings"]
    assert len([line for line in warnings if "has not reported" in line]) == 3
    assert refusal(week, "alpha", "hive-settlement-period-details", period_id=7).code == 6001


def test_a_receiver_without_an_offer_does_not_stop_the_others(week: Network) -> None:
    for node in week.nodes.values():
        node.hive.settlement.store.store.execute(
            "DELETE FROM settlement_offers WHERE peer_id = ?", (week.nodes["charlie"].id,)
        )
    until(week, all_are(week, "ready"), 6, "the plan has its quorum")
    reply = approve(week)
    assert (reply["status"], len(reply["payments_executed"])) == ("approved", 1)
    assert "no offer" in reply["payments_errors"][0]["reason"]
    week.nodes["charlie"].rpc("hive-settlement-generate-offer")
    week.run(4)
    rest = week.nodes["alpha"].rpc("hive-settlement-execute", dry_run=False)
    assert (rest["execution_status"], len(rest["payments_executed"]), len(rest["payments_skipped"])) == (
        "completed",
        1,
        1,
    )
    assert len(moved(week)) == 2


def test_offers_are_checked(week: Network) -> None:
    alpha = week.nodes["alpha"]
    offers = {row["peer_id"]: row["bolt12_offer"] for row in alpha.rpc("hive-settlement-list-offers")["offers"]}
    week.run(4)
    offers = {row["peer_id"]: row["bolt12_offer"] for row in alpha.rpc("hive-settlement-list-offers")["offers"]}
    assert set(offers) == {node.id for node in week.nodes.values()}
    assert (
        refusal(week, "alpha", "hive-settlement-register-offer", peer_id=alpha.id, bolt12_offer="lnbc1").code == -32602
    )
    stranger = "02" + "00" * 32
    offer = offers[alpha.id]
    assert refusal(week, "alpha", "hive-settlement-register-offer", peer_id=stranger, bolt12_offer=offer).code == 6001
    kept = alpha.rpc("hive-settlement-register-offer", peer_id=alpha.id, bolt12_offer=offer)
    assert (kept["status"], kept["offer"], kept["broadcast_count"]) == ("registered", offer, 2)


@pytest.mark.parametrize("seconds", [0, EXPIRY_SECONDS + GRACE_SECONDS + 60])
def test_a_failed_payment_is_tried_again_and_only_it(agreed: Network, seconds: int) -> None:
    alpha = agreed.nodes["alpha"]
    alpha.wallet.ending = "failed"
    reply = approve(agreed)
    assert (reply["status"], len(reply["payments_errors"])) == ("approved", 2)
    assert "Could not find a route" in reply["payments_errors"][0]["reason"]
    alpha.wallet.ending = "complete"
    agreed.time += seconds
    rest = alpha.rpc("hive-settlement-execute", dry_run=False)
    assert (rest["execution_status"], len(rest["payments_executed"])) == ("completed", 2)
    assert len(moved(agreed)) == 2


def test_lightningd_26_calls_a_parameter_otherwise(agreed: Network) -> None:
    agreed.nodes["alpha"].wallet.parameter = "invstring"
    assert len(approve(agreed)["payments_executed"]) == 2
