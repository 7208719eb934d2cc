"""Commands about the datastore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..datastore import MODES, Key
from ..errors import INVALID_PARAMS, RpcError
from ..params import BadValueError, Param, hex_bytes, number, one_of, string
from .registry import Result, command

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

_MODES = "should be 'must-create', 'must-replace', 'create-or-replace', 'must-append', or 'create-or-append'"


def _key(value: Any) -> Key:
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, dict | list) for part in parts):
        raise BadValueError("should be string")
    return tuple(string(part) for part in parts)


def _hex_or_nothing(value: Any) -> bytes | None:
    """Take hex; what is none counts as not given, as lightningd has it."""
    try:
        return hex_bytes(value)
    except BadValueError:
        return None


@command(
    "datastore",
    Param("key", _key),
    Param("string", string, None),
    Param("hex", _hex_or_nothing, None),
    Param("mode", one_of(_MODES, *MODES), "must-create"),
    Param("generation", number, None),
)
async def datastore(node: Node, request: Request) -> Result:
    """Write a value."""
    args = request.args
    if (args["string"] is None) == (args["hex"] is None):
        wrong = "Must have either hex or string" if args["hex"] is None else "Cannot have both hex and string"
        raise RpcError(INVALID_PARAMS, wrong)
    data = args["string"].encode() if args["hex"] is None else args["hex"]
    return node.datastore.put(args["key"], data, args["mode"], args["generation"])


@command("listdatastore", Param("key", _key, ()))
async def listdatastore(node: Node, request: Request) -> Result:
    """List values and the keys that have keys below them."""
    return {"datastore": node.datastore.listed(request.args["key"])}


@command("deldatastore", Param("key", _key), Param("generation", number, None))
async def deldatastore(node: Node, request: Request) -> Result:
    """Remove a value."""
    return node.datastore.delete(request.args["key"], request.args["generation"])
