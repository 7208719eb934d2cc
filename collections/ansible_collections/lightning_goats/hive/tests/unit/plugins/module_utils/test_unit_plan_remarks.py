"""What an approver is told beside the steps."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _plan_remarks as remarks

Json = dict[str, Any]

POLICY: Json = {"htlc_margin_blocks": 18, "deadman_seconds": 1320}


def seen(height: int = 1000, expiry: int | None = None, count: int = 0) -> Json:
    flying = {"count": count, "nearest_expiry": expiry}
    return {"lightningd": {"blockheight": height}, "pending_htlcs": flying, "stack": [{"name": "a"}]}


def plan(*waves: list[str], others: list[str] | None = None) -> Json:
    names = [name for wave in waves for name in wave] + (others or [])
    return {
        "waves": [{"name": f"wave {n}" if n else "canary", "nodes": nodes} for n, nodes in enumerate(waves)],
        "nodes": {name: {"payments": {"blocks_needed": 20 + len(name)}} for name in names},
    }


def test_a_switch_needs_more_blocks_the_longer_it_may_take() -> None:
    short = remarks.payments(seen(), [], {**POLICY, "deadman_seconds": 0})["blocks_needed"]
    usual = remarks.payments(seen(), [], POLICY)["blocks_needed"]
    patient = remarks.payments(seen(), [], {**POLICY, "timeouts": {"init": 7200}})["blocks_needed"]
    assert 18 < short < usual < patient
    assert remarks.payments(seen(), [], {**POLICY, "htlc_margin_blocks": 30})["blocks_needed"] == usual + 12


def test_payments_in_flight_leave_blocks_or_nothing_is_said() -> None:
    assert remarks.payments(seen(), [], POLICY)["blocks_left"] is None
    found = remarks.payments(seen(1000, 1040, 3), [], POLICY)
    assert (found["pending"], found["blocks_left"]) == (3, 40)
    assert remarks.payment_words({**found, "blocks_left": None}, 600) == []


@pytest.mark.parametrize(
    ("left", "wait", "words"),
    [
        (21, 600, "3 payments in flight, the nearest expires in 21 blocks: enough for this switch, which may need 21"),
        (20, 600, "it waits up to 600 s for them, then it stays as it is"),
        (20, 0, "this switch may need 21: it stays as it is"),
    ],
)
def test_the_line_says_what_the_node_is_going_to_do(left: int, wait: float, words: str) -> None:
    (line,) = remarks.payment_words({"pending": 3, "blocks_needed": 21, "blocks_left": left}, wait)
    assert words in line


def test_who_is_not_in_the_run_is_named_with_the_reason() -> None:
    assert remarks.remarks(plan(["a"], ["b"]), ["d", "c"], True)[0] == "not in this run (--limit): c, d, unchanged"
    assert remarks.remarks(plan(), ["c"], False) == ["not in this run: c, unchanged"]


def test_a_run_without_a_canary_before_the_others_says_so() -> None:
    assert "all 3 nodes are the canary" in remarks.remarks(plan(["a", "b", "c"]), [], False)[0]
    assert "a is the only node of this run" in remarks.remarks(plan(["a"]), [], False)[0]
    # One node that changes beside others that run what they should is an ordinary canary.
    assert len(remarks.remarks(plan(["a"], others=["b"]), [], False)) == 1
    assert len(remarks.remarks(plan(["a"], ["b", "c"]), [], False)) == 1


def test_the_worst_case_of_the_whole_run_is_told_once() -> None:
    (line,) = remarks.remarks(plan(["a"], ["bb", "ccc"]), [], False)
    assert line == "payments in flight: a switch may need 23 blocks at worst, there and back"
    assert remarks.remarks(plan(), [], False) == []


def test_an_approver_reads_how_long_stages_soak_and_how_many_may_fail() -> None:
    soak = {"minutes": 4320.0, "blocks": 432, "forwards": 20, "extend_minutes": 0.0}
    agreed = {
        "soaks": {"canary": soak, "wave": {**soak, "minutes": 360.0, "forwards": 0}},
        "failure_budget": 2,
        "commit": "fleet",
    }
    assert remarks.terms(agreed) == [
        "the canary soaks for 3 d, 432 blocks, 20 forwards after it is confirmed; a later run goes on",
        "every further stage soaks for 6 h, 432 blocks after it is confirmed; a later run goes on",
        "2 nodes may fail, but not the canary (hive_failure_budget)",
        "nothing is kept before every stage is switched and healthy (hive_commit is fleet)",
    ]
    assert remarks.terms({"soaks": {"canary": {**soak, "minutes": 0}}}) == remarks.terms({}) == []
