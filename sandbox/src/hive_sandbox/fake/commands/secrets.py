"""Commands about keys: signatures, derived secrets, runes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import INVALID_PARAMS, SIGNMESSAGE_PUBKEY_NOT_FOUND, RpcError
from ..keys import recover, zbase_signature
from ..params import Param, anything, boolean, hex_bytes, node_id, number, string
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_UNRESTRICTED = (
    "WARNING: This rune has no restrictions! Anyone who has access to this rune could drain funds from your node. "
    "Be careful when giving this to apps that you don't trust. Consider using the restrictions parameter to only "
    "allow access to specific rpc methods."
)
_MESSAGE_BYTES_MAX = 65535


@command("signmessage", Param("message", string))
async def signmessage(node: Node, request: Request) -> Result:
    """Sign a message with the key of the node."""
    message = request.args["message"]
    if len(message.encode()) > _MESSAGE_BYTES_MAX:
        raise RpcError(INVALID_PARAMS, "Message must be < 64k")
    signature, recovery_id = node.keys.sign_message(message)
    return {
        "signature": signature.hex(),
        "recid": f"{recovery_id:02x}",
        "zbase": zbase_signature(signature, recovery_id),
    }


@command("checkmessage", Param("message", string), Param("zbase", string), Param("pubkey", node_id, None))
async def checkmessage(node: Node, request: Request) -> Result:
    """Tell who signed a message; without `pubkey` the signer must be a node of the network."""
    try:
        signer = recover(request.args["message"], request.args["zbase"])
    except ValueError:
        raise RpcError(INVALID_PARAMS, "zbase is not valid zbase32") from None
    wanted = request.args["pubkey"]
    if wanted is None and not node.graph.knows(signer):
        raise RpcError(SIGNMESSAGE_PUBKEY_NOT_FOUND, "pubkey not found in the graph", {"claimed_key": signer})
    return {"pubkey": signer, "verified": wanted in (None, signer)}


@command("makesecret", Param("hex", hex_bytes, None), Param("string", string, None))
async def makesecret(node: Node, request: Request) -> Result:
    """Derive a secret from the node's."""
    raw, text = request.args["hex"], request.args["string"]
    if raw is not None and text is not None:
        raise RpcError(INVALID_PARAMS, "Cannot have both hex and string")
    if raw is None and text is None:
        raise RpcError(INVALID_PARAMS, "Must have either hex or string")
    return {"secret": node.keys.make_secret(text.encode() if raw is None else raw).hex()}


@command("createrune", Param("rune", string, None), Param("restrictions", anything, None))
async def createrune(node: Node, request: Request) -> Result:
    """Make a rune, or a more restricted one from another."""
    from ..runes import read_restrictions

    restrictions = read_restrictions(request.args["restrictions"])
    text, number_text = node.runes.make(request.args["rune"], restrictions)
    result: Result = {"rune": text, "unique_id": number_text}
    if not restrictions and request.args["rune"] is None:
        result["warning_unrestricted_rune"] = _UNRESTRICTED
    return result


@command(
    "checkrune",
    Param("rune", string),
    Param("nodeid", node_id, None),
    Param("method", string, None),
    Param("params", anything, None),
)
async def checkrune(node: Node, request: Request) -> Result:
    """Check whether a rune permits a call."""
    args = request.args
    node.runes.check(args["rune"], args["nodeid"], args["method"], args["params"])
    return {"valid": True}


@command("showrunes", Param("rune", string, None))
async def showrunes(node: Node, request: Request) -> Result:
    """List the runes made here, or explain one."""
    wanted = request.args["rune"]
    texts = node.runes.stored() if wanted is None else [wanted]
    return {"runes": [node.runes.describe(text) for text in texts]}


@command("blacklistrune", Param("start", number, None), Param("end", number, None), Param("relist", boolean, False))
async def blacklistrune(node: Node, request: Request) -> Result:
    """Take away the power of runes by their numbers, or give it back."""
    start, end = request.args["start"], request.args["end"]
    if start is None and end is not None:
        raise RpcError(INVALID_PARAMS, "Can not specify end without start")
    if start is not None:
        if end is not None and end < start:
            raise RpcError(INVALID_PARAMS, "end can not be less than start")
        node.runes.set_blacklist(start, start if end is None else end, relist=request.args["relist"])
    return {"blacklist": [{"start": first, "end": last} for first, last in node.runes.blacklist()]}
