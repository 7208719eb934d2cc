"""Commands about channels, the graph, and the coins they are made of."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from ..errors import INVALID_PARAMS, RpcError, refused
from ..params import (
    BadValueError,
    Param,
    anything,
    bad_param,
    boolean,
    msat,
    node_id,
    number,
    one_of,
    sat,
    short_channel_id,
    string,
)
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_INDEX = one_of("unrecognized index", "created", "updated")
_WAIT_TIMED_OUT = 2000
# What bcli estimates on regtest, where nobody pays fees.
_PERKB = 1012
_SATOSHIS = {
    "opening_channel_satoshis": 177,
    "mutual_close_satoshis": 170,
    "unilateral_close_satoshis": 1390,
    "unilateral_close_nonanchor_satoshis": 151,
    "htlc_timeout_satoshis": 167,
    "htlc_success_satoshis": 177,
}


def _amount(value: Any) -> int:
    if value == "all":
        raise BadValueError("the sandbox's fake funds channels of a given amount only, not 'all'")
    return sat(value)


@command(
    "fundchannel",
    Param("id", node_id),
    Param("amount", _amount),
    Param("feerate", anything, None),
    Param("announce", boolean, True),
    Param("minconf", number, None),
    Param("utxos", anything, None),
    Param("push_msat", msat, 0),
)
async def fundchannel(node: Node, request: Request) -> Result:
    """Open a channel to a node, connecting to it where its address is known."""
    args = request.args
    await node.peers.connect(args["id"], None, None, request.client_id)
    channel = node.channels.fund(args["id"], args["amount"], args["push_msat"], announce=args["announce"])
    return {
        "txid": channel.funding_txid,
        "channel_id": channel.channel_id,
        "channel_type": {"bits": [12, 22], "names": ["static_remotekey/even", "anchors/even"]},
        "outnum": channel.funding_outnum,
    }


@command("listpeerchannels", Param("id", node_id, None), Param("short_channel_id", short_channel_id, None))
async def listpeerchannels(node: Node, request: Request) -> Result:
    """Return the channels with all peers, or with one, or one."""
    wanted, scid = request.args["id"], request.args["short_channel_id"]
    entries = [
        entry
        for entry in node.channels.listed()
        if wanted in (None, entry["peer_id"]) and scid in (None, entry.get("short_channel_id"))
    ]
    return {"channels": entries}


@command("listclosedchannels", Param("id", node_id, None))
async def listclosedchannels(node: Node, request: Request) -> Result:
    """Return no channels: in the sandbox none gets as far as being closed on chain."""
    del node, request
    return {"closedchannels": []}


@command(
    "setchannel",
    Param("id", string),
    Param("feebase", msat, None),
    Param("feeppm", number, None),
    Param("htlcmin", msat, None),
    Param("htlcmax", msat, None),
    Param("enforcedelay", number, None),
    Param("ignorefeelimits", boolean, None),
)
async def setchannel(node: Node, request: Request) -> Result:
    """Change the fees and limits of channels."""
    args = request.args
    found = node.channels.named(args["id"])
    if not found and args["id"] != "all":
        raise bad_param("id", "should be a channel ID or short channel ID")
    names = {
        "feebase": "fee_base_msat",
        "feeppm": "fee_proportional_millionths",
        "htlcmin": "htlc_minimum_msat",
        "htlcmax": "htlc_maximum_msat",
    }
    changes = {names[name]: args[name] for name in names if args[name] is not None}
    rows = []
    for channel in found:
        node.channels.set_policy(channel, changes)
        rows.append(
            {
                "peer_id": channel.peer_id,
                "channel_id": channel.channel_id,
                "short_channel_id": channel.short_channel_id,
                "fee_base_msat": channel.local.fee_base_msat,
                "fee_proportional_millionths": channel.local.fee_proportional_millionths,
                "minimum_htlc_out_msat": channel.local.htlc_minimum_msat,
                "maximum_htlc_out_msat": channel.local.htlc_maximum_msat,
                "ignore_fee_limits": bool(node.options.value("ignore-fee-limits")),
            }
        )
    return {"channels": rows}


@command("listfunds", Param("spent", boolean, False))
async def listfunds(node: Node, request: Request) -> Result:
    """Return the coins and this side's part of the channels."""
    del request
    channels = []
    for entry in node.channels.listed():
        row = {
            "peer_id": entry["peer_id"],
            "connected": entry["peer_connected"],
            "state": entry["state"],
            "channel_id": entry["channel_id"],
            "short_channel_id": entry.get("short_channel_id"),
            "our_amount_msat": entry["to_us_msat"],
            "amount_msat": entry["total_msat"],
            "funding_txid": entry["funding_txid"],
            "funding_output": entry["funding_outnum"],
        }
        channels.append({name: value for name, value in row.items() if value is not None})
    return {"outputs": node.wallet.unspent(), "channels": channels}


