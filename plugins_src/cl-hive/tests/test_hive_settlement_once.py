"""A settled period is not paid twice: not after a death in the middle of a payment, and not after a restore."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cl_hive.protocol.settlement_plan import Line, bounds, period_of, previous
from cl_hive.services.settlement_payer import GRACE_SECONDS, label_of
from cl_hive.storage.settlement_payments import PaymentStore
from cl_hive.testing import Network, SimNode
from cl_hive.testing_wallet import EXPIRY_SECONDS, KilledError
from hive_kit.errors import BusyError, HiveError, UnavailableError

Fleet = Callable[..., Network]
STEP = 600


@pytest.fixture
def agreed(fleet: Fleet) -> Network:
    """Two members; alpha owes bravo for a week, both have voted, alpha's operator is asked."""
    network = fleet("alpha", "bravo")
    begin, end = bounds(period_of(network.now()))
    network.nodes["alpha"].wallet.earn(begin + 100, 90_000, 10)
    network.nodes["bravo"].wallet.earn(begin + 200, 1_000, 60)
    for node in network.nodes.values():
        node.rpc("hive-settlement-generate-offer")
    network.time = end + 60
    until(network, lambda: asked(network), "alpha's operator is asked")
    return network


def until(network: Network, predicate: Callable[[], bool], what: str) -> None:
    end = network.time + 12 * 3600
    network.run(4)
    while not predicate():
        assert network.time < end, f"after 12 h still not: {what}"
        network.time += STEP
        network.run(2)


def asked(network: Network) -> bool:
    return bool(network.nodes["alpha"].rpc("hive-pending-actions")["count"])


def execute(network: Network, **params: Any) -> dict[str, Any]:
    return network.nodes["alpha"].rpc("hive-settlement-execute", dry_run=False, **params)


def settled(network: Network) -> bool:
    status = network.nodes["bravo"].rpc("hive-distributed-settlement-status")
    return bool(status["recent_settlements"])


def paid(network: Network) -> int:
    """How many payments have moved money."""
    return len(network.ledger.paid)


def killed_in(network: Network, hook: dict[str, Callable[[dict[str, Any]], None]], method: str) -> None:
    """Approve, and let alpha's plugin die at that point; it starts again on what its database holds."""
    alpha = network.nodes["alpha"]

    def die(_: dict[str, Any]) -> None:
        raise KilledError

    hook[method] = die
    with pytest.raises(KilledError):
        alpha.rpc("hive-approve-action")
    hook.clear()
    restart(alpha)


def restart(node: SimNode) -> None:
    node.stop()
    node.start()
    for peer in node.network.nodes.values():
        if peer is not node:
            node.hive.connected(peer.id, "127.0.0.1")


# -- deaths ---


@pytest.mark.parametrize("method", ["fetchinvoice", "decode"])
def test_killed_before_anything_is_reserved(agreed: Network, method: str) -> None:
    killed_in(agreed, agreed.nodes["alpha"].wallet.before, method)
    assert agreed.nodes["alpha"].hive.settlement.summary()["payments_without_known_end"] == 0
    assert (paid(agreed), execute(agreed)["execution_status"], paid(agreed)) == (0, "completed", 1)
    until(agreed, lambda: settled(agreed), "bravo heard it")


