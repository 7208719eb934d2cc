"""hive-genesis, hive-invite, hive-join, hive-leave, hive-members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hive_kit.app import Method
from hive_kit.params import NoParams, integer, text

from cl_hive.app import HiveApplication
from cl_hive.protocol import fields, ticket

_NODE_ID = r"0[23][0-9a-f]{64}"
_NODE_ID_SHAPE = "a node id (66 hex characters beginning 02 or 03)"


@dataclass(frozen=True, kw_only=True)
class GenesisParams:
    """hive_id: name of the hive; by default one is made."""

    hive_id: str = text(default="", max_length=64)


@dataclass(frozen=True, kw_only=True)
class InviteParams:
    """How long, for whom and how often the ticket is good."""

    valid_hours: int = integer(default=24, minimum=1, maximum=ticket.MAX_HOURS)
    requirements: int = integer(default=0, minimum=0, maximum=255)
    tier: str = text(default=ticket.JOINER_TIER, choices=("neophyte", "member"))
    uses: int = integer(default=1, minimum=1, maximum=ticket.MAX_USES)
    peer_id: str = text(default="", pattern=_NODE_ID, shape=_NODE_ID_SHAPE)


@dataclass(frozen=True, kw_only=True)
class JoinParams:
    """The ticket, and whom to ask (the issuer, if at all)."""

    ticket: str = text(max_length=20_000)
    peer_id: str = text(default="", pattern=_NODE_ID, shape=_NODE_ID_SHAPE)


@dataclass(frozen=True, kw_only=True)
class LeaveParams:
    """Why."""

    reason: str = text(default="voluntary", min_length=1, max_length=fields.MAX_REASON)


def genesis(app: HiveApplication, params: GenesisParams) -> dict[str, Any]:
    """Found a hive with this node as its first member."""
    return app.command(lambda hive: hive.genesis(params.hive_id))


def invite(app: HiveApplication, params: InviteParams) -> dict[str, Any]:
    """Issue a ticket."""
    return app.command(
        lambda hive: hive.invite(params.valid_hours, params.requirements, params.tier, params.uses, params.peer_id)
    )


def join(app: HiveApplication, params: JoinParams) -> dict[str, Any]:
    """Ask the issuer of a ticket for admission."""
    reply = app.command(lambda hive: hive.join(params.ticket.strip(), params.peer_id))
    app.wake()
    return reply


def leave(app: HiveApplication, params: LeaveParams) -> dict[str, Any]:
    """Leave the hive."""
    return app.command(lambda hive: hive.leave(params.reason))


def members(app: HiveApplication, _: NoParams) -> dict[str, Any]:
    """All members this node knows."""
    rows = [member.shown() for member in app.hive.membership.members.all()]
    return {"count": len(rows), "members": rows}


METHODS = (
    Method("hive-genesis", genesis, GenesisParams, "Found a hive with this node as its first member"),
    Method("hive-invite", invite, InviteParams, "Issue a ticket that lets another node join"),
    Method("hive-join", join, JoinParams, "Join a hive with the ticket of a member"),
    Method("hive-leave", leave, LeaveParams, "Leave the hive"),
    Method("hive-members", members, NoParams, "List the members of the hive"),
)
