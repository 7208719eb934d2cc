"""Runes: who may call what. Making them, and checking a call against one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import runes

from .errors import RUNE_BLACKLISTED, RUNE_NOT_AUTHORIZED, RUNE_NOT_PERMITTED, RpcError
from .params import bad_param

if TYPE_CHECKING:
    from .node import Node

_SECONDS = {"": 1, "sec": 1, "min": 60, "hour": 3600, "day": 86400, "msec": 0.001, "usec": 1e-6, "nsec": 1e-9}
_ENGLISH = {
    "=": "equal to",
    "/": "unequal to",
    "^": "starts with",
    "$": "ends with",
    "~": "contains",
    "<": "<",
    ">": ">",
    "{": "sorts before",
    "}": "sorts after",
}
_NO_RESTRICTION = "not a valid restriction (should be array)"
READ_ONLY = (
    ("method^list", "method^get", "method=summary"),
    ("method/listdatastore",),
)


class Runes:
    """The runes this node has made, by number, and the list of those that count no more."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._last_use: dict[str, float] = {}

    @property
    def _master(self) -> Any:
        return runes.MasterRune(self.node.keys.make_secret(b"commando"))

    def make(self, base: str | None, restrictions: list[Any]) -> tuple[str, str]:
        """Make a rune, or restrict one further; return it and its number.

        Raises:
            RpcError: `base` is no rune of this node.
        """
        if base is not None:
            rune = self.authorized(base)
            for restriction in restrictions:
                rune.add_restriction(restriction)
            return rune.to_base64(), unique_id(rune)
        number = self.node.database.rows("SELECT coalesce(max(id) + 1, 0) FROM runes")[0][0]
        rune = runes.MasterRune(self.node.keys.make_secret(b"commando"), restrictions, str(number))
        text = rune.to_base64()
        with self.node.database.transaction() as connection:
            connection.execute("INSERT INTO runes VALUES (?, ?)", (number, text))
        return text, str(number)

    def authorized(self, text: str) -> Any:
        """Return a rune that this node has made.

        Raises:
            RpcError: it has not, or the rune is blacklisted.
        """
        rune = read(text)
        if not self._master.is_rune_authorized(rune):
            raise RpcError(RUNE_NOT_AUTHORIZED, "Not authorized: Not derived from master")
        number = int(unique_id(rune))
        if any(start <= number <= end for start, end in self.blacklist()):
            raise RpcError(RUNE_BLACKLISTED, "Not authorized: Blacklisted rune")
        return rune

    def check(self, text: str, node_id: str | None, method: str | None, params: Any) -> None:
        """Refuse a call that the rune does not permit.

        Raises:
            RpcError: with the restriction that stands against it.
        """
        rune = self.authorized(text)
        values = _values(node_id, method, params)
        for restriction in rune.restrictions:
            reasons = [self._reason(unique_id(rune), alternative, values) for alternative in restriction.alternatives]
            if all(reason is not None for reason in reasons):
                raise RpcError(RUNE_NOT_PERMITTED, f"Not permitted: {' AND '.join(str(r) for r in reasons)}")
        self._last_use[unique_id(rune)] = time.monotonic()

    def _reason(self, number: str, alternative: Any, values: dict[str, Any]) -> str | None:
        """Return what stands against one alternative, None when it holds."""
        field, value = alternative.field, alternative.value
        if alternative.is_unique_id():
            return None if "-" not in value else f"unknown version {value}"
        if field in ("rate", "per"):
            pause = 60 / float(value) if field == "rate" else _duration(value)
            since = time.monotonic() - self._last_use.get(number, -pause)
            return None if since >= pause else "too soon"
        return reason(alternative.cond, field, value, values)

    # -- the blacklist ----------------------------------------------------------------------------------------

    def blacklist(self) -> list[tuple[int, int]]:
        """Return the ranges of numbers that count no more."""
        rows = self.node.database.rows("SELECT start_index, end_index FROM runes_blacklist ORDER BY start_index")
        return [(int(start), int(end)) for start, end in rows]

    def set_blacklist(self, start: int, end: int, *, relist: bool) -> None:
        """Add a range to the blacklist, or take it away."""
        numbers = {number for first, last in self.blacklist() for number in range(first, last + 1)}
        change = set(range(start, end + 1))
        numbers = numbers - change if relist else numbers | change
        with self.node.database.transaction() as connection:
            connection.execute("DELETE FROM runes_blacklist")
            connection.executemany("INSERT INTO runes_blacklist VALUES (?, ?)", _ranges(sorted(numbers)))

    def stored(self) -> list[str]:
        """Return all runes that were made here."""
        return [str(text) for (text,) in self.node.database.rows("SELECT rune FROM runes ORDER BY id")]

    def describe(self, text: str) -> dict[str, Any]:
        """Return the entry of showrunes."""
        rune = read(text)
        restrictions = [_described(r) for r in rune.restrictions if not r.alternatives[0].is_unique_id()]
        number = unique_id(rune)
        entry: dict[str, Any] = {"rune": text}
        if text not in self.stored():
            entry["stored"] = False
        if any(start <= int(number) <= end for start, end in self.blacklist()):
            entry["blacklisted"] = True
        if number in self._last_use:
            entry["last_used"] = time.time() - (time.monotonic() - self._last_use[number])
        english = " AND ".join(str(restriction["english"]) for restriction in restrictions)
        return {**entry, "unique_id": number, "restrictions": restrictions, "restrictions_as_english": english}


