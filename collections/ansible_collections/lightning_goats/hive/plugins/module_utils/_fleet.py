# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Makes the nodes of a fleet members of one hive, through cl-hive's own commands. Runs on the node, Python 3.9."""

from __future__ import annotations

import time
from typing import Any, Protocol

from ._engine.errors import HiveError

Json = dict[str, Any]


class Caller(Protocol):
    """Whoever asks lightningd."""

    def call(self, method: str, params: Any = None) -> Any: ...


def membership(rpc: Caller) -> Json:
    """``{"hive_id", "node_id", "members"}`` of this node; an empty hive_id when it is in no hive."""
    status = rpc.call("hive-status")
    active = status.get("status") == "active"
    members = sorted(str(row["peer_id"]) for row in rpc.call("hive-members")["members"]) if active else []
    return {
        "hive_id": str(status.get("hive_id") or "") if active else "",
        "node_id": str(status["membership"]["pubkey"]),
        "members": members,
    }


def invite(rpc: Caller, expected: list[str], check_mode: bool) -> Json:
    """Found a hive if this node is in none and issue a ticket for each expected node that is no member.

    Returns:
        ``{"changed", "hive_id", "members", "tickets": {node id: ticket}, "issuer": {"node_id", "address"}}``.
    """
    found = membership(rpc)
    founded = not found["hive_id"]
    missing = [node for node in expected if node not in found["members"] and node != found["node_id"]]
    tickets: dict[str, str] = {}
    if check_mode:
        return {**found, "changed": founded or bool(missing), "tickets": tickets, "issuer": {}}
    if founded:
        rpc.call("hive-genesis")
        found = membership(rpc)
    for node in missing:
        tickets[node] = str(rpc.call("hive-invite", {"valid_hours": 1, "peer_id": node})["ticket"])
    issuer = {"node_id": found["node_id"], "address": address(rpc)} if tickets else {}
    return {**found, "changed": founded or bool(tickets), "tickets": tickets, "issuer": issuer}


def address(rpc: Caller) -> str:
    """Where lightningd listens for peers, as ``host:port``; "" when it does not say."""
    info = rpc.call("getinfo")
    for entry in [*(info.get("address") or []), *(info.get("binding") or [])]:
        if entry.get("type") in ("ipv4", "ipv6", "dns") and entry.get("port"):
            host = str(entry["address"])
            return f"[{host}]:{entry['port']}" if ":" in host else f"{host}:{entry['port']}"
    return ""


def join(rpc: Caller, ticket: str, issuer: Json, timeout: float, check_mode: bool) -> Json:
    """Join with ``ticket`` unless this node is in a hive already, and wait until it is a member.

    Raises:
        HiveError: the issuer did not admit this node within ``timeout`` seconds.
    """
    found = membership(rpc)
    if found["hive_id"] or check_mode:
        return {**found, "changed": not found["hive_id"]}
    connect(rpc, issuer)
    rpc.call("hive-join", {"ticket": ticket})
    found = wait(rpc, [], timeout)
    return {**found, "changed": True}


def connect(rpc: Caller, issuer: Json) -> None:
    """A join request travels to the issuer as a peer message, so the two have to be connected."""
    peers = rpc.call("listpeers", {"id": issuer["node_id"]})["peers"] if issuer.get("node_id") else []
    if issuer.get("address") and not any(peer.get("connected") for peer in peers):
        rpc.call("connect", [f"{issuer['node_id']}@{issuer['address']}"])


def wait(rpc: Caller, expected: list[str], timeout: float) -> Json:
    """Wait until this node is in a hive that has all ``expected`` members."""
    deadline = time.monotonic() + timeout
    while True:
        found = membership(rpc)
        missing = [node for node in expected if node not in found["members"]]
        if found["hive_id"] and not missing:
            return {**found, "changed": False}
        if time.monotonic() >= deadline:
            what = (
                f"{len(missing)} members are missing ({missing[0][:16]}...)"
                if missing
                else "the issuer has not admitted it"
            )
            raise HiveError(
                f"the hive is not complete after {timeout:g} s, {what}; look at hive-status and at the "
                "peers of this node, then run again",
                "hive-incomplete",
            )
        time.sleep(0.1)
