# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Makes the nodes of a fleet members of one hive, through cl-hive's own commands. Runs on the node, Python 3.9."""

from __future__ import annotations

from typing import Any, Protocol

from ._engine.errors import HiveError
from ._waiting import wait_for

Json = dict[str, Any]


class Caller(Protocol):
    """Whoever asks lightningd."""

    def call(self, method: str, params: Any = None) -> Any: ...


def membership(rpc: Caller) -> Json:
    """``{"hive_id", "node_id", "members", "refusal"}``; an empty hive_id when this node is in no hive."""
    status = rpc.call("hive-status")
    active = status.get("status") == "active"
    request = status.get("join") or {}
    members = sorted(str(row["peer_id"]) for row in rpc.call("hive-members")["members"]) if active else []
    return {
        "hive_id": str(status.get("hive_id") or "") if active else "",
        "node_id": str(status["membership"]["pubkey"]),
        "members": members,
        "refusal": str(request.get("reason") or "") if request.get("status") == "refused" else "",
    }


def invite(rpc: Caller, expected: list[str], check_mode: bool) -> Json:
    """Found a hive if this node is in none and issue a ticket for each expected node that is no member.

    Returns:
        ``{"changed", "hive_id", "node_id", "members", "tickets": {node id: ticket}}``.
    """
    found = membership(rpc)
    founded = not found["hive_id"]
    missing = [node for node in expected if node not in found["members"] and node != found["node_id"]]
    tickets: dict[str, str] = {}
    if not check_mode:
        if founded:
            rpc.call("hive-genesis")
            found = membership(rpc)
        for node in missing:
            tickets[node] = str(rpc.call("hive-invite", {"valid_hours": 1, "peer_id": node})["ticket"])
    return {**found, "changed": founded or bool(missing), "tickets": tickets}


def join(rpc: Caller, ticket: str, timeout: float, check_mode: bool) -> Json:
    """Join with ``ticket`` unless this node is in a hive already, and wait until it is a member.

    cl-hive itself connects to the issuer, asks, and asks again.

    Raises:
        HiveError: the issuer refused, or did not admit this node within ``timeout`` seconds.
    """
    found = membership(rpc)
    if found["hive_id"] or check_mode:
        return {**found, "changed": not found["hive_id"]}
    rpc.call("hive-join", {"ticket": ticket})
    found = wait(rpc, [], timeout)
    return {**found, "changed": True}


def wait(rpc: Caller, expected: list[str], timeout: float) -> Json:
    """Wait until this node is in a hive that has all ``expected`` members."""
    missing: list[str] = []

    def complete() -> Json | None:
        found = membership(rpc)
        missing[:] = [node for node in expected if node not in found["members"]]
        if found["refusal"] and (missing or not found["hive_id"]):
            raise HiveError(
                f"the hive refused this node ({found['refusal']}); put that right, then run again", "hive-refused"
            )
        return {**found, "changed": False} if found["hive_id"] and not missing else None

    found = wait_for(complete, timeout, 0.1)
    if found is not None:
        return found
    what = f"{len(missing)} members are missing ({missing[0][:16]}...)" if missing else "the issuer has not admitted it"
    raise HiveError(
        f"the hive is not complete after {timeout:g} s, {what}; look at hive-status and at the peers of this node, "
        "then run again",
        "hive-incomplete",
    )
