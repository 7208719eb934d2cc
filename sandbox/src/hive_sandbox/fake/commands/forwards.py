"""Commands about forwards: listing them, page by page where asked, and waiting for the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import INVALID_PARAMS, RpcError, refused
from ..forwards import listed
from ..params import BadValueError, Param, msat, number, one_of, short_channel_id
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_STATUS = one_of("Unrecognized status", "offered", "settled", "local_failed", "failed")
_SUBSYSTEMS = ("invoices", "forwards", "sendpays", "htlcs", "chainmoves", "channelmoves", "networkevents")


def _big(value: object) -> int:
    try:
        return number(value)
    except BadValueError:
        raise BadValueError("should be an unsigned 64 bit integer") from None


@command(
    "listforwards",
    Param("status", _STATUS, None),
    Param("in_channel", short_channel_id, None),
    Param("out_channel", short_channel_id, None),
    Param("index", one_of("unrecognized index", "created", "updated"), None),
    Param("start", _big, None),
    Param("limit", number, None),
)
async def listforwards(node: Node, request: Request) -> Result:
    """Return the forwards, filtered, or a page of them."""
    args = request.args
    if args["index"] is None:
        for name in ("start", "limit"):
            if args[name] is not None:
                raise RpcError(INVALID_PARAMS, f"Can only specify {{{name}}} with {{index}}")
    filters = {name: args[name] for name in ("status", "in_channel", "out_channel") if args[name] is not None}
    limit, start = args["limit"], args["start"] or 0
    rows = node.forwards.page(args["index"] or "created", start, None if filters else limit)
    chosen = [row for row in rows if all(row[name] == wanted for name, wanted in filters.items())]
    return {"forwards": [listed(row) for row in (chosen if limit is None else chosen[:limit])]}


@command(
    "wait",
    Param("subsystem", one_of("unknown subsystem", *_SUBSYSTEMS)),
    Param("indexname", one_of("unknown index", "created", "updated", "deleted")),
    Param("nextvalue", _big),
)
async def wait(node: Node, request: Request) -> Result:
    """Wait until an index of the forwards has come this far, and say how far it has come."""
    subsystem, name = request.args["subsystem"], request.args["indexname"]
    if subsystem != "forwards":
        raise refused(f"the command wait for {subsystem}")
    async with node.forwards.grown:
        await node.forwards.grown.wait_for(lambda: node.forwards.height(name) >= request.args["nextvalue"])
    return {"subsystem": subsystem, name: node.forwards.height(name)}


@command(
    "sandbox-forwards",
    Param("count", number),
    Param("status", one_of("Unrecognized status", "settled", "local_failed", "failed"), "settled"),
    Param("amount", msat, 1_000_000),
)
async def sandbox_forwards(node: Node, request: Request) -> Result:
    """Put so many forwards into the list that nobody sent."""
    node.forwards.made_up(request.args["count"], request.args["status"], request.args["amount"])
    return {name: node.forwards.height(name) for name in ("created", "updated")}
