"""Parameters of commands: positional or named, each with a type, refused with lightningd's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import INVALID_PARAMS, RpcError

Parser = Callable[[Any], Any]
_MISSING = object()
_UNKNOWN_HINT = (
    "this may be caused by a failure to autodetect key=value-style parameters. "
    "Please try using the -k flag and explicit key=value pairs of parameters."
)


class BadValueError(Exception):
    """A value does not fit: what it should have been."""

    def __init__(self, should: str) -> None:
        super().__init__(should)
        self.should = should


@dataclass(frozen=True)
class Param:
    """One parameter of a command. Without a default it is required."""

    name: str
    parse: Parser
    default: Any = _MISSING

    @property
    def required(self) -> bool:
        """Whether the command cannot do without it."""
        return self.default is _MISSING


def read_params(params: tuple[Param, ...], given: Any) -> dict[str, Any]:
    """Return the value of every parameter.

    Args:
        params: what the command takes.
        given: the `params` of the request: a list or an object.

    Raises:
        RpcError: -32602, with the sentence of lightningd.
    """
    if isinstance(given, list):
        if len(given) > len(params):
            raise RpcError(INVALID_PARAMS, f"too many parameters: got {len(given)}, expected {len(params)}")
        named = {param.name: value for param, value in zip(params, given, strict=False)}
    else:
        known = {param.name for param in params}
        for name in given:
            if name not in known:
                raise RpcError(INVALID_PARAMS, f"unknown parameter: {name}, {_UNKNOWN_HINT}")
        named = dict(given)
    values: dict[str, Any] = {}
    for param in params:
        value = named.get(param.name)
        if value is None:
            if param.required:
                raise RpcError(INVALID_PARAMS, f"missing required parameter: {param.name}")
            values[param.name] = param.default
            continue
        values[param.name] = _parsed(param, value)
    return values


def _parsed(param: Param, value: Any) -> Any:
    try:
        return param.parse(value)
    except BadValueError as bad:
        raise bad_param(param.name, bad.should) from None


def bad_param(name: str, should: str) -> RpcError:
    """Return the error for a parameter whose value does not fit. The value could be a secret and is not shown."""
    return RpcError(INVALID_PARAMS, f"{name}: {should}: invalid token (see logs for details)")


def anything(value: Any) -> Any:
    """Take any JSON value."""
    return value


def string(value: Any) -> str:
    """Take a string; numbers and booleans are taken as they were written."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise BadValueError("should be a string")


def boolean(value: Any) -> bool:
    """Take true or false, also as a string."""
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise BadValueError("should be 'true' or 'false'")


def number(value: Any) -> int:
    """Take a whole number from 0, also as a string."""
    if isinstance(value, bool):
        raise BadValueError("should be an integer")
    if isinstance(value, int) and value >= 0:
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]+", value):
        return int(value)
    raise BadValueError("should be an integer")


def decimal(value: Any) -> float:
    """Take a number from 0 that may have decimals, also as a string."""
    if not isinstance(value, bool) and isinstance(value, int | float | str):
        try:
            parsed = float(value)
        except ValueError:
            parsed = -1.0
        if parsed >= 0:
            return parsed
    raise BadValueError("should be a non-negative floating-point number")


def hex_bytes(value: Any) -> bytes:
    """Take hex."""
    if isinstance(value, str) and re.fullmatch(r"(?:[0-9a-fA-F]{2})*", value):
        return bytes.fromhex(value)
    raise BadValueError("should be a hex value")


def node_id(value: Any) -> str:
    """Take a node id: a point on the curve, as 66 hex digits."""
    if isinstance(value, str) and re.fullmatch(r"0[23][0-9a-f]{64}", value):
        from coincurve import PublicKey

        try:
            PublicKey(bytes.fromhex(value))
        except ValueError:
            raise BadValueError("should be a node id") from None
        return value
    raise BadValueError("should be a node id")


def hash32(value: Any) -> str:
    """Take 32 bytes in hex."""
    if isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value):
        return value.lower()
    raise BadValueError("should be a 32 byte hex value")


def short_channel_id(value: Any) -> str:
    """Take a short channel id: block x transaction x output."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,8}x\d{1,8}x\d{1,5}", value):
        return value
    raise BadValueError("should be a short_channel_id of form NxNxN")


def msat(value: Any) -> int:
    """Take an amount in millisatoshi: a number, or a string with msat, sat or btc behind it."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+)(msat|sat|000msat|)|(\d+)(?:\.(\d{1,11}))?btc", value)
        if match and match[1]:
            return int(match[1]) * (1000 if match[2] == "sat" else 1)
        if match:
            return int(match[3]) * 100_000_000_000 + int((match[4] or "").ljust(11, "0"))
    raise BadValueError("should be a millisatoshi amount")


def sat(value: Any) -> int:
    """Take an amount in whole satoshi: a number, or a string with sat, msat or btc behind it."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.isdigit():
        return int(value)
    try:
        amount = msat(value)
    except BadValueError:
        raise BadValueError("should be a satoshi amount") from None
    if amount % 1000:
        raise BadValueError("should be a satoshi amount")
    return amount // 1000


def one_of(should: str, *words: str) -> Parser:
    """Take one of some words."""

    def parse(value: Any) -> str:
        if value in words:
            return str(value)
        raise BadValueError(should)

    return parse


def list_of(parse: Parser, should: str = "should be an array") -> Parser:
    """Take an array, each entry with `parse`."""

    def parse_all(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise BadValueError(should)
        return [parse(entry) for entry in value]

    return parse_all
