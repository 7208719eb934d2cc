"""What a settlement is made of: what this node earned, what others say they earned, and where to pay whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hive_kit.errors import NotFoundError, UnavailableError

from cl_hive.protocol import settlement_messages as wire
from cl_hive.protocol.registry import FUTURE_SKEW_SECONDS
from cl_hive.protocol.settlement_plan import WEEK_SECONDS, Contribution, bounds, period_of, previous
from cl_hive.services.limits import Counters
from cl_hive.services.membership import Membership
from cl_hive.services.post import Post
from cl_hive.services.wallet import Wallet, WalletError
from cl_hive.storage.settlement_inputs import FeeReport, InputStore
from cl_hive.storage.states import StateStore

# How far back a member may still report, and a period may still be settled.
MAX_AGE_SECONDS: Final = 5 * WEEK_SECONDS
RETENTION_SECONDS: Final = 52 * WEEK_SECONDS
# Capacity and uptime differ a little between members: states travel, and small changes are not gossiped.
CAPACITY_TOLERANCE_PCT: Final = 10
UPTIME_TOLERANCE: Final = 5


class Inputs:
    """Fee reports and offers."""

    def __init__(
        self,
        membership: Membership,
        store: InputStore,
        states: StateStore,
        wallet: Wallet,
        post: Post,
        counters: Counters,
        now: Callable[[], int],
        connected: Callable[[], set[str]],
        is_open: Callable[[str], bool],
    ) -> None:
        """Args: is_open: whether a period's figures may still change: nothing was proposed for it yet."""
        self.store = store
        self._membership = membership
        self._states = states
        self._wallet = wallet
        self._post = post
        self._counters = counters
        self._now = now
        self._connected = connected
        self._is_open = is_open

    # -- this node ----------------------------------------------------------------------------------------------------

    def close_week(self) -> bool:
        """Count what this node earned in the last week that is over, once. Returns whether it did.

        Raises:
            UnavailableError: lightningd does not answer.
        """
        period = previous(self._now())
        begin, end = bounds(period)
        known = self.store.report(self._membership.me, period)
        if known is not None and known.received_at >= end:
            return False
        fees, forwards = self._wallet.earned(begin, end)
        costs = known.rebalance_costs_sats if known else 0
        self.store.put_report(
            FeeReport(self._membership.me, period, fees, forwards, begin, end, max(self._now(), end), costs)
        )
        self.store.prune(self._now() - RETENTION_SECONDS)
        return True

    def report_costs(self, sats: int) -> FeeReport:
        """Note what rebalancing has cost this node in the week that runs."""
        now, me = self._now(), self._membership.me
        period = period_of(now)
        begin, end = bounds(period)
        known = self.store.report(me, period)
        fees, forwards = (known.fees_earned_sats, known.forward_count) if known else (0, 0)
        report = FeeReport(me, period, fees, forwards, begin, end, now, sats)
        self.store.put_report(report)
        return report

    def announce(self, peers: Iterable[str]) -> int:
        """Tell members this node's offer and its figures of the last week. Returns how many messages left."""
        targets = self._connected().intersection(peers, self._membership.others())
        if not targets or self._membership.own() is None:
            return 0
        sent = 0
        me, now = self._membership.me, self._now()
        if offer := self.store.offer(me):
            sent += self._send_offer(targets, offer)
        report = self.store.report(me, previous(now))
        if report is not None and report.received_at >= report.period_end:
            payload = {
                "peer_id": me,
                "fees_earned_sats": report.fees_earned_sats,
                "rebalance_costs_sats": report.rebalance_costs_sats,
                "period_start": report.period_start,
                "period_end": report.period_end,
                "forward_count": report.forward_count,
            }
            sent += self._post.broadcast(targets, wire.FEE_REPORT, self._post.sign(wire.FEE_REPORT, payload))
        return sent

    def register_offer(self, peer_id: str, offer: str) -> int:
        """Keep where to pay a member; the own one is told to the others. Returns how many were told.

        Raises:
            NotFoundError: it is no member.
        """
        if self._membership.members.get(peer_id) is None:
            raise NotFoundError(f"{peer_id} is no member; hive-members lists them")
        self.store.put_offer(peer_id, offer, self._now())
        if peer_id != self._membership.me:
            return 0
        return self._send_offer(self._connected().intersection(self._membership.others()), offer)

    def make_offer(self) -> str:
        """An offer of this node's own lightningd.

        Raises:
            UnavailableError: it makes none.
        """
        try:
            return self._wallet.make_offer(f"hive settlement {self._membership.hive_id()}")
        except WalletError as error:
            raise UnavailableError(str(error)) from error

    def _send_offer(self, targets: set[str], offer: str) -> int:
        payload = {"peer_id": self._membership.me, "bolt12_offer": offer, "timestamp": self._now()}
        return self._post.broadcast(targets, wire.SETTLEMENT_OFFER, self._post.sign(wire.SETTLEMENT_OFFER, payload))

    # -- the others ---------------------------------------------------------------------------------------------------

    def on_offer(self, peer_id: str, payload: dict[str, Any]) -> None:
        """Keep where a member wants to be paid."""
        if self.store.put_offer(peer_id, payload["bolt12_offer"], self._now()):
            self._counters.add("settlement_offers_learned")

    def on_report(self, peer_id: str, payload: dict[str, Any]) -> None:
        """Keep what a member earned.

        Totals of a week only grow, so of two reports the larger is the later one, in whatever order they come. Nothing
        changes any more once the period has a proposal: votes are about figures that stand.
        """
        begin, now = payload["period_start"], self._now()
        period = period_of(begin)
        if not now - MAX_AGE_SECONDS <= payload["period_end"] <= now + FUTURE_SKEW_SECONDS + WEEK_SECONDS:
            self._counters.add("fee_report_refused_time")
            return
        report = FeeReport(
            peer_id,
            period,
            payload["fees_earned_sats"],
            payload["forward_count"],
            begin,
            payload["period_end"],
            now,
            payload.get("rebalance_costs_sats") or 0,
        )
        known = self.store.report(peer_id, period)
        if known is not None and known.figures() == report.figures():
            return
        if not self._is_open(period):
            self._counters.add("fee_report_refused_closed")
        elif known is not None and any(new < old for new, old in zip(report.figures(), known.figures(), strict=True)):
            self._counters.add("fee_report_refused_smaller")
        else:
            self.store.put_report(report)

    # -- figures of all -----------------------------------------------------------------------------------------------

    def contributions(self, period: str) -> list[Contribution]:
        """What this node knows of every member for a period; who has not reported has earned nothing."""
        reports = {report.peer_id: report for report in self.store.reports(period)}
        found = []
        for member in self._membership.members.all():
            report = reports.get(member.peer_id)
            state = self._states.signed(member.peer_id) or {}
            found.append(
                Contribution(
                    member.peer_id,
                    capacity_sats=int(state.get("capacity_sats") or 0),
                    forward_count=report.forward_count if report else 0,
                    fees_earned_sats=report.fees_earned_sats if report else 0,
                    rebalance_costs_sats=report.rebalance_costs_sats if report else 0,
                    uptime_pct=max(0, min(100, round(member.uptime_pct * 100))),
                )
            )
        return found

    def silent(self, period: str) -> list[str]:
        """Members whose report for a period has not come."""
        reported = {report.peer_id for report in self.store.reports(period)}
        return [member.peer_id for member in self._membership.members.all() if member.peer_id not in reported]

    def difference(self, period: str, claimed: Mapping[str, Contribution]) -> str:
        """In what a proposal's figures differ from what this node knows, as a sentence's end; "" when in nothing."""
        known = {contribution.peer_id: contribution for contribution in self.contributions(period)}
        if known.keys() != claimed.keys():
            return "it counts other members than this node lists"
        for peer, ours in known.items():
            theirs = claimed[peer]
            exact = (ours.fees_earned_sats, ours.rebalance_costs_sats, ours.forward_count)
            if exact != (theirs.fees_earned_sats, theirs.rebalance_costs_sats, theirs.forward_count):
                return f"{peer} reported other earnings to this node"
            spread = abs(ours.capacity_sats - theirs.capacity_sats) * 100
            if spread > CAPACITY_TOLERANCE_PCT * max(ours.capacity_sats, theirs.capacity_sats):
                return f"this node knows another capacity of {peer}"
            if abs(ours.uptime_pct - theirs.uptime_pct) > UPTIME_TOLERANCE:
                return f"this node knows another uptime of {peer}"
        return ""
