"""Who owes whom for a week, as a pure function: every member must come to the same payments from the same figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final

from cl_hive.protocol.canonical import digest, sha256_hex

# Shares of capacity, forwards and uptime in a member's score.
CAPACITY_WEIGHT: Final = Fraction(30, 100)
FORWARDS_WEIGHT: Final = Fraction(60, 100)
UPTIME_WEIGHT: Final = Fraction(10, 100)
LEAST_PAYMENT_SATS: Final = 100
PLAN_VERSION: Final = 2
WEEK_SECONDS: Final = 7 * 24 * 3600


@dataclass(frozen=True)
class Contribution:
    """What one member brought in a week: sats, a count of forwards, and uptime in whole percent."""

    peer_id: str
    capacity_sats: int = 0
    forward_count: int = 0
    fees_earned_sats: int = 0
    rebalance_costs_sats: int = 0
    uptime_pct: int = 0

    @property
    def net_profit_sats(self) -> int:
        """What is to be shared; a loss is nobody else's."""
        return max(0, self.fees_earned_sats - self.rebalance_costs_sats)

    def document(self) -> dict[str, Any]:
        """As a proposal carries it."""
        return {
            "peer_id": self.peer_id,
            "capacity": self.capacity_sats,
            "forward_count": self.forward_count,
            "fees_earned": self.fees_earned_sats,
            "rebalance_costs": self.rebalance_costs_sats,
            "uptime": self.uptime_pct,
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Contribution:
        """Read what `document` made; its form was checked."""
        return cls(
            str(document["peer_id"]),
            int(document["capacity"]),
            int(document["forward_count"]),
            int(document["fees_earned"]),
            int(document["rebalance_costs"]),
            int(document["uptime"]),
        )


@dataclass(frozen=True, order=True)
class Line:
    """One payment of a plan."""

    from_peer_id: str
    to_peer_id: str
    amount_sats: int

    def document(self) -> dict[str, Any]:
        """As the plan hash covers it."""
        return {"from_peer": self.from_peer_id, "to_peer": self.to_peer_id, "amount_sats": self.amount_sats}


@dataclass(frozen=True)
class Share:
    """What a member earned and what it should have; a negative balance pays."""

    contribution: Contribution
    fair_share_sats: int

    @property
    def balance_sats(self) -> int:
        """What the member is owed, or owes when negative."""
        return self.fair_share_sats - self.contribution.net_profit_sats


@dataclass(frozen=True)
class Plan:
    """The settlement of one period."""

    period: str
    shares: tuple[Share, ...]
    minimum_sats: int
    lines: tuple[Line, ...]
    data_hash: str
    plan_hash: str

    @property
    def total_fees_sats(self) -> int:
        """What all members earned, before costs."""
        return sum(share.contribution.fees_earned_sats for share in self.shares)

    @property
    def total_sats(self) -> int:
        """What all payments add up to."""
        return sum(line.amount_sats for line in self.lines)

    def of_payer(self, peer_id: str) -> tuple[Line, ...]:
        """The payments a member has to make."""
        return tuple(line for line in self.lines if line.from_peer_id == peer_id)

    def due(self) -> dict[str, int]:
        """What each payer has to pay in all."""
        sums: dict[str, int] = {}
        for line in self.lines:
            sums[line.from_peer_id] = sums.get(line.from_peer_id, 0) + line.amount_sats
        return sums


def period_of(moment: int) -> str:
    """The ISO week a unix time lies in, as `YYYY-WW`; the year is that of the week, not of the day."""
    year, week, _ = datetime.fromtimestamp(moment, UTC).isocalendar()
    return f"{year:04d}-{week:02d}"


def bounds(period: str) -> tuple[int, int]:
    """Unix times at which a period begins and ends.

    Raises:
        ValueError: there is no such week.
    """
    year, _, week = period.partition("-")
    begin = int(datetime.fromisocalendar(int(year), int(week), 1).replace(tzinfo=UTC).timestamp())
    return begin, begin + WEEK_SECONDS


def previous(moment: int) -> str:
    """The last period that is over."""
    return period_of(moment - WEEK_SECONDS)


def data_hash(period: str, contributions: Iterable[Contribution]) -> str:
    """Hash of the figures, as the field makes it."""
    rows = [
        f"{c.peer_id}:{c.fees_earned_sats}:{c.rebalance_costs_sats}:{c.capacity_sats}:{c.uptime_pct}"
        for c in sorted(contributions, key=lambda c: c.peer_id)
    ]
    return sha256_hex("|".join([period, *rows]))


def plan_hash(period: str, figures: str, minimum_sats: int, lines: Iterable[Line]) -> str:
    """Hash of the payments, as the field makes it."""
    return digest(
        {
            "v": PLAN_VERSION,
            "period": period,
            "data_hash": figures,
            "min_payment_sats": minimum_sats,
            "payments": [line.document() for line in sorted(lines)],
        }
    )


def make_plan(period: str, contributions: Sequence[Contribution]) -> Plan:
    """The settlement of a period. The order of the contributions does not matter.

    Raises:
        ValueError: a member contributes twice.
    """
    members = sorted(contributions, key=lambda c: c.peer_id)
    if len({member.peer_id for member in members}) != len(members):
        raise ValueError("a member contributes twice")
    fair = _fair_shares(members)
    shares = tuple(Share(member, fair[member.peer_id]) for member in members)
    minimum = LEAST_PAYMENT_SATS
    if members:
        minimum = max(minimum, sum(member.fees_earned_sats for member in members) // (len(members) * 10))
    lines = _match(shares, minimum)
    figures = data_hash(period, members)
    return Plan(period, shares, minimum, lines, figures, plan_hash(period, figures, minimum, lines))


def _fair_shares(members: Sequence[Contribution]) -> dict[str, int]:
    """Whole sats that add up to the total profit, by largest remainder; equal remainders go to the smaller node id."""
    total = sum(member.net_profit_sats for member in members)
    scores = _scores(members)
    whole = sum(scores.values())
    if not whole:
        # Nobody has a score: everybody keeps what it earned.
        return {member.peer_id: member.net_profit_sats for member in members}
    exact = {peer: total * score / whole for peer, score in scores.items()}
    found = {peer: int(value) for peer, value in exact.items()}
    left = total - sum(found.values())
    for peer in sorted(exact, key=lambda peer: (found[peer] - exact[peer], peer))[:left]:
        found[peer] += 1
    return found


def _scores(members: Sequence[Contribution]) -> dict[str, Fraction]:
    weighed = (
        (CAPACITY_WEIGHT, {m.peer_id: m.capacity_sats for m in members}),
        (FORWARDS_WEIGHT, {m.peer_id: m.forward_count for m in members}),
        (UPTIME_WEIGHT, {m.peer_id: m.uptime_pct for m in members}),
    )
    scores = {member.peer_id: Fraction(0) for member in members}
    for weight, values in weighed:
        total = sum(values.values())
        for peer, value in values.items():
            scores[peer] += weight * Fraction(value, total) if total else 0
    return scores


def _match(shares: Sequence[Share], minimum_sats: int) -> tuple[Line, ...]:
    """Largest debt against largest claim until one side is used up; less than the minimum is not worth a payment."""
    payers = _largest_first({s.contribution.peer_id: -s.balance_sats for s in shares if s.balance_sats < 0})
    receivers = _largest_first({s.contribution.peer_id: s.balance_sats for s in shares if s.balance_sats > 0})
    owed, due = dict(payers), dict(receivers)
    lines: list[Line] = []
    waiting = [peer for peer, _ in receivers]
    for payer, _ in payers:
        while owed[payer] and waiting:
            receiver = waiting[0]
            amount = min(owed[payer], due[receiver])
            if amount >= minimum_sats:
                lines.append(Line(payer, receiver, amount))
            owed[payer] -= amount
            due[receiver] -= amount
            if not due[receiver]:
                waiting.pop(0)
    return tuple(sorted(lines))


def _largest_first(amounts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(amounts.items(), key=lambda entry: (-entry[1], entry[0]))
