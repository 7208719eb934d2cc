"""Options of cl-hive.

All that the field's releases know are declared, so that lightningd keeps starting with an operator's existing config.

`HONOURED` are the ones that have a meaning in this release; hive-status lists the others as declared only.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from typing import Any, Final

from hive_kit.errors import OptionError
from hive_kit.options import Option, Options

from cl_hive.protocol.messages import MAX_MEMBERS

DATABASE: Final = "cl_hive.db"
MESSAGE_CLASSES: Final = ("all", "gossip", "intent", "sync", "none")


@dataclass(frozen=True)
class Decimal(Option):
    """An option with a decimal number, which lightningd sees as text.

    Args:
        low, high: inclusive range.
    """

    low: float = 0.0
    high: float = 1.0

    def parse(self, raw: Any) -> Any:
        """The number as text; None gives the default.

        Raises:
            OptionError: it is no number inside the range.
        """
        if raw is None:
            return self.default
        try:
            number = float(raw)
        except (TypeError, ValueError) as error:
            raise OptionError(f"{self.name}: {raw!r} is not a number") from error
        if not (math.isfinite(number) and self.low <= number <= self.high):
            raise OptionError(f"{self.name}: {raw} is not between {self.low:g} and {self.high:g}")
        return str(raw)


@dataclass(frozen=True)
class Subnets(Option):
    """A comma-separated list of networks in CIDR form."""

    def parse(self, raw: Any) -> Any:
        """The entries; None gives the default.

        Raises:
            OptionError: an entry is no network.
        """
        entries = super().parse(raw)
        for entry in entries:
            try:
                ipaddress.ip_network(entry, strict=False)
            except ValueError as error:
                raise OptionError(f"{self.name}: {entry!r} is not a network such as 10.8.0.0/24") from error
        return entries


def _flag(name: str, default: bool, description: str) -> Option:
    return Option(name, default, description, kind="bool", dynamic=True)


def _number(name: str, default: int, low: int, high: int, description: str) -> Option:
    return Option(name, default, description, kind="int", dynamic=True, minimum=low, maximum=high)


def _decimal(name: str, default: str, low: float, high: float, description: str) -> Option:
    return Decimal(name, default, description, dynamic=True, low=low, high=high)


@dataclass(frozen=True)
class FeerateLimit(Option):
    """0 for no limit, or a feerate in sat per 1000 virtual bytes."""

    def parse(self, raw: Any) -> Any:
        """The number; None gives the default.

        Raises:
            OptionError: it is between 1 and 999, which would be below what any node relays.
        """
        number = super().parse(raw)
        if 0 < number < 1000:
            raise OptionError(f"{self.name}: {number} is neither 0 nor between 1000 and {self.maximum}")
        return number


def _list(name: str, limit: int, description: str) -> Option:
    return Option(name, (), description, kind="csv", dynamic=True, maximum=limit)


OPTIONS: Final[tuple[Option, ...]] = (
    Option(
        "hive-db-path", DATABASE, "SQLite file; a relative path starts at lightningd's network directory", kind="path"
    ),
    Option(
        "hive-governance-mode",
        "advisor",
        "Who executes actions: advisor queues them for approval; autonomous is an old name of failsafe",
        dynamic=True,
        choices=("advisor", "failsafe", "autonomous"),
    ),
    _decimal("hive-neophyte-fee-discount", "0.5", 0, 1, "Share of the public fee that a neophyte pays"),
    _number("hive-member-fee-ppm", 0, 0, 100_000, "Fee between members"),
    _number("hive-probation-days", 90, 1, 365, "Days before a neophyte can become a member"),
    _decimal("hive-vouch-threshold", "0.51", 0, 1, "Share of members that must vouch for a promotion"),
    _number("hive-min-vouch-count", 3, 1, MAX_MEMBERS, "Members that must at least vouch for a promotion"),
    _number("hive-max-members", 50, 2, MAX_MEMBERS, "This node admits nobody beyond so many members"),
    _decimal("hive-market-share-cap", "0.20", 0, 1, "Largest share of a target's capacity the hive aims at"),
    _flag("hive-membership-enabled", True, "Take part in promotions"),
    _flag("hive-auto-vouch", True, "Vouch for neophytes that meet the criteria"),
    _flag("hive-auto-join", False, "Greet every peer that connects; a ticket is needed to be admitted"),
    _flag("hive-auto-promote", True, "Ask for promotion when the criteria are met"),
    _flag("hive-ban-autotrigger", False, "Propose a ban for sustained leeching"),
    _flag("hive-join-requires-channel", True, "Admit only nodes that have a channel with this node"),
    _number("hive-intent-hold-seconds", 60, 10, 600, "Seconds an intent is announced before it is carried out"),
    _decimal("hive-gossip-threshold", "0.10", 0.01, 0.5, "Change of capacity that is gossiped at once"),
    _number("hive-heartbeat-interval", 300, 60, 3600, "Seconds between two gossips without a change"),
    _number("hive-planner-interval", 3600, 300, 86_400, "Seconds between two runs of the planner"),
    _flag("hive-planner-enable-expansions", False, "Let the planner propose channels"),
    _number("hive-planner-min-channel-sats", 1_000_000, 100_000, 100_000_000, "Smallest channel the planner proposes"),
    _number(
        "hive-planner-max-channel-sats", 50_000_000, 1_000_000, 1_000_000_000, "Largest channel the planner proposes"
    ),
    _number(
        "hive-planner-default-channel-sats", 5_000_000, 100_000, 500_000_000, "Channel size without other knowledge"
    ),
    _number(
        "hive-failsafe-budget-per-day", 10_000_000, 100_000, 10_000_000, "Sats the failsafe mode may spend in a day"
    ),
    _number("hive-autonomous-budget-per-day", 10_000_000, 0, 1_000_000_000, "Old name of hive-failsafe-budget-per-day"),
    _decimal("hive-budget-reserve-pct", "0.20", 0.05, 0.5, "Share of on-chain funds that is never spent"),
    _decimal("hive-budget-max-per-channel-pct", "0.50", 0.1, 1, "Share of the daily budget for one channel"),
    FeerateLimit(
        "hive-max-expansion-feerate",
        5000,
        "Highest feerate for opening channels, sat/kB; 0 for no limit",
        kind="int",
        dynamic=True,
        minimum=0,
        maximum=100_000,
    ),
    Option("hive-rpc-pool-size", 3, "Not used: calls have deadlines instead", kind="int", minimum=1, maximum=8),
    Option(
        "hive-transport-mode",
        "any",
        "Which connections hive messages may come over; vpn-preferred accepts all and counts",
        dynamic=True,
        choices=("any", "vpn-only", "vpn-preferred"),
    ),
    Subnets("hive-vpn-subnets", (), "Networks of the VPN, CIDR", kind="csv", dynamic=True, maximum=10),
    Option("hive-vpn-bind", "", "Address of this node inside the VPN, ip:port", dynamic=True),
    _list("hive-vpn-peers", 100, "Members inside the VPN, pubkey@ip:port"),
    Option(
        "hive-vpn-required-messages",
        ("all",),
        "Which messages vpn-only is about",
        kind="csv",
        dynamic=True,
        choices=MESSAGE_CLASSES,
    ),
    _list("hive-cashu-mints", 32, "Mints that escrow may use"),
    _list("hive-nostr-relays", 32, "Relays of the monolith's own transport; cl-hive-comms has its own list"),
)

# Options that change what this release does.
HONOURED: Final = frozenset(
    {
        "hive-db-path",
        "hive-max-members",
        "hive-join-requires-channel",
        "hive-gossip-threshold",
        "hive-heartbeat-interval",
        "hive-transport-mode",
        "hive-vpn-subnets",
        "hive-vpn-required-messages",
    }
)
DECLARED_ONLY: Final = tuple(sorted(option.name for option in OPTIONS if option.name not in HONOURED))


class Settings:
    """The honoured options with their meanings. Reads follow `setconfig`."""

    def __init__(self, options: Options) -> None:
        """Check what spans several options.

        Raises:
            OptionError: the options contradict each other.
        """
        self._options = options
        self._check_channel_sizes()

    @property
    def governance_mode(self) -> str:
        """advisor or failsafe."""
        mode = self._options.text("hive-governance-mode")
        return "failsafe" if mode == "autonomous" else mode

    @property
    def max_members(self) -> int:
        """How many members this node admits up to."""
        return self._options.number("hive-max-members")

    @property
    def market_share_cap(self) -> float:
        """0 to 1."""
        return float(self._options.text("hive-market-share-cap"))

    @property
    def requires_channel(self) -> bool:
        """Whether a joiner needs a channel with this node."""
        return self._options.flag("hive-join-requires-channel")

    @property
    def gossip_threshold(self) -> float:
        """Share of capacity whose change is gossiped at once."""
        return float(self._options.text("hive-gossip-threshold"))

    @property
    def heartbeat_seconds(self) -> int:
        """Seconds between two gossips without a change."""
        return self._options.number("hive-heartbeat-interval")

    @property
    def transport_mode(self) -> str:
        """any, vpn-only or vpn-preferred."""
        return self._options.text("hive-transport-mode")

    @property
    def vpn_subnets(self) -> tuple[str, ...]:
        """Networks of the VPN."""
        return self._options.entries("hive-vpn-subnets")

    @property
    def vpn_required(self) -> frozenset[str]:
        """Classes of messages that vpn-only is about."""
        return frozenset(self._options.entries("hive-vpn-required-messages"))

    def _check_channel_sizes(self) -> None:
        low = self._options.number("hive-planner-min-channel-sats")
        high = self._options.number("hive-planner-max-channel-sats")
        usual = self._options.number("hive-planner-default-channel-sats")
        if not low <= usual <= high:
            raise OptionError(
                f"hive-planner-default-channel-sats ({usual}) must lie between hive-planner-min-channel-sats ({low}) "
                f"and hive-planner-max-channel-sats ({high})"
            )
