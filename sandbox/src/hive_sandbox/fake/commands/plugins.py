"""The command `plugin`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import INVALID_PARAMS, PLUGIN_ERROR, RpcError, refused
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request


@command("plugin", free_form=True)
async def plugin(node: Node, request: Request) -> Result:
    """Start, stop and list plugins. Options for `start` come as further members of the object."""
    given: dict[str, Any]
    by_object = isinstance(request.params, dict)
    if isinstance(request.params, list):
        if len(request.params) > 2:
            raise RpcError(INVALID_PARAMS, "Extra parameters must be in object")
        given = dict(zip(("subcommand", "plugin"), request.params, strict=False))
    else:
        given = dict(request.params)
    subcommand = given.pop("subcommand", None)
    if subcommand is None:
        raise RpcError(INVALID_PARAMS, "missing required parameter: subcommand")
    if subcommand == "list":
        return {"command": "list", "plugins": node.plugins.listing()}
    if subcommand == "start":
        return await _start(node, given, request.client_id, by_object=by_object)
    if subcommand == "stop":
        return await _stop(node, given)
    if subcommand in ("startdir", "rescan"):
        raise refused(f"plugin {subcommand}")
    raise RpcError(INVALID_PARAMS, f"Unknown subcommand '{subcommand}'")


def _name(given: dict[str, Any]) -> str:
    name = given.pop("plugin", None)
    if not isinstance(name, str):
        raise RpcError(INVALID_PARAMS, "missing required parameter: plugin")
    return name


async def _start(node: Node, given: dict[str, Any], client_id: str, *, by_object: bool) -> Result:
    name = _name(given)
    if node.faults.has("die-on-plugin-start"):
        node.die()
    if node.faults.has("refuse-plugin-start"):
        raise RpcError(PLUGIN_ERROR, f"{name}: refused by the fault refuse-plugin-start")
    if node.faults.has("slow-plugin-start"):
        await asyncio.sleep(node.faults.seconds("slow-plugin-start", 5))
    # An absolute name stays as it is.
    path = str(node.lightning_dir / "plugins" / name)
    await node.plugins.start(path, given if by_object else None, client_id)
    return {"command": "start", "plugins": node.plugins.listing()}


async def _stop(node: Node, given: dict[str, Any]) -> Result:
    name = _name(given)
    if node.faults.has("die-on-plugin-stop"):
        node.die()
    if node.faults.has("refuse-plugin-stop"):
        raise RpcError(PLUGIN_ERROR, f"{name}: refused by the fault refuse-plugin-stop")
    if node.faults.has("slow-plugin-stop"):
        await asyncio.sleep(node.faults.seconds("slow-plugin-stop", 5))
    stopped = await node.plugins.stop(name)
    return {"command": "stop", "result": f"Successfully stopped {stopped.name}."}
