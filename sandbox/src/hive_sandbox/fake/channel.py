"""One channel: its numbers, its HTLCs, and how the list commands show it."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any

from .bech32 import taproot_address

LIVE = ("CHANNELD_AWAITING_LOCKIN", "CHANNELD_NORMAL", "CHANNELD_SHUTTING_DOWN")
LOCKIN, NORMAL, UNILATERAL = "CHANNELD_AWAITING_LOCKIN", "CHANNELD_NORMAL", "AWAITING_UNILATERAL"
_STATUS = {
    LOCKIN: "CHANNELD_AWAITING_LOCKIN:Funding needs 1 more confirmations to be ready.",
    NORMAL: "CHANNELD_NORMAL:Channel ready for use.",
    UNILATERAL: "CHANNELD_NORMAL:Attempting to reconnect",
}
_DUST_LIMIT_MSAT = 546_000
_CHANNEL_TYPE = {"bits": [12, 22], "names": ["static_remotekey/even", "anchors/even"]}
_UNLIMITED_MSAT = 2**64 - 1
_TO_SELF_DELAY = 6
_MAX_HTLCS = 483


@dataclass
class Htlc:
    """A payment on its way over a channel. `direction` is in or out, as seen from this node."""

    number: int
    direction: str
    amount_msat: int
    payment_hash: str
    expiry: int
    index: int
    # How often an HTLC of this node had changed when this one last did; 0: it has not.
    updated: int = 0
    # Incoming: what the sender wrote for this node and those behind it.
    onion: list[dict[str, Any]] = field(default_factory=list)
    # Outgoing: the channel and the number of the HTLC that it forwards; empty for one's own payment.
    forwards: list[Any] = field(default_factory=list)
    # How it ended: {} while it is pending, else {"preimage": hex} or {"failure": {...}}.
    outcome: dict[str, Any] = field(default_factory=dict)
    # It never ends: made by the fault htlc-expiring.
    stuck: bool = False

    @property
    def pending(self) -> bool:
        """Whether it is still on its way."""
        return not self.outcome

    @property
    def state(self) -> str:
        """The state as listhtlcs names it."""
        if self.direction == "in":
            if self.pending:
                return "RCVD_ADD_ACK_REVOCATION"
            return "SENT_REMOVE_ACK_REVOCATION"
        return "SENT_ADD_ACK_REVOCATION" if self.pending else "RCVD_REMOVE_ACK_REVOCATION"


@dataclass
class Policy:
    """What one side asks for forwarding over a channel."""

    fee_base_msat: int = 1
    fee_proportional_millionths: int = 10
    cltv_expiry_delta: int = 6
    htlc_minimum_msat: int = 0
    htlc_maximum_msat: int = 0

    def listed(self) -> dict[str, int]:
        """Return the policy as listpeerchannels writes it."""
        return {
            "htlc_minimum_msat": self.htlc_minimum_msat,
            "htlc_maximum_msat": self.htlc_maximum_msat,
            "cltv_expiry_delta": self.cltv_expiry_delta,
            "fee_base_msat": self.fee_base_msat,
            "fee_proportional_millionths": self.fee_proportional_millionths,
        }


@dataclass(eq=False)
class Channel:
    """A channel with another sandbox node, as one of the two sees it. Amounts in millisatoshi."""

    peer_id: str
    channel_id: str
    funding_txid: str
    funding_outnum: int
    opener: str
    total_msat: int
    to_us_msat: int
    pushed_msat: int
    # Height of the chain when it was funded: it is confirmed by the blocks behind.
    funded_at: int
    state: str = LOCKIN
    short_channel_id: str = ""
    local: Policy = field(default_factory=Policy)
    remote: Policy = field(default_factory=Policy)
    min_to_us_msat: int = 0
    max_to_us_msat: int = 0
    next_number: int = 0
    htlcs: list[Htlc] = field(default_factory=list)
    state_changes: list[dict[str, str]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    private: bool = False
    peer_ready: bool = False

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Channel:
        """Return the channel that `document` describes."""
        values = dict(document)
        values["local"], values["remote"] = Policy(**values["local"]), Policy(**values["remote"])
        values["htlcs"] = [Htlc(**htlc) for htlc in values["htlcs"]]
        return cls(**values)

    def document(self) -> dict[str, Any]:
        """Return what `from_document` needs, as JSON can hold it."""
        return dataclasses.asdict(self)

    @property
    def is_live(self) -> bool:
        """Whether the channel has not begun to close."""
        return self.state in LIVE

    @property
    def reserve_msat(self) -> int:
        """What each side must keep: one percent."""
        return self.total_msat // 100

    @property
    def pending(self) -> list[Htlc]:
        """The HTLCs on their way."""
        return [htlc for htlc in self.htlcs if htlc.pending]

    @property
    def spendable_msat(self) -> int:
        """What can be sent now."""
        return max(0, self.to_us_msat - self.reserve_msat) if self.state == NORMAL else 0

    @property
    def receivable_msat(self) -> int:
        """What can be received now."""
        incoming = sum(htlc.amount_msat for htlc in self.pending if htlc.direction == "in")
        outgoing = sum(htlc.amount_msat for htlc in self.pending if htlc.direction == "out")
        theirs = self.total_msat - self.to_us_msat - incoming - outgoing
        return max(0, theirs - self.reserve_msat) if self.state == NORMAL else 0

    def htlc(self, number: int, direction: str) -> Htlc | None:
        """Return one HTLC by its number and direction."""
        return next((h for h in self.htlcs if h.number == number and h.direction == direction), None)

    def count(self, name: str, amount: int) -> None:
        """Add to the counters of HTLCs, for example `out_offered` and `out_payments_offered`."""
        way, what = name.split("_")
        self.counters[f"{way}_payments_{what}"] = self.counters.get(f"{way}_payments_{what}", 0) + 1
        self.counters[f"{way}_{what}_msat"] = self.counters.get(f"{way}_{what}_msat", 0) + amount

    def note_balance(self) -> None:
        """Keep the extremes of the balance up to date."""
        self.min_to_us_msat = min(self.min_to_us_msat, self.to_us_msat)
        self.max_to_us_msat = max(self.max_to_us_msat, self.to_us_msat)


def direction_of(node_id: str, peer_id: str) -> int:
    """Return 0 when the first of two nodes has the lower id, else 1."""
    return 0 if node_id < peer_id else 1


def alias_of(channel_id: str, node_id: str) -> str:
    """Return the alias short channel id that a node uses for a channel that is not confirmed."""
    raw = hashlib.sha256(bytes.fromhex(channel_id + node_id)).digest()
    block, tx, out = int.from_bytes(raw[:3], "big"), int.from_bytes(raw[3:6], "big"), int.from_bytes(raw[6:8], "big")
    return f"{block}x{tx}x{out}"


def listed(channel: Channel, node_id: str, connected: bool, ignore_fee_limits: bool) -> dict[str, Any]:
    """Return the entry of listpeerchannels."""
    close_script = hashlib.sha256(f"close {channel.channel_id} {node_id}".encode()).hexdigest()
    ours = channel.opener == "local"
    funds = channel.total_msat - channel.pushed_msat
    entry: dict[str, Any] = {
        "peer_id": channel.peer_id,
        "peer_connected": connected,
        "reestablished": connected,
        "channel_type": _CHANNEL_TYPE,
        "ignore_fee_limits": ignore_fee_limits,
        "updates": {"local": channel.local.listed(), "remote": channel.remote.listed()},
        "state": channel.state,
        "scratch_txid": hashlib.sha256(f"commitment {channel.channel_id}".encode()).hexdigest(),
        "last_tx_fee_msat": 1_411_000,
        "lost_state": False,
        "feerate": {"perkw": 1255, "perkb": 5020},
        "owner": "channeld" if connected and channel.is_live else None,
        "short_channel_id": channel.short_channel_id or None,
        "direction": direction_of(node_id, channel.peer_id),
        "channel_id": channel.channel_id,
        "funding_txid": channel.funding_txid,
        "funding_outnum": channel.funding_outnum,
        "close_to_addr": taproot_address("5120" + close_script),
        "close_to": "5120" + close_script,
        "private": channel.private,
        "opener": channel.opener,
        "alias": {
            "local": alias_of(channel.channel_id, node_id),
            "remote": alias_of(channel.channel_id, channel.peer_id),
        },
        "features": ["option_static_remotekey", "option_anchors"],
        "funding": {
            "local_funds_msat": funds + channel.pushed_msat if ours else 0,
            "remote_funds_msat": 0 if ours else funds + channel.pushed_msat,
            "pushed_msat": channel.pushed_msat,
            "withheld": False,
        },
        "to_us_msat": channel.to_us_msat,
        "min_to_us_msat": channel.min_to_us_msat,
        "max_to_us_msat": channel.max_to_us_msat,
        "total_msat": channel.total_msat,
        "fee_base_msat": channel.local.fee_base_msat,
        "fee_proportional_millionths": channel.local.fee_proportional_millionths,
        "dust_limit_msat": _DUST_LIMIT_MSAT,
        "max_total_htlc_in_msat": _UNLIMITED_MSAT,
        "their_max_htlc_value_in_flight_msat": _UNLIMITED_MSAT,
        "our_max_htlc_value_in_flight_msat": _UNLIMITED_MSAT,
        "their_reserve_msat": channel.reserve_msat,
        "our_reserve_msat": channel.reserve_msat,
        "spendable_msat": channel.spendable_msat,
        "receivable_msat": channel.receivable_msat,
        "minimum_htlc_in_msat": 0,
        "minimum_htlc_out_msat": channel.local.htlc_minimum_msat,
        "maximum_htlc_out_msat": channel.local.htlc_maximum_msat,
        "their_to_self_delay": _TO_SELF_DELAY,
        "our_to_self_delay": _TO_SELF_DELAY,
        "max_accepted_htlcs": _MAX_HTLCS,
        "state_changes": channel.state_changes,
        "status": [_STATUS.get(channel.state, channel.state)],
    }
    for way in ("in", "out"):
        for name in ("payments_offered", "offered_msat", "payments_fulfilled", "fulfilled_msat"):
            entry[f"{way}_{name}"] = channel.counters.get(f"{way}_{name}", 0)
    entry["htlcs"] = [
        {
            "direction": htlc.direction,
            "id": htlc.number,
            "amount_msat": htlc.amount_msat,
            "expiry": htlc.expiry,
            "payment_hash": htlc.payment_hash,
            "state": htlc.state,
        }
        for htlc in channel.pending
    ]
    return {name: value for name, value in entry.items() if value is not None}
