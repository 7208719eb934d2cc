"""After a restore: no envelope from before passes, what was spent since the backup counts, receipts tell the truth."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cl_hive_comms.main import SPEC
from cl_hive_comms.testing import Ledger, invoice
from hive_kit.errors import HiveError, IntegrityError
from hive_kit.health import status_of
from hive_kit.keys import SchnorrKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

START = 1_700_000_000
SKEW = 300
DAY = 86_400
DATABASE = SPEC.database


def refusal(work: Callable[[], Any]) -> HiveError:
    with pytest.raises(HiveError) as refused:
        work()
    return refused.value


class Node:
    """A directory whose database is backed up, used, restored."""

    def __init__(self, directory: Path, open_desk: Any) -> None:
        self.directory = directory
        self.open_desk = open_desk
        self.ledger = Ledger()
        self.tokens: dict[str, str] = {}

    @contextmanager
    def running(self, at: int = 0) -> Iterator[Any]:
        """Comms, `at` seconds after the beginning."""
        self.ledger.time = START + at
        with self.open_desk(self.directory, node=self.ledger) as desk:
            desk.tokens, desk.time = self.tokens, START + at
            yield desk

    def backup(self) -> None:
        shutil.copy(self.directory / DATABASE, self.directory / "saved")

    def restore(self, at: float) -> None:
        """Put the saved database back, and the note beside it, as the engine does."""
        shutil.copy(self.directory / "saved", self.directory / DATABASE)
        note = {"set": "20231114-221320-abc", "created_at": START, "restored_at": START + at}
        (self.directory / f"{DATABASE}.restored").write_text(json.dumps(note), encoding="utf-8")


@pytest.fixture
def node(tmp_path: Path, open_desk: Any) -> Node:
    """A node with the advisor bob, whose backup was made at the beginning."""
    made = Node(tmp_path, open_desk)
    with made.running() as desk:
        desk.advisor("bob")
    made.backup()
    return made


# -- envelopes --------------------------------------------------------------------------------------------------------


def test_an_envelope_captured_sixty_seconds_ago_is_refused_now_and_for_good(node: Node) -> None:
    with node.running(at=1_000) as desk:
        captured = desk.made("bob", "policy", {"action": "set", "overrides_json": {"max_danger": 9}}, nonce=5)
        desk.send("bob", captured)
    node.restore(at=1_060)
    with node.running(at=1_060) as desk:
        refused = refusal(lambda: desk.send("bob", captured))
        assert (refused.code, refused.data) == (6014, {"until": START + 1_360})
        assert "envelopes are refused until 2023-11-14 22:36:00 UTC" in refused.message
        assert "sign" in refused.message
        # Until the window has passed, nobody passes.
        desk.time = START + 1_360
        assert refusal(lambda: desk.ask("bob", "monitor", nonce=6)).code == 6014
        # After it the captured one is too old; the same nonce, signed while the window ran, is not new enough.
        desk.time = START + 1_361
        assert refusal(lambda: desk.send("bob", captured)).code == 6003
        early = desk.made("bob", "monitor", nonce=5, timestamp=START + 1_360)
        refused = refusal(lambda: desk.send("bob", early))
        assert (refused.code, refused.data) == (6014, {"accepted_after": START + 1_360})
        assert desk.ask("bob", "monitor", nonce=5)["ok"] is True
        assert refusal(lambda: desk.ask("bob", "monitor", nonce=5)).code == 6002
        assert desk.call("hive-client-policy")["policy"]["overrides"] == {}


def test_one_dated_ahead_is_refused_too(node: Node) -> None:
    """The worst case: accepted in the last second before the restore, with the latest timestamp that passes."""
    with node.running(at=1_000) as desk:
        captured = desk.made("bob", "monitor", nonce=5, timestamp=START + 1_000 + SKEW)
        desk.send("bob", captured)
    node.restore(at=1_000.9)
    with node.running(at=1_001) as desk:
        for moment in (1_001, 1_300, 1_301, 1_302, 1_400, 1_600):
            desk.time = START + moment
            assert refusal(lambda: desk.send("bob", captured)).code == 6014


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    accepted=st.integers(0, 1_000),
    skew=st.integers(-SKEW, SKEW),
    restored=st.floats(1_000, 1_500, allow_nan=False),
    later=st.integers(0, 2_000),
    nonce=st.integers(0, 100),
)
def test_whenever_it_was_accepted_and_whenever_it_comes_back(
    desk: Any, accepted: int, skew: int, restored: float, later: int, nonce: int
) -> None:
    """Everything this node accepted before the restore is refused after it, whatever the nonce."""
    from hive_kit.restored import Restored  # the note is what the desk pretends to have found

    service = desk.app.restore
    service._restored = Restored("set", START, START + restored)
    desk.time = int(START + restored) + later
    key = SchnorrKey.generate()
    desk.advisor(key.npub, "monitor")
    captured = desk.made(key, "monitor", nonce=nonce, timestamp=START + accepted + skew)
    assert refusal(lambda: desk.send(key.npub, captured)).code in (6003, 6014)
    desk.time = service.accepted_after + 1
    assert desk.send(key.npub, desk.made(key, "monitor", nonce=0))["ok"] is True
    service._restored = None


def test_held_actions_wait_over_a_restore_and_the_operator_still_decides(node: Node) -> None:
    with node.running() as desk:
        action = desk.ask("bob", "policy", {"action": "reset"})["action_id"]
    node.backup()
    node.restore(at=100)
    with node.running(at=100) as desk:
        assert desk.call("hive-client-approve", action)["status"] == "approved"


def test_status_shows_the_window_and_a_window_is_no_fault(node: Node) -> None:
    node.restore(at=100)
    with node.running(at=100) as desk:
        shown = desk.call("hive-client-status")["restore"]
        assert shown == {
            "set": "20231114-221320-abc",
            "created_at": START,
            "restored_at": START + 100,
            "from_the_future": False,
            "envelopes_refused": True,
            "envelopes_refused_until": START + 400,
            "recount": {"state": "waiting", "payments": 0, "sats": 0, "error": ""},
        }
        assert status_of(desk.app.checks()) == "ok"
        desk.time += SKEW + 1
        assert desk.call("hive-client-status")["restore"]["envelopes_refused"] is False


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_a_note_from_the_future_keeps_refusing_and_says_so(node: Node) -> None:
    node.restore(at=10 * DAY)
    with node.running(at=0) as desk:
        refused = refusal(lambda: desk.ask("bob", "monitor"))
        assert refused.code == 6014
        assert "lies in the future of this node's clock: put the clock right, or restore once more" in refused.message
        assert desk.call("hive-client-status")["restore"]["from_the_future"] is True
        assert status_of(desk.app.checks()) == "degraded"
    node.restore(at=5)
    with node.running(at=5 + SKEW + 1) as desk:
        assert desk.ask("bob", "monitor")["ok"] is True
        assert status_of(desk.app.checks()) == "ok"


def test_a_clock_that_jumps_ahead_opens_nothing_for_an_old_envelope(node: Node) -> None:
    with node.running(at=90) as desk:
        captured = desk.made("bob", "monitor", nonce=5)
        desk.send("bob", captured)
    node.restore(at=100)
    with node.running(at=100) as desk:
        for moment in (100, 3_700, 101, 380):
            desk.time = START + moment
            assert refusal(lambda: desk.send("bob", captured)).code in (6003, 6014)


# -- spend ------------------------------------------------------------------------------------------------------------


def pay(desk: Any, nonce: int, sats: int) -> dict[str, Any]:
    answer: dict[str, Any] = desk.call(
        "hive-client-payments", action="pay", advisor="bob", nonce=nonce, bolt11=invoice(f"n{nonce}", sats)
    )
    return answer


def test_todays_spend_still_counts_and_nothing_is_paid_before_it_is_counted(node: Node) -> None:
    with node.running(at=50) as desk:
        pay(desk, 1, 20_000)
    node.restore(at=100)
    with node.running(at=100) as desk:
        for way in (lambda: pay(desk, 2, 10), lambda: desk.call("hive-client-payments", "record", "bob", 10)):
            assert refusal(way).code == 6014
        assert len(node.ledger.calls_of("pay")) == 1
        desk.app._settle_payments()
        restored = desk.call("hive-client-status")["restore"]["recount"]
        assert restored == {"state": "done", "payments": 1, "sats": 20_001, "error": ""}
        assert desk.call("hive-client-payments")["summary"]["day_sats"] == 20_001
        assert refusal(lambda: pay(desk, 2, 6_000)).code == 6007
        assert pay(desk, 1, 20_000)["repeated"] is True, "the nonce is used, the payment not made again"
        assert pay(desk, 2, 4_000)["status"] == "paid"
        assert len(node.ledger.paid()) == 2
        receipt = next(r for r in desk.call("hive-client-receipts")["receipts"] if r["action"] == "recount")
        assert (receipt["actor"], receipt["params"]["nonce"]) == ("cl-hive-comms", 1)
        assert receipt["result"] == {
            "status": "paid",
            "counted_sats": 20_001,
            "reason": "paid after the backup was made",
        }


def test_the_windows_are_those_of_the_payments(node: Node) -> None:
    for day, sats in ((0, 3_000), (3, 2_000), (9, 1_000)):
        with node.running(at=day * DAY) as desk:
            pay(desk, day + 1, sats)
    node.restore(at=9 * DAY + 10)
    with node.running(at=9 * DAY + 10) as desk:
        desk.app._settle_payments()
        assert desk.call("hive-client-payments")["summary"] == {
            "day_sats": 1_001,
            "week_sats": 3_002,
            "total_sats": 6_003,
        }


def test_a_recount_that_fails_is_tried_again_and_shown(node: Node) -> None:
    with node.running(at=50) as desk:
        pay(desk, 1, 100)
    node.restore(at=100)
    node.ledger.down = True
    with node.running(at=100) as desk:
        desk.app._settle_payments()
        checks = {check.name: check for check in desk.app.checks()}
        assert (checks["spend recount"].ok, status_of(desk.app.checks())) == (False, "degraded")
        assert "listsendpays did not answer" in checks["spend recount"].detail
        shown = desk.call("hive-client-status")["restore"]["recount"]
        assert (shown["state"], shown["error"]) == ("failing", "listsendpays did not answer within 60 s")
        assert (
            "the last attempt failed: listsendpays"
            in refusal(lambda: desk.call("hive-client-payments", "record", "bob", 10)).message
        )
        node.ledger.down = False
        desk.app._settle_payments()
        assert status_of(desk.app.checks()) == "ok"
        assert pay(desk, 2, 100)["status"] == "paid"


def test_it_is_counted_once_per_restore(node: Node) -> None:
    with node.running(at=50) as desk:
        pay(desk, 1, 100)
    for at in (100, 200):  # the same set again: what the first recount found is gone with it
        node.restore(at=at)
        for _ in range(2):
            with node.running(at=at + 1) as desk:
                desk.app._settle_payments()
                assert desk.call("hive-client-payments")["summary"]["total_sats"] == 101
        asked = [params for params in node.ledger.calls_of("listsendpays") if "index" in params]
        assert len(asked) == 2, "one page, and the empty one after it"
        node.ledger.calls.clear()


def test_what_was_between_two_attempts_at_the_restore_is_found_two_minutes_later(node: Node) -> None:
    with node.running(at=50) as desk:
        pay(desk, 1, 100)
    late, node.ledger.parts = node.ledger.parts, []
    node.restore(at=100)
    now = 0.0
    with node.running(at=100) as desk:
        desk.app.spending.clock = lambda: now
        desk.app._settle_payments()
        node.ledger.parts = late
        for now, found in ((119.0, 0), (120.0, 101), (500.0, 101)):  # noqa: B007 - the clock reads it
            desk.app._settle_payments()
            assert desk.call("hive-client-payments")["summary"]["day_sats"] == found
        assert desk.call("hive-client-status")["restore"]["recount"]["payments"] == 1
        pages = [params for params in node.ledger.calls_of("listsendpays") if "index" in params]
        assert len(pages) == 3, "none, then one and the empty one after it"


def test_payments_under_way_failed_or_of_somebody_else(node: Node) -> None:
    node.ledger.call("pay", {"bolt11": invoice("own", 7), "label": "rent"})
    node.ledger.call("pay", {"bolt11": invoice("own2", 7), "label": "hive-pay:me:1"})
    with node.running(at=50) as desk:
        for nonce, how in ((1, "fail"), (2, "pend")):
            node.ledger.how = how
            refusal(lambda: pay(desk, nonce, 100))  # noqa: B023 - called at once
    node.restore(at=100)
    node.ledger.how = "pay"
    with node.running(at=100) as desk:
        desk.app._settle_payments()
        (found,) = desk.call("hive-client-payments", "history")["payments"]
        assert (found["nonce"], found["status"], found["counted_sats"]) == (2, "reserved", 101)
        node.ledger.parts[-1]["status"] = "complete"
        desk.app._settle_payments()
        assert desk.call("hive-client-payments", "history")["payments"][0]["status"] == "paid"


def test_a_payment_for_an_advisor_that_the_restored_data_lacks(node: Node) -> None:
    with node.running(at=50) as desk:
        eve = desk.advisor("eve")
        desk.call("hive-client-payments", action="pay", advisor="eve", nonce=1, bolt11=invoice("e", 24_000))
    node.restore(at=100)
    with node.running(at=100) as desk:
        desk.app._settle_payments()
        assert desk.call("hive-client-payments")["summary"]["day_sats"] == 24_001
        assert desk.advisor("eve") == eve
        asked = {"action": "pay", "advisor": "eve", "nonce": 2, "bolt11": invoice("e2", 2_000)}
        assert refusal(lambda: desk.call("hive-client-payments", **asked)).code == 6007


def test_a_payment_in_many_parts_over_many_pages(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cl_hive_comms.services.sendpays._PAGE", 3)
    with node.running(at=50) as desk:
        pay(desk, 1, 100)
    (part,) = node.ledger.parts
    node.ledger.parts = [
        {**part, "created_index": n, "amount_sent_msat": 33_400, "amount_msat": 33_334} for n in (1, 2, 4)
    ] + [{**part, "created_index": n, "status": "failed"} for n in (3, 5, 6, 7)]
    node.restore(at=100)
    with node.running(at=100) as desk:
        desk.app._settle_payments()
        (found,) = desk.call("hive-client-payments", "history")["payments"]
        assert (found["amount_sats"], found["counted_sats"]) == (101, 101)


# -- receipts ---------------------------------------------------------------------------------------------------------


def test_the_chain_of_restored_receipts_holds_and_one_of_them_tells_of_the_restore(node: Node) -> None:
    with node.running(at=50) as desk:
        desk.advisor("lost")
        head = desk.call("hive-client-receipts", verify=True)["verification"]["head"]
    node.restore(at=100)
    for _ in range(2):
        with node.running(at=101) as desk:
            proof = desk.call("hive-client-receipts", verify=True)["verification"]
            assert (proof["valid"], proof["checked"]) == (True, 3)
            assert proof["head"] != head
            notice = desk.call("hive-client-receipts", limit=1)["receipts"][0]
    assert (notice["schema_id"], notice["action"], notice["actor"]) == ("hive:restore/v1", "notice", "cl-hive-comms")
    assert notice["params"] == {"set": "20231114-221320-abc", "created_at": START}
    assert notice["result"] == {"restored_at": START + 100, "envelopes_accepted_after": START + 400}


def test_a_real_break_is_reported_after_a_restore_too(node: Node) -> None:
    node.restore(at=100)
    with sqlite3.connect(node.directory / DATABASE) as database:
        database.execute("UPDATE management_receipts SET actor = 'nobody' WHERE receipt_id = 2")
    database.close()
    with node.running(at=101) as desk, pytest.raises(IntegrityError, match="receipt 2 was changed"):
        desk.call("hive-client-receipts", verify=True)