@command(
    "listhtlcs",
    Param("id", string, None),
    Param("index", _INDEX, None),
    Param("start", number, 0),
    Param("limit", number, None),
)
async def listhtlcs(node: Node, request: Request) -> Result:
    """Return the HTLCs of all channels, or of one."""
    wanted = request.args["id"]
    if wanted and not re.fullmatch(r"[0-9a-f]{64}|\d+x\d+x\d+", wanted):
        raise bad_param("id", "must be channel id or short channel id")
    scids = {c.short_channel_id for c in node.channels.named(wanted)} if wanted else None
    rows = [row for row in node.htlcs.listed() if scids is None or row["short_channel_id"] in scids]
    return {"htlcs": indexed(rows, request.args)}


def indexed(rows: list[dict[str, Any]], args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the part of a list that `index`, `start` and `limit` mean.

    Raises:
        RpcError: `start` or `limit` without `index`.
    """
    if args["index"] is None:
        for name in ("start", "limit"):
            if args[name]:
                raise RpcError(INVALID_PARAMS, f"Can only specify {{{name}}} with {{index}}")
        return rows
    key = f"{args['index']}_index"
    chosen = sorted((row for row in rows if row.get(key, 0) >= args["start"]), key=lambda row: int(row.get(key, 0)))
    return chosen if args["limit"] is None else chosen[: args["limit"]]


@command("listnodes", Param("id", node_id, None))
async def listnodes(node: Node, request: Request) -> Result:
    """Return the nodes of the graph."""
    wanted = request.args["id"]
    return {"nodes": [row for row in node.graph.listed_nodes() if wanted in (None, row["nodeid"])]}


@command(
    "listchannels",
    Param("short_channel_id", short_channel_id, None),
    Param("source", node_id, None),
    Param("destination", node_id, None),
)
async def listchannels(node: Node, request: Request) -> Result:
    """Return the public channels, one entry for each direction."""
    args = request.args
    if sum(args[name] is not None for name in ("short_channel_id", "source", "destination")) > 1:
        raise RpcError(INVALID_PARAMS, "Can only specify one of `short_channel_id`, `source` or `destination`")
    rows = [
        row
        for row in node.graph.listed_channels()
        if args["short_channel_id"] in (None, row["short_channel_id"])
        and args["source"] in (None, row["source"])
        and args["destination"] in (None, row["destination"])
    ]
    return {"channels": rows}


@command("feerates", Param("style", string))
async def feerates(node: Node, request: Request) -> Result:
    """Return the fees of regtest."""
    style = request.args["style"]
    if style not in ("perkb", "perkw"):
        raise RpcError(INVALID_PARAMS, f"'style' should be 'perkw' or 'perkb', not '\"{style}\"'")
    rate = _PERKB if style == "perkb" else _PERKB // 4
    estimates = [{"blockcount": n, "feerate": rate, "smoothed_feerate": rate} for n in (2, 6, 12, 100)]
    rates: Result = dict.fromkeys(("opening", "mutual_close", "unilateral_close"), rate)
    rates |= {"unilateral_anchor_close": 5000 if style == "perkb" else 1250, "penalty": rate, "min_acceptable": rate}
    if node.release.estimates_splice:
        rates["splice"] = 1032 if style == "perkb" else 258
    rates |= {"max_acceptable": rate * 10, "floor": rate, "estimates": estimates}
    return {style: rates, "onchain_fee_estimates": dict(_SATOSHIS)}


@command("waitblockheight", Param("blockheight", number), Param("timeout", number, 60))
async def waitblockheight(node: Node, request: Request) -> Result:
    """Wait until the chain has this height."""
    try:
        async with asyncio.timeout(request.args["timeout"]), node.chain.grown:
            await node.chain.grown.wait_for(lambda: node.chain.height >= request.args["blockheight"])
    except TimeoutError:
        raise RpcError(_WAIT_TIMED_OUT, "Timed out.") from None
    return {"blockheight": node.chain.height}


@command("staticbackup")
async def staticbackup(node: Node, request: Request) -> Result:
    """Return the static backup of no channel; the fake has none to give of a real one."""
    del request
    if node.channels.by_id:
        raise refused("the command staticbackup for a node with channels")
    return {"scb": []}
