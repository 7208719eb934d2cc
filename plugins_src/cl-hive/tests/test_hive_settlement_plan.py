"""Who owes whom: the same figures give the same payments everywhere, and no sat is made or lost."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import pytest
from cl_hive.protocol import settlement_messages as wire
from cl_hive.protocol.canonical import canonical_json
from cl_hive.protocol.settlement_plan import (
    WEEK_SECONDS,
    Contribution,
    Line,
    Plan,
    bounds,
    make_plan,
    period_of,
    previous,
)
from cl_hive.testing import node_id
from hypothesis import given
from hypothesis import strategies as st

PERIOD = "2027-02"
IDS = [node_id(str(number)) for number in range(12)]
contributions = st.lists(
    st.builds(
        Contribution,
        st.sampled_from(IDS),
        st.integers(0, 10**11),
        st.integers(0, 10**6),
        st.integers(0, 10**7),
        st.integers(0, 10**7),
        st.integers(0, 100),
    ),
    unique_by=lambda contribution: contribution.peer_id,
    max_size=12,
)


@given(contributions)
def test_no_sat_is_made_or_lost(members: list[Contribution]) -> None:
    plan = make_plan(PERIOD, members)
    profit = sum(member.net_profit_sats for member in members)
    assert sum(share.fair_share_sats for share in plan.shares) == profit
    assert sum(share.balance_sats for share in plan.shares) == 0
    assert all(share.fair_share_sats >= 0 for share in plan.shares)


@given(contributions)
def test_nobody_pays_more_than_it_owes_or_gets_more_than_its_share(members: list[Contribution]) -> None:
    plan = make_plan(PERIOD, members)
    balances = {share.contribution.peer_id: share.balance_sats for share in plan.shares}
    paid, got = sums(plan)
    assert all(amount <= -balances[peer] for peer, amount in paid.items())
    assert all(amount <= balances[peer] for peer, amount in got.items())
    assert all(line.amount_sats >= plan.minimum_sats >= 100 for line in plan.lines)
    # What is left over is less than the minimum for each pair that was matched.
    rest = sum(-balance - paid.get(peer, 0) for peer, balance in balances.items() if balance < 0)
    assert rest < plan.minimum_sats * max(1, 2 * len(members))
    assert len({(line.from_peer_id, line.to_peer_id) for line in plan.lines}) == len(plan.lines)


@given(contributions, st.randoms())
def test_the_order_does_not_matter(members: list[Contribution], chance: Any) -> None:
    shuffled = list(members)
    chance.shuffle(shuffled)
    assert make_plan(PERIOD, shuffled) == make_plan(PERIOD, members)


@given(contributions)
def test_what_travels_gives_the_same_plan(members: list[Contribution]) -> None:
    travelled = [Contribution.of(member.document()) for member in members]
    assert all(wire.CONTRIBUTION(member.document()) == "" for member in members)
    assert make_plan(PERIOD, travelled) == make_plan(PERIOD, members)


def sums(plan: Plan) -> tuple[dict[str, int], dict[str, int]]:
    paid: dict[str, int] = {}
    got: dict[str, int] = {}
    for line in plan.lines:
        paid[line.from_peer_id] = paid.get(line.from_peer_id, 0) + line.amount_sats
        got[line.to_peer_id] = got.get(line.to_peer_id, 0) + line.amount_sats
    assert paid == plan.due()
    return paid, got


def test_an_example_worked_out_by_hand() -> None:
    a, b, c = sorted(IDS[:3])
    members = [
        Contribution(a, 1_000_000, 60, 9_000, 0, 100),
        Contribution(b, 1_000_000, 30, 900, 400, 100),
        Contribution(c, 2_000_000, 10, 0, 700, 100),
    ]
    plan = make_plan(PERIOD, members)
    # Profit 9500. Scores: a 0.3/4 + 0.6*0.6 + 0.1/3, b 0.3/4 + 0.6*0.3 + 0.1/3, c 0.3/2 + 0.6*0.1 + 0.1/3.
    assert [share.fair_share_sats for share in plan.shares] == [4449, 2739, 2312]
    assert [share.balance_sats for share in plan.shares] == [-4551, 2239, 2312]
    assert plan.minimum_sats == 9_900 // 30
    assert plan.lines == tuple(sorted([Line(a, c, 2312), Line(a, b, 2239)]))
    assert (plan.total_fees_sats, plan.total_sats) == (9_900, 4_551)


def test_the_hashes_are_the_field_s() -> None:
    a, b = sorted(IDS[:2])
    plan = make_plan(PERIOD, [Contribution(b, 10, 5, 2_000, 3, 80), Contribution(a, 20, 6, 0, 0, 90)])
    text = f"{PERIOD}|{a}:0:0:20:90|{b}:2000:3:10:80"
    assert plan.data_hash == hashlib.sha256(text.encode()).hexdigest()
    body = {
        "v": 2,
        "period": PERIOD,
        "data_hash": plan.data_hash,
        "min_payment_sats": 100,
        "payments": [{"from_peer": b, "to_peer": a, "amount_sats": plan.total_sats}],
    }
    assert plan.plan_hash == hashlib.sha256(canonical_json(body).encode()).hexdigest()


def test_nothing_to_share_is_nothing_to_pay() -> None:
    assert make_plan(PERIOD, []).lines == ()
    lonely = make_plan(PERIOD, [Contribution(IDS[0], fees_earned_sats=5_000)])
    assert (lonely.lines, lonely.shares[0].fair_share_sats) == ((), 5_000)
    losses = [Contribution(peer, 10, 1, 5, 50, 100) for peer in IDS[:3]]
    assert make_plan(PERIOD, losses).lines == ()
    # Without any score everybody keeps what it earned.
    unscored = make_plan(PERIOD, [Contribution(IDS[0], fees_earned_sats=900), Contribution(IDS[1])])
    assert (unscored.lines, unscored.total_fees_sats) == ((), 900)


def test_a_member_twice_is_no_plan() -> None:
    with pytest.raises(ValueError, match="twice"):
        make_plan(PERIOD, [Contribution(IDS[0]), Contribution(IDS[0])])


@pytest.mark.parametrize(
    ("day", "period"),
    [
        ("2026-12-27T23:59:59+00:00", "2026-52"),
        ("2026-12-28T00:00:00+00:00", "2026-53"),
        ("2027-01-03T23:59:59+00:00", "2026-53"),  # a day of 2027 in a week of 2026
        ("2027-01-04T00:00:00+00:00", "2027-01"),
        ("2024-12-30T00:00:00+00:00", "2025-01"),  # a day of 2024 in a week of 2025
    ],
)
def test_a_week_belongs_to_one_year(day: str, period: str) -> None:
    moment = int(datetime.fromisoformat(day).timestamp())
    assert period_of(moment) == period
    assert period_of(moment + WEEK_SECONDS) != period
    assert previous(moment + WEEK_SECONDS) == period
    begin, end = bounds(period)
    assert begin <= moment < end == begin + WEEK_SECONDS
    assert wire.period(period) == ""


@pytest.mark.parametrize("period", ["2027-W1", "2027-54", "2027-00", "2027-1", "", "27-01", None, 5, "2027-01\n"])
def test_other_texts_are_no_week(period: object) -> None:
    assert wire.period(period) != ""


@pytest.mark.parametrize("offer", ["lno1", "lnbc1qq", "LNO1QQ", "lno1b", "lno1qq qq", "lno1" + "q" * 5000, None])
def test_other_texts_are_no_offer(offer: object) -> None:
    assert wire.offer(offer) != ""
    assert wire.offer("lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc") == ""
