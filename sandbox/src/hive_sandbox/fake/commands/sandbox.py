"""Commands that only the fake has. Their names begin with `sandbox-`, so that nobody takes them for lightningd's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import INVALID_PARAMS, RpcError
from ..params import Param, number, sat
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request


@command("sandbox-fault", free_form=True)
async def sandbox_fault(node: Node, request: Request) -> Result:
    """Misbehave from now on: `fault` and its parameters, `clear` to behave again, nothing to list what is set."""
    given = (
        dict(request.params) if isinstance(request.params, dict) else dict(zip(["fault"], request.params, strict=False))
    )
    name = given.pop("fault", None)
    if name is not None:
        if not isinstance(name, str):
            raise RpcError(INVALID_PARAMS, "fault: should be a string")
        node.faults.set(name, given)
        node.apply_fault(name, given)
    return {"faults": dict(node.faults.active)}


@command("sandbox-mine", Param("blocks", number, 1))
async def sandbox_mine(node: Node, request: Request) -> Result:
    """Add blocks to the chain, here and at every node that is connected, directly or not."""
    if node.chain.advance_to(node.chain.height + request.args["blocks"]):
        node.peers.announce_height()
    return {"blockheight": node.chain.height}


@command("sandbox-fund", Param("amount", sat))
async def sandbox_fund(node: Node, request: Request) -> Result:
    """Put a confirmed coin into the wallet."""
    return {"output": node.wallet.receive(request.args["amount"])}