def read(text: str) -> Any:
    """Return a rune from base64.

    Raises:
        RpcError: it is none.
    """
    try:
        return runes.Rune.from_base64(text)
    except (ValueError, IndexError):
        raise bad_param("rune", "should be base64 string") from None


def unique_id(rune: Any) -> str:
    """Return the number of a rune."""
    first = rune.restrictions[0].alternatives[0] if rune.restrictions else None
    return str(first.value).partition("-")[0] if first is not None and first.is_unique_id() else "0"


def read_restrictions(value: Any) -> list[Any]:
    """Return the restrictions in a parameter: "readonly", or an array of arrays of alternatives.

    Raises:
        RpcError: it is no such thing.
    """
    if value is None:
        return []
    if value == "readonly":
        value = [list(alternatives) for alternatives in READ_ONLY]
    if not isinstance(value, list):
        raise bad_param("restrictions", _NO_RESTRICTION)
    restrictions = []
    for entry in value:
        alternatives = entry if isinstance(entry, list) else [entry]
        try:
            restrictions.append(runes.Restriction([_alternative(str(text)) for text in alternatives]))
        except (ValueError, IndexError):
            raise bad_param("restrictions", _NO_RESTRICTION) from None
    return restrictions


def _alternative(text: str) -> Any:
    alternative, rest = runes.Alternative.decode(text)
    if rest:
        raise ValueError(rest)
    return alternative


def _duration(text: str) -> float:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    return float(digits) * _SECONDS.get(text[len(digits) :], 1)


def _values(node_id: str | None, method: str | None, params: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"time": int(time.time())}
    if node_id is not None:
        values["id"] = node_id
    if method is not None:
        values["method"] = method
    if isinstance(params, list):
        values["pnum"] = len(params)
        values |= {f"parr{at}": value for at, value in enumerate(params)}
    elif isinstance(params, dict):
        values["pnum"] = len(params)
        values |= {f"pname{''.join(c for c in name if c.isalnum())}": value for name, value in params.items()}
    return values


def reason(condition: str, field: str, value: str, values: dict[str, Any]) -> str | None:
    """Return what stands against a condition on a field, None when it holds."""
    if condition == "#":
        return None
    called = _called(field)
    if field not in values:
        return None if condition == "!" else f"{called} not present"
    actual = str(values[field])
    if condition in "<>":
        try:
            less, more = int(actual) < int(value), int(actual) > int(value)
        except ValueError:
            return f"{called} is not an integer field"
        holds, words = (less, "greater or equal to") if condition == "<" else (more, "less than or equal to")
        return None if holds else f"{called} is {words} {value}"
    checks = {
        "!": (False, "is present"),
        "=": (actual == value, f"is not equal to {value}"),
        "/": (actual != value, f"is equal to {value}"),
        "^": (actual.startswith(value), f"does not start with {value}"),
        "$": (actual.endswith(value), f"does not end with {value}"),
        "~": (value in actual, f"does not contain {value}"),
        "{": (actual < value, f"is the same or ordered after {value}"),
        "}": (actual > value, f"is the same or ordered before {value}"),
    }
    holds, words = checks[condition]
    return None if holds else f"{called} {words}"


def _called(field: str) -> str:
    """Return how a sentence calls a field: parameters by their name or number."""
    if field.startswith("pname"):
        return f"parameter {field.removeprefix('pname')}"
    if field.startswith("parr"):
        return f"parameter #{field.removeprefix('parr')}"
    return field


def _described(restriction: Any) -> dict[str, Any]:
    alternatives = [
        {
            "fieldname": a.field,
            "value": a.value,
            "condition": a.cond,
            "english": f"{a.field} is missing" if a.cond == "!" else f"{a.field} {_ENGLISH.get(a.cond, '')} {a.value}",
        }
        for a in restriction.alternatives
    ]
    return {"alternatives": alternatives, "english": " OR ".join(a["english"] for a in alternatives)}


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
