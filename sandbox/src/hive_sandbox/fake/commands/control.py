"""Commands about the node itself: getinfo, help, options, the log, stopping."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from ..errors import UNKNOWN_COMMAND, RpcError
from ..log import LEVELS
from ..params import Param, anything, boolean, one_of, string
from ..setconfig import set_config
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_SHUTDOWN_REPLY = '{"result":"Shutdown complete"}'


@command("getinfo")
async def getinfo(node: Node, request: Request) -> Result:
    """Return what the node is."""
    del request
    counts = node.channels.counts()
    result: Result = {
        "id": node.keys.node_id,
        "alias": node.options.value("alias"),
        "color": node.options.value("rgb"),
        "num_peers": len(node.peers.connected()),
        "num_pending_channels": counts["pending"],
        "num_active_channels": counts["active"],
        "num_inactive_channels": counts["inactive"],
        "address": [],
        "binding": [{"type": "ipv4", "address": host, "port": port} for host, port in node.peers.bindings],
        "version": node.release.version,
        "blockheight": node.chain.height,
        "network": node.network,
        "fees_collected_msat": node.forwards.fees_collected(),
        "lightning-dir": str(node.network_dir),
        "our_features": {name: node.release.features[name] for name in ("init", "node", "channel", "invoice")},
    }
    if node.faults.has("bitcoind-unsynced"):
        result["warning_bitcoind_sync"] = "Bitcoind is not up-to-date with network."
    if node.faults.has("unsynced"):
        result["warning_lightningd_sync"] = "Still loading latest blocks from bitcoind."
    return result


@command("help", Param("command", string, None))
async def help_(node: Node, request: Request) -> Result:
    """Return the usage of all commands, or of one."""
    wanted = request.args["command"]
    rows = [{"command": f"{name} {usage}"} for name, usage in node.commands.names() if wanted in (None, name)]
    if wanted is not None and not rows:
        raise RpcError(UNKNOWN_COMMAND, f"Unknown command {wanted}")
    return {"help": rows, "format-hint": "simple"}


@command("check", free_form=True)
async def check(node: Node, request: Request) -> Result:
    """Check the parameters of another command without running it."""
    params = request.params
    given = params[0] if isinstance(params, list) and params else None
    name = given if isinstance(params, list) else params.get("command_to_check")
    if not isinstance(name, str):
        raise RpcError(-32602, "missing required parameter: command_to_check")
    rest: Any = params[1:] if isinstance(params, list) else {k: v for k, v in params.items() if k != "command_to_check"}
    plugin = node.plugins.method_owner(name)
    if plugin is not None:
        shown = request.message.raw("id")
        node.log.unusual(plugin.source, f"Plugin does not support check command for {name} (id {shown})")
    elif name in node.commands.done and not node.commands.done[name].free_form:
        node.commands.read(name, rest)
    elif node.commands.available(name) is None:
        raise RpcError(UNKNOWN_COMMAND, f"Unknown command '{name}'")
    return {"command_to_check": name}


@command("notifications", Param("enable", boolean))
async def notifications(node: Node, request: Request) -> Result:
    """Switch `message` and `progress` notifications on or off for this client."""
    del node
    request.connection.wants_notifications = request.args["enable"]
    return {}


@command("listconfigs", Param("config", string, None))
async def listconfigs(node: Node, request: Request) -> Result:
    """Return the options with their values and where those come from."""
    wanted = request.args["config"]
    if wanted is not None and wanted not in node.options.options:
        raise RpcError(-32602, "config: Unknown config option: invalid token (see logs for details)")
    names = node.options.options if wanted is None else [wanted]
    entries = {name: node.options.describe(name) for name in names}
    return {"configs": {name: entry for name, entry in entries.items() if entry is not None}}


@command("setconfig", Param("config", string), Param("val", anything, None), Param("transient", boolean, False))
async def setconfig(node: Node, request: Request) -> Result:
    """Change a dynamic option now and, unless transient, for the next start."""
    args = request.args
    return {"config": await set_config(node, args["config"], args["val"], args["transient"], request.client_id)}


@command("getlog", Param("level", one_of("should be 'io', 'debug', 'info', or 'unusual'", *LEVELS), "info"))
async def getlog(node: Node, request: Request) -> Result:
    """Return the remembered part of the log from a level on; what is left out is counted."""
    threshold = LEVELS.index(request.args["level"])
    rows: list[Result] = []
    skipped = 0
    for entry in node.log.entries:
        if LEVELS.index(entry.level) < threshold:
            skipped += 1
            continue
        if skipped:
            rows.append({"type": "SKIPPED", "num_skipped": skipped})
            skipped = 0
        since = entry.at - node.log.created_at
        seconds = f"{since // 1_000_000_000}.{since % 1_000_000_000:09d}"
        rows.append({"type": entry.level.upper(), "time": seconds, "source": entry.source, "log": entry.text})
    if skipped:
        rows.append({"type": "SKIPPED", "num_skipped": skipped})
    created = node.log.created_at
    return {
        "created_at": f"{created // 1_000_000_000}.{created % 1_000_000_000:09d}",
        "bytes_used": sum(entry.size() for entry in node.log.entries),
        "bytes_max": node.log.bytes_max,
        "log": rows,
    }


@command("stop")
async def stop(node: Node, request: Request) -> Result:
    """Stop the node. The reply comes as the process ends."""
    node.log.unusual("lightningd", "JSON-RPC shutdown")
    node.stopping = True
    node.rpc.stop_listening()
    node.peers.close()
    await node.plugins.shut_down(list(node.plugins.all))
    identifier = request.message.raw("id") or "null"
    request.connection.send(f'{{"jsonrpc":"2.0","id":{identifier},"result":{_SHUTDOWN_REPLY}}}')
    with contextlib.suppress(OSError):
        await request.connection.writer.drain()
    node.database.close()
    node.pid_file.unlink(missing_ok=True)
    node.exit(0)
    # The reply is written: nothing may follow it.
    await asyncio.Event().wait()
    return {}
