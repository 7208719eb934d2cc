"""Parameters of an RPC method as a dataclass: declared once, for the call, the usage line and the reference.

    @dataclass(frozen=True, kw_only=True)
    class AliasParams:
        alias: str = text(pattern=r"[a-z]{1,64}", shape="1 to 64 letters")
        limit: int = integer(default=50, minimum=1, maximum=500)

    AliasParams values come from `bind(AliasParams, ["bob", "7"])` or `bind(AliasParams, {"alias": "bob"})`.

The order of the fields is the order of positional parameters. A field without a default is required.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from hive_kit.errors import InvalidParamsError
from hive_kit.values import parse_boolean, parse_integer, parse_object, split_csv

M = TypeVar("M")
_KEY = "hive_kit.param"


@dataclass(frozen=True)
class _Param:
    parse: Callable[[Any], Any]
    aliases: tuple[str, ...]


def text(
    *,
    default: Any = MISSING,
    min_length: int = 0,
    max_length: int = 1_000,
    pattern: str = "",
    shape: str = "",
    choices: Sequence[str] = (),
    aliases: Sequence[str] = (),
) -> Any:
    """A text. `pattern` must match all of it; `shape` says in words what it asks for. Required ones are never empty."""
    least = max(min_length, 1) if default is MISSING else min_length
    compiled = re.compile(pattern) if pattern else None

    def parse(raw: Any) -> str:
        if isinstance(raw, bool) or not isinstance(raw, str | int | float):
            raise ValueError("must be text")
        value = str(raw)
        if len(value) < least:
            raise ValueError("must not be empty" if least == 1 else f"must have at least {least} characters")
        if len(value) > max_length:
            raise ValueError(f"is too long ({len(value)} characters, at most {max_length})")
        if choices and value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}")
        if compiled is not None and value and not compiled.fullmatch(value):
            raise ValueError(f"{value!r} is not {shape or 'of the form ' + pattern}")
        return value

    return _field(parse, default, aliases)


def integer(
    *, default: Any = MISSING, minimum: int | None = None, maximum: int | None = None, aliases: Sequence[str] = ()
) -> Any:
    """A whole number within an inclusive range."""

    def parse(raw: Any) -> int:
        value = parse_integer(raw)
        if minimum is not None and value < minimum:
            raise ValueError(f"{value} is less than the minimum {minimum}")
        if maximum is not None and value > maximum:
            raise ValueError(f"{value} is more than the maximum {maximum}")
        return value

    return _field(parse, default, aliases)


def boolean(*, default: Any = MISSING, aliases: Sequence[str] = ()) -> Any:
    """true or false; the text "false" is false."""
    return _field(parse_boolean, default, aliases)


def csv(*, default: Any = MISSING, choices: Sequence[str] = (), aliases: Sequence[str] = ()) -> Any:
    """A tuple of texts, from a list or from one text with commas."""

    def parse(raw: Any) -> tuple[str, ...]:
        entries = split_csv(raw)
        for entry in entries:
            if choices and entry not in choices:
                raise ValueError(f"{entry!r} is not one of {', '.join(choices)}")
        return entries

    return _field(parse, default, aliases)


def json_object(*, default: Any = MISSING, aliases: Sequence[str] = ()) -> Any:
    """A JSON object, given as one or as text. A default of None means "not given"."""
    return _field(parse_object, default, aliases)


def _field(parse: Callable[[Any], Any], default: Any, aliases: Sequence[str]) -> Any:
    metadata = {_KEY: _Param(parse, tuple(aliases))}
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class NoParams:
    """For a method that takes nothing."""


def bind(model: type[M], given: Sequence[Any] | Mapping[str, Any]) -> M:
    """Make a model of what came in, positional or named; null means "not given".

    Raises:
        InvalidParamsError: unknown, missing, doubled or bad parameters; the sentence names the parameter.
    """
    fields = [field for field in dataclasses.fields(model) if field.init]  # type: ignore[arg-type]
    params = {field.name: _param(field) for field in fields}
    raw = _by_position(list(params), given) if not isinstance(given, Mapping) else _by_name(params, given)
    values: dict[str, Any] = {}
    for field in fields:
        value = raw.get(field.name)
        if value is None:
            if field.default is MISSING:
                raise InvalidParamsError(f"missing required parameter: {field.name}")
            continue
        try:
            values[field.name] = params[field.name].parse(value)
        except ValueError as error:
            raise InvalidParamsError(f"{field.name}: {error}") from error
    return model(**values)


def usage(model: type[Any]) -> str:
    """The usage line that `help` shows: optional parameters in brackets."""
    return " ".join(f.name if f.default is MISSING else f"[{f.name}]" for f in dataclasses.fields(model))


def _param(field: dataclasses.Field[Any]) -> _Param:
    param = field.metadata.get(_KEY)
    if not isinstance(param, _Param):
        raise TypeError(f"declare {field.name} with text(), integer(), boolean(), csv() or json_object()")
    return param


def _by_position(names: list[str], given: Sequence[Any]) -> dict[str, Any]:
    if len(given) > len(names):
        raise InvalidParamsError(f"too many parameters: got {len(given)}, expected at most {len(names)}")
    return dict(zip(names, given, strict=False))


def _by_name(params: Mapping[str, _Param], given: Mapping[str, Any]) -> dict[str, Any]:
    spelling = {alias: name for name, param in params.items() for alias in (name, *param.aliases)}
    raw: dict[str, Any] = {}
    for key, value in given.items():
        name = spelling.get(key)
        if name is None:
            takes = ", ".join(params) or "none"
            raise InvalidParamsError(f"unknown parameter: {key} (parameters: {takes})")
        if name in raw:
            raise InvalidParamsError(f"{name} is given twice, under two spellings")
        raw[name] = value
    return raw