def test_killed_between_reserve_and_pay(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    killed_in(agreed, alpha.wallet.before, "pay")
    assert (paid(agreed), alpha.hive.settlement.summary()["payments_without_known_end"]) == (0, 1)
    agreed.run(4)
    assert execute(agreed)["execution_status"] == "completed"
    assert (paid(agreed), len(agreed.ledger.bills)) == (1, 1), "the invoice that was reserved is the one that was paid"
    until(agreed, lambda: settled(agreed), "bravo heard it")
    assert paid(agreed) == 1


def test_killed_between_pay_and_record(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    killed_in(agreed, alpha.wallet.after, "pay")
    assert (paid(agreed), alpha.hive.settlement.summary()["payments_without_known_end"]) == (1, 1)
    reply = execute(agreed)
    assert (reply["execution_status"], reply["payments_executed"], len(reply["payments_skipped"])) == (
        "completed",
        [],
        1,
    )
    assert (paid(agreed), len(agreed.ledger.bills)) == (1, 1)
    until(agreed, lambda: settled(agreed), "bravo heard it")


def test_killed_before_the_others_were_told(agreed: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = agreed.nodes["alpha"]

    def die(_: str) -> bool:
        raise KilledError

    monkeypatch.setattr(alpha.hive.settlement.executions, "after_payments", die)
    with pytest.raises(KilledError):
        alpha.rpc("hive-approve-action")
    restart(alpha)
    until(agreed, lambda: settled(agreed), "bravo heard it all the same")
    assert paid(agreed) == 1


def test_time_passes_between_a_payment_and_its_report(agreed: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = agreed.nodes["alpha"]
    pay = alpha.hive.payer.pay

    def slow(*given: Any) -> Any:
        outcome = pay(*given)
        agreed.time += STEP
        agreed.run(2)  # the tick reports it first
        return outcome

    monkeypatch.setattr(alpha.hive.payer, "pay", slow)
    assert alpha.rpc("hive-approve-action", action_id=1)["status"] == "executed"
    until(agreed, lambda: settled(agreed), "bravo heard it")


# -- an end that is not known ---


def test_a_payment_without_an_answer_is_looked_up(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]

    def silence(_: dict[str, Any]) -> None:
        raise UnavailableError("pay did not answer within 150 s")

    alpha.wallet.after["pay"] = silence
    reply = alpha.rpc("hive-approve-action", action_id=1)
    assert (reply["status"], reply["payments_executed"]) == ("approved", [])
    assert "not known" in reply["payments_errors"][0]["reason"]
    alpha.wallet.after.clear()
    assert len(execute(agreed)["payments_skipped"]) == 1
    assert paid(agreed) == 1


@pytest.mark.parametrize(("end", "payments"), [("complete", 1), ("failed", 2)])
def test_a_payment_under_way_is_waited_for(agreed: Network, end: str, payments: int) -> None:
    alpha = agreed.nodes["alpha"]
    alpha.wallet.ending = "pending"
    assert alpha.rpc("hive-approve-action")["approved"]
    alpha.wallet.ending = "complete"
    agreed.time += EXPIRY_SECONDS + GRACE_SECONDS + 60
    assert "under way" in execute(agreed)["payments_errors"][0]["reason"], "however long it takes"
    assert (paid(agreed), len(agreed.ledger.bills)) == (0, 1)
    alpha.wallet.finish(end)
    assert execute(agreed)["execution_status"] == "completed"
    assert (paid(agreed), len(agreed.ledger.bills)) == (1, payments)


def test_an_invoice_whose_payment_may_go_on_is_not_replaced(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    killed_in(agreed, alpha.wallet.before, "pay")
    alpha.wallet.ending = "failed"
    assert execute(agreed)["payments_errors"], "lightningd may still try what it was asked by the one that died"
    assert len(agreed.ledger.bills) == 1
    agreed.time += EXPIRY_SECONDS + GRACE_SECONDS + 60
    alpha.wallet.ending = "complete"
    assert execute(agreed)["execution_status"] == "completed"
    assert (paid(agreed), len(agreed.ledger.bills)) == (1, 2)


def test_another_amount_than_asked_for_is_not_paid(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]

    def greedy(_: dict[str, Any]) -> None:
        for bill in agreed.ledger.bills.values():
            bill.amount_msat += 1

    alpha.wallet.after["fetchinvoice"] = greedy
    reply = alpha.rpc("hive-approve-action", action_id=1)
    assert "instead of" in reply["payments_errors"][0]["reason"]
    assert paid(agreed) == 0


def test_two_runs_at_once_are_one(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    refused: list[int] = []

    def again(_: dict[str, Any]) -> None:
        alpha.wallet.before.clear()
        with pytest.raises(BusyError) as caught:
            execute(agreed)
        refused.append(caught.value.code)

    alpha.wallet.before["pay"] = again
    alpha.rpc("hive-approve-action")
    assert (refused, paid(agreed)) == ([6005], 1)


def test_the_database_itself_takes_no_second_live_payment(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    alpha.rpc("hive-approve-action")
    payments: PaymentStore = alpha.hive.settlement.payments
    (entry,) = payments.completed(previous(agreed.now()), alpha.id)
    line = Line(entry.from_peer_id, entry.to_peer_id, entry.amount_sats)
    with pytest.raises(sqlite3.IntegrityError):
        payments.reserve("ab" * 16, entry.period, line, "lni1q", "cd" * 32, 0, agreed.now())


# -- restores ---


def backup(network: Network, tmp_path: Path) -> Path:
    """What a backup set holds of alpha's database."""
    alpha = network.nodes["alpha"]
    alpha.stop()
    copy = tmp_path / "set.db"
    shutil.copy(alpha.path, copy)
    restart(alpha)
    return copy


def restore(network: Network, copy: Path, created_at: float) -> None:
    """Put an older database in place, with the note that the engine's restore writes."""
    alpha = network.nodes["alpha"]
    alpha.stop()
    shutil.copy(copy, alpha.path)
    note = {"set": "20270118-set", "created_at": created_at, "restored_at": float(network.now())}
    alpha.path.with_name(alpha.path.name + ".restored").write_text(json.dumps(note), encoding="utf-8")
    restart(alpha)


def held(network: Network, method: str = "hive-settlement-execute", **params: Any) -> HiveError:
    with pytest.raises(HiveError, match="hive-settlement-reconcile") as caught:
        network.nodes["alpha"].rpc(method, **params)
    return caught.value


def test_after_a_restore_a_settled_period_is_not_paid_again(agreed: Network, tmp_path: Path) -> None:
    alpha = agreed.nodes["alpha"]
    created_at, copy = agreed.now(), backup(agreed, tmp_path)
    alpha.rpc("hive-approve-action")
    until(agreed, lambda: settled(agreed), "both have settled")
    assert paid(agreed) == 1
    restore(agreed, copy, created_at)
    assert alpha.hive.settlement.summary()["held"] is True
    error = held(agreed, dry_run=False)
    assert (error.code, error.data["restore"]["set"]) == (6109, "20270118-set")
    assert held(agreed, "hive-approve-action", action_id=1).code == 6109
    assert alpha.rpc("hive-approve-action")["errors"][0]["action_id"] == 1
    assert alpha.rpc("hive-settlement-execute")["execution_status"] == "dry_run"
    agreed.run(4)
    assert paid(agreed) == 1
    found = alpha.rpc("hive-settlement-reconcile")
    assert (found["status"], found["held"]) == ("reconciled", False)
    (recognised,) = found["recognised"]
    period = previous(agreed.now())
    assert recognised["label"] == label_of(period, alpha.id, agreed.nodes["bravo"].id)
    with pytest.raises(HiveError, match="settled already") as caught:
        execute(agreed)
    assert (caught.value.code, paid(agreed)) == (6110, 1)
    (row,) = alpha.rpc("hive-distributed-settlement-status")["settled_periods"]
    assert row["period"] == period
    restart(alpha)
    assert alpha.hive.settlement.summary()["held"] is False, "the same restore is dealt with once"
    assert alpha.rpc("hive-settlement-reconcile")["recognised"] == []


@pytest.mark.parametrize(("end", "said"), [("complete", "already paid"), ("pending", "under way")])
def test_an_older_database_without_a_note_is_not_enough_to_pay_twice(
    agreed: Network, tmp_path: Path, end: str, said: str
) -> None:
    alpha = agreed.nodes["alpha"]
    copy = backup(agreed, tmp_path)
    alpha.wallet.ending = end
    alpha.rpc("hive-approve-action")
    alpha.wallet.ending = "complete"
    alpha.stop()
    shutil.copy(copy, alpha.path)
    restart(alpha)
    reply = alpha.rpc("hive-approve-action", action_id=1)
    (told,) = reply["payments_skipped"] + reply["payments_errors"]
    assert said in told["reason"]
    alpha.wallet.finish("complete")
    assert (paid(agreed), len(agreed.ledger.bills)) == (1, 1)


def test_a_payment_of_the_journal_also_stands_in_the_field_s_tables(agreed: Network, tmp_path: Path) -> None:
    alpha = agreed.nodes["alpha"]
    created_at, copy = agreed.now(), backup(agreed, tmp_path)
    alpha.rpc("hive-approve-action")
    restore(agreed, copy, created_at)
    alpha.rpc("hive-settlement-reconcile")
    store = alpha.hive.settlement.store.store
    (row,) = store.query("SELECT * FROM settlement_sub_payments")
    assert (row["from_peer_id"], row["status"], len(row["payment_hash"])) == (alpha.id, "completed", 64)
    assert store.value("SELECT COUNT(*) FROM hive_restores") == 1


def test_a_week_agreed_anew_after_the_whole_fleet_was_restored_is_not_paid_again(agreed: Network) -> None:
    alpha, period = agreed.nodes["alpha"], previous(agreed.now())
    alpha.rpc("hive-approve-action")
    until(agreed, lambda: settled(agreed), "both have settled")
    for node in agreed.nodes.values():
        store = node.hive.settlement.store.store
        with store.atomic():
            for table in (
                "settlement_proposals", "settlement_ready_votes", "settlement_executions", "settlement_sub_payments",
                "settlement_payments", "settlement_contributions", "settlement_periods", "settled_periods",
                "hive_settlement_journal", "pending_actions", "proto_outbox",
            ):  # fmt: skip
                store.execute(f"DELETE FROM {table}")
        note = {"set": "old", "created_at": 0.0, "restored_at": float(agreed.now())}
        node.path.with_name(node.path.name + ".restored").write_text(json.dumps(note), encoding="utf-8")
        restart(node)
    until(agreed, lambda: agreed.now() > 0, "they are back")
    for node in agreed.nodes.values():
        assert node.rpc("hive-distributed-settlement-proposals")["total"] == 0, "nobody proposes while it is held"
        node.rpc("hive-settlement-reconcile")
    until(agreed, lambda: settled(agreed), "the week is agreed on and closed without a payment")
    assert (paid(agreed), asked(agreed)) == (1, False)
    assert alpha.hive.settlement.store.is_settled(period)


def test_a_payment_under_way_keeps_the_hold(agreed: Network, tmp_path: Path) -> None:
    alpha = agreed.nodes["alpha"]
    created_at, copy = agreed.now(), backup(agreed, tmp_path)
    alpha.wallet.ending = "pending"
    alpha.rpc("hive-approve-action")
    restore(agreed, copy, created_at)
    found = alpha.rpc("hive-settlement-reconcile")
    assert (found["status"], found["held"]) == ("undecided", True)
    label = found["undecided"][0]["label"]
    for decided in ({"paid": label}, {"unpaid": label}):
        with pytest.raises(HiveError, match="under way") as caught:
            alpha.rpc("hive-settlement-reconcile", **decided)
        assert caught.value.code == 6112
    assert held(agreed, dry_run=False).code == 6109
    alpha.wallet.finish("complete")
    assert alpha.rpc("hive-settlement-reconcile")["recognised"][0]["label"] == label
    assert paid(agreed) == 1


@pytest.mark.parametrize(("decision", "payments"), [("paid", 1), ("unpaid", 2)])
def test_what_cannot_be_decided_the_operator_decides(
    agreed: Network, tmp_path: Path, decision: str, payments: int
) -> None:
    alpha = agreed.nodes["alpha"]
    created_at, copy = agreed.now(), backup(agreed, tmp_path)
    alpha.rpc("hive-approve-action")
    for row in alpha.wallet.pays:
        row["label"] = ""  # as the monolith pays
    restore(agreed, copy, created_at)
    found = alpha.rpc("hive-settlement-reconcile")
    assert (found["status"], found["held"], len(found["undecided"])) == ("undecided", True, 1)
    assert "no label" in found["undecided"][0]["reason"]
    label = found["undecided"][0]["label"]
    for wrong in ({"paid": "x"}, {"paid": label, "unpaid": label}, {"paid": label.replace(alpha.id, "02" * 33)}):
        with pytest.raises(HiveError) as caught:
            alpha.rpc("hive-settlement-reconcile", **wrong)
        assert caught.value.code == -32602
    assert held(agreed, dry_run=False).code == 6109
    found = alpha.rpc("hive-settlement-reconcile", **{decision: label})
    assert (found["status"], found["held"]) == ("reconciled", False)
    if decision == "unpaid":
        assert alpha.rpc("hive-approve-action")["approved"]
    until(agreed, lambda: settled(agreed), "the week is closed")
    assert paid(agreed) == payments


def test_payments_that_lightningd_forgets_cannot_be_decided(agreed: Network, tmp_path: Path) -> None:
    alpha = agreed.nodes["alpha"]
    created_at, copy = agreed.now(), backup(agreed, tmp_path)
    agreed.time += 7200
    restore(agreed, copy, created_at)
    alpha.wallet.autoclean = {"enabled": True, "age": 3600, "cleaned": 4}
    found = alpha.rpc("hive-settlement-reconcile")
    assert "autoclean" in found["undecided"][0]["reason"]
    alpha.wallet.autoclean = {"enabled": True, "age": 90_000, "cleaned": 4}
    assert alpha.rpc("hive-settlement-reconcile")["status"] == "reconciled"


def test_a_week_that_was_not_paid_is_paid_after_the_hold(agreed: Network, tmp_path: Path) -> None:
    alpha = agreed.nodes["alpha"]
    created_at, copy = agreed.now(), backup(agreed, tmp_path)
    restore(agreed, copy, created_at)
    found = alpha.rpc("hive-settlement-reconcile")
    assert (found["recognised"], len(found["unpaid"]), found["held"]) == ([], 1, False)
    assert alpha.rpc("hive-approve-action")["approved"]
    until(agreed, lambda: settled(agreed), "the week is closed")
    assert paid(agreed) == 1


def test_what_the_monolith_recorded_as_paid_is_not_paid(agreed: Network) -> None:
    alpha, bravo = agreed.nodes["alpha"], agreed.nodes["bravo"]
    ((proposal, plan),) = alpha.hive.settlement.executions.owing()
    (line,) = plan.of_payer(alpha.id)
    alpha.hive.settlement.store.store.execute(
        "INSERT INTO settlement_sub_payments VALUES (?, ?, ?, ?, ?, 'completed', 5)",
        (proposal.proposal_id, alpha.id, bravo.id, line.amount_sats, "ab" * 32),
    )
    assert alpha.rpc("hive-approve-action")["approved"]
    until(agreed, lambda: settled(agreed), "the week is closed")
    assert paid(agreed) == 0


def test_what_the_monolith_agreed_on_by_another_plan_is_not_paid(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    alpha.hive.settlement.store.store.execute(
        "UPDATE settlement_proposals SET plan_hash = ?, contributions_json = ?", ("cd" * 32, '[{"peer_id": "x"}]')
    )
    with pytest.raises(HiveError, match="older installation") as caught:
        execute(agreed)
    assert (caught.value.code, caught.value.data["reason"]) == (6110, "other_plan")
    assert alpha.rpc("hive-approve-action")["errors"][0]["action_id"] == 1
    agreed.time += STEP
    agreed.run(2)
    assert alpha.rpc("hive-distributed-settlement-status")["settled_periods"] == []
    assert paid(agreed) == 0


def test_another_amount_paid_for_the_period_is_left_to_the_operator(agreed: Network) -> None:
    alpha, bravo = agreed.nodes["alpha"], agreed.nodes["bravo"]
    line = Line(alpha.id, bravo.id, 5)
    alpha.hive.settlement.payments.recognise(previous(agreed.now()), line, "", "confirmed", agreed.now())
    reply = alpha.rpc("hive-approve-action", action_id=1)
    assert "5 sats were paid for this period already" in reply["payments_errors"][0]["reason"]
    assert (reply["status"], paid(agreed)) == ("approved", 0)


def test_a_plan_that_was_replaced_cannot_be_approved(agreed: Network) -> None:
    alpha = agreed.nodes["alpha"]
    store = alpha.hive.settlement.store
    proposal = store.of_period(previous(agreed.now()))
    assert proposal is not None
    store.put(replace(proposal, proposal_id="ee" * 16))
    with pytest.raises(HiveError, match="does not stand") as caught:
        alpha.rpc("hive-approve-action", action_id=1)
    assert caught.value.code == 6110
    assert alpha.rpc("hive-pending-actions")["actions"][0]["status"] == "pending"


def test_without_a_restore_nothing_is_held(agreed: Network) -> None:
    found = agreed.nodes["alpha"].rpc("hive-settlement-reconcile")
    assert (found["restore"], found["held"], found["status"]) == (None, False, "reconciled")
