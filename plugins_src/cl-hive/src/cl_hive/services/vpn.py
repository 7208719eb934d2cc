"""The VPN gate: which connections hive messages may come over."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from cl_hive.protocol.registry import MessageSpec

# Every type that exists belongs to one class, so that a new message is gated until somebody decides otherwise.
CLASSES: Final = {
    "GOSSIP": "gossip",
    "INTENT": "intent",
    "INTENT_ABORT": "intent",
    "STATE_HASH": "sync",
    "FULL_SYNC": "sync",
}


def host_of(address: str) -> str:
    """The host of `host:port` or `[v6]:port`."""
    return address.rsplit(":", 1)[0].strip("[]") if ":" in address else address


def inside(address: str, subnets: Iterable[str]) -> bool:
    """Whether an address (with or without port) lies in one of the networks. Names and onions lie in none."""
    try:
        ip = ipaddress.ip_address(host_of(address))
    except ValueError:
        return False
    return any(ip in ipaddress.ip_network(subnet, strict=False) for subnet in subnets)


def verdict(mode: str, required: frozenset[str], subnets: Iterable[str], address: str, spec: MessageSpec) -> str:
    """`accept`, `accept-outside` (vpn-preferred, for the counters) or `refuse`.

    Args:
        mode: any, vpn-only or vpn-preferred.
        required: classes of messages that vpn-only is about; all and none are classes too.
        subnets: networks of the VPN.
        address: where the peer is connected from, "" when that is not known.
        spec: the message's type.
    """
    if mode == "any" or "none" in required:
        return "accept"
    if "all" not in required and CLASSES.get(spec.name) not in required:
        return "accept"
    if inside(address, subnets):
        return "accept"
    return "accept-outside" if mode == "vpn-preferred" else "refuse"
