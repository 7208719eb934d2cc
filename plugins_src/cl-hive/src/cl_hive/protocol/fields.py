"""Validators of payload fields, put together by the message table."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

# A validator answers "" or the end of the sentence "<field> …".
Validator = Callable[[object], str]

MAX_REASON: Final = 512
MAX_TEXT: Final = 1024
MAX_SIGNATURE: Final = 200
MAX_SATS: Final = 21_000_000 * 100_000_000
MAX_TIME: Final = 2**53 - 1

_PUBKEY: Final = re.compile(r"0[23][0-9a-f]{64}")
_HEX: Final = re.compile(r"[0-9a-f]+")
_ZBASE: Final = re.compile(r"[13456789a-km-uw-z]+")


def is_pubkey(value: object) -> bool:
    """Whether the value is a node id: 66 lowercase hex characters beginning 02 or 03."""
    return isinstance(value, str) and _PUBKEY.fullmatch(value) is not None


def is_hex(value: object, length: int) -> bool:
    """Whether the value is exactly `length` lowercase hex characters."""
    return isinstance(value, str) and len(value) == length and _HEX.fullmatch(value) is not None


def is_integer(value: object, low: int = 0, high: int = MAX_TIME) -> bool:
    """Whether the value is an integer (a boolean is none) inside the bounds."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def pubkey(value: object) -> str:
    """A node id."""
    return "" if is_pubkey(value) else "is not a node id (66 hex characters beginning 02 or 03)"


def integer(low: int = 0, high: int = MAX_TIME) -> Validator:
    """A whole number inside the bounds."""
    return lambda value: "" if is_integer(value, low, high) else f"is not a whole number from {low} to {high}"


timestamp: Final[Validator] = integer(1)
sats: Final[Validator] = integer(0, MAX_SATS)


def boolean(value: object) -> str:
    """true or false."""
    return "" if isinstance(value, bool) else "is not true or false"


def text(limit: int = MAX_TEXT, empty: bool = False) -> Validator:
    """A string of at most `limit` characters."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            return "is not text"
        if not value and not empty:
            return "is empty"
        return "" if len(value) <= limit else f"is longer than {limit} characters"

    return check


def hex_text(low: int, high: int | None = None) -> Validator:
    """Lowercase hex of `low` to `high` characters."""
    top = low if high is None else high

    def check(value: object) -> str:
        good = isinstance(value, str) and low <= len(value) <= top and _HEX.fullmatch(value) is not None
        return "" if good else f"is not {low} to {top} lowercase hex characters"

    return check


def hash_or_empty(value: object) -> str:
    """A sha256 in hex, or nothing when there is nothing to hash."""
    return "" if value == "" or is_hex(value, 64) else "is not a sha256 in hex"


def signature(value: object) -> str:
    """A zbase32 signature as `signmessage` returns it. An empty signature is none."""
    good = isinstance(value, str) and 90 <= len(value) <= MAX_SIGNATURE and _ZBASE.fullmatch(value) is not None
    return "" if good else "is not a signature in zbase32"


def choice(options: Collection[object]) -> Validator:
    """One of a few values."""
    return lambda value: "" if value in options else f"is not one of {', '.join(map(str, options))}"


def list_of(item: Validator, limit: int) -> Validator:
    """A list of at most `limit` values."""

    def check(value: object) -> str:
        if not isinstance(value, list):
            return "is not a list"
        if len(value) > limit:
            return f"has more than {limit} entries"
        for position, entry in enumerate(value):
            if problem := item(entry):
                return f"entry {position} {problem}"
        return ""

    return check


def table(limit: int) -> Validator:
    """An object of at most `limit` keys."""

    def check(value: object) -> str:
        if not isinstance(value, dict):
            return "is not an object"
        return "" if len(value) <= limit else f"has more than {limit} keys"

    return check


def record(required: Mapping[str, Validator], optional: Mapping[str, Validator] | None = None) -> Validator:
    """An object with these fields; further fields are ignored, as newer releases may add some."""
    return lambda value: problem_of(value, required, optional or {})


def problem_of(value: object, required: Mapping[str, Validator], optional: Mapping[str, Validator]) -> str:
    """First thing wrong with an object: "" or the end of a sentence that names the field."""
    if not isinstance(value, dict):
        return "is not an object"
    document: dict[str, Any] = value
    for name, check in required.items():
        if name not in document:
            return f"has no {name}"
        if problem := check(document[name]):
            return f"has {name} which {problem}"
    for name, check in optional.items():
        if document.get(name) is not None and (problem := check(document[name])):
            return f"has {name} which {problem}"
    return ""
