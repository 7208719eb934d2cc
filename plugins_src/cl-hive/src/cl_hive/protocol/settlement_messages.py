"""Messages of settlement: reports and offers of members, a proposal, the votes for it, and what was paid."""

from __future__ import annotations

from typing import Final

from cl_hive.protocol import fields
from cl_hive.protocol.canonical import canonical_json
from cl_hive.protocol.registry import MessageSpec, Payload, Rate, Signed
from cl_hive.protocol.settlement_plan import WEEK_SECONDS, bounds, period_of

MAX_PARTIES: Final = 100
MAX_OFFER: Final = 4096
_DAY: Final = 24 * 3600
_COUNT: Final = fields.integer(0, 2**31 - 1)
_BECH32: Final = frozenset("qpzry9x8gf2tvdw0s3jn54khce6mua7l")


def period(value: object) -> str:
    """An ISO week that exists, as `YYYY-WW`."""
    try:
        good = isinstance(value, str) and len(value) == 7 and period_of(bounds(value)[0]) == value
    except ValueError:
        good = False
    return "" if good else "is not a week such as 2026-07"


def offer(value: object) -> str:
    """The text of a BOLT 12 offer; whether it is a good one, lightningd says when it is used."""
    if problem := fields.text(MAX_OFFER)(value):
        return problem
    assert isinstance(value, str)
    good = value.startswith("lno1") and set(value[4:]) <= _BECH32 and len(value) > 4
    return "" if good else "is not a BOLT12 offer (it must start with lno1)"


def offer_text(payload: Payload) -> str:
    """Signed text of a SETTLEMENT_OFFER."""
    return f"settlement_offer:{payload['peer_id']}:{payload['bolt12_offer']}"


def fee_report_text(payload: Payload) -> str:
    """Signed text of a FEE_REPORT; releases that know no costs leave them out."""
    costs = payload.get("rebalance_costs_sats")
    parts = (
        payload["peer_id"],
        payload["fees_earned_sats"],
        *(() if costs is None else (costs,)),
        payload["period_start"],
        payload["period_end"],
        payload["forward_count"],
    )
    return "fee_report:" + ":".join(str(part) for part in parts)


def _text_of(*names: str) -> Signed:
    return Signed(names[0], lambda payload: canonical_json({name: payload.get(name) for name in names[1:]}))


def _check_report(payload: Payload) -> str:
    begin, end = payload["period_start"], payload["period_end"]
    if bounds(period_of(begin))[0] != begin:
        return "has a period_start which begins no week"
    return "" if begin < end <= begin + WEEK_SECONDS else "has a period_end which lies outside the week"


CONTRIBUTION: Final = fields.record(
    {
        "peer_id": fields.pubkey,
        "capacity": fields.sats,
        "forward_count": _COUNT,
        "fees_earned": fields.sats,
        "rebalance_costs": fields.sats,
        "uptime": fields.integer(0, 100),
    }
)

SETTLEMENT_OFFER: Final = MessageSpec(
    number=32821,
    name="SETTLEMENT_OFFER",
    required={
        "peer_id": fields.pubkey,
        "bolt12_offer": offer,
        "timestamp": fields.timestamp,
        "signature": fields.signature,
    },
    signed=Signed("peer_id", offer_text),
    max_age_seconds=_DAY,
    rate=Rate(30, 3600),
)
FEE_REPORT: Final = MessageSpec(
    number=32823,
    name="FEE_REPORT",
    required={
        "peer_id": fields.pubkey,
        "fees_earned_sats": fields.sats,
        "period_start": fields.integer(0, 2**33),
        "period_end": fields.integer(0, 2**33),
        "forward_count": _COUNT,
        "signature": fields.signature,
    },
    optional={"rebalance_costs_sats": fields.sats},
    check=_check_report,
    signed=Signed("peer_id", fee_report_text),
    rate=Rate(120, 3600),
)
SETTLEMENT_PROPOSE: Final = MessageSpec(
    number=32847,
    name="SETTLEMENT_PROPOSE",
    required={
        "proposal_id": fields.hex_text(32),
        "period": period,
        "proposer_peer_id": fields.pubkey,
        "data_hash": fields.hex_text(64),
        "plan_hash": fields.hex_text(64),
        "total_fees_sats": fields.sats,
        "member_count": fields.integer(1, MAX_PARTIES),
        "contributions": fields.list_of(CONTRIBUTION, MAX_PARTIES),
        "timestamp": fields.timestamp,
        "signature": fields.signature,
    },
    signed=_text_of(
        "proposer_peer_id",
        "proposal_id",
        "period",
        "proposer_peer_id",
        "data_hash",
        "plan_hash",
        "total_fees_sats",
        "member_count",
        "timestamp",
    ),
    max_age_seconds=_DAY,
    rate=Rate(60, 3600),
    reliable=True,
    identity=("proposal_id",),
)
SETTLEMENT_READY: Final = MessageSpec(
    number=32849,
    name="SETTLEMENT_READY",
    required={
        "proposal_id": fields.hex_text(32),
        "voter_peer_id": fields.pubkey,
        "data_hash": fields.hex_text(64),
        "timestamp": fields.timestamp,
        "signature": fields.signature,
    },
    signed=_text_of("voter_peer_id", "proposal_id", "voter_peer_id", "data_hash", "timestamp"),
    max_age_seconds=_DAY,
    rate=Rate(120, 3600),
    reliable=True,
    identity=("proposal_id", "voter_peer_id"),
)
SETTLEMENT_EXECUTED: Final = MessageSpec(
    number=32851,
    name="SETTLEMENT_EXECUTED",
    required={
        "proposal_id": fields.hex_text(32),
        "executor_peer_id": fields.pubkey,
        "timestamp": fields.timestamp,
        "signature": fields.signature,
    },
    optional={
        "plan_hash": fields.hex_text(64),
        "total_sent_sats": fields.sats,
        "payment_hash": fields.text(64, empty=True),
        "amount_paid_sats": fields.sats,
    },
    signed=_text_of(
        "executor_peer_id",
        "proposal_id",
        "executor_peer_id",
        "plan_hash",
        "total_sent_sats",
        "payment_hash",
        "amount_paid_sats",
        "timestamp",
    ),
    max_age_seconds=_DAY,
    rate=Rate(120, 3600),
    reliable=True,
    identity=("proposal_id", "executor_peer_id"),
)
MESSAGES: Final = (SETTLEMENT_OFFER, FEE_REPORT, SETTLEMENT_PROPOSE, SETTLEMENT_READY, SETTLEMENT_EXECUTED)
