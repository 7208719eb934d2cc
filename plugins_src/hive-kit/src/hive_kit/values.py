"""Turn what a shell, a config file or JSON says into one type.

The messages of ValueError are parts of sentences that operators read.
"""

from __future__ import annotations

import json
import re
from typing import Any

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_INTEGER = re.compile(r"[+-]?\d{1,19}")


def parse_boolean(raw: Any) -> bool:
    """true/false, also as text ("false" is false), 1/0, yes/no, on/off."""
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower() if isinstance(raw, str | int) else ""
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{raw!r} is not true or false")


def parse_integer(raw: Any) -> int:
    """A whole number, also as text. Booleans and fractions are refused."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and _INTEGER.fullmatch(raw.strip()):
        return int(raw)
    raise ValueError(f"{raw!r} is not a whole number")


def split_csv(raw: Any) -> tuple[str, ...]:
    """A list of texts, or one text with commas. Blanks around entries and empty entries vanish, order stays."""
    if isinstance(raw, str):
        parts: list[Any] = raw.split(",")
    elif isinstance(raw, list | tuple):
        parts = list(raw)
    else:
        raise ValueError(f"{raw!r} is not a comma-separated list")
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{raw!r} is not a list of texts")
    return tuple(part.strip() for part in parts if part.strip())


def parse_object(raw: Any) -> dict[str, Any]:
    """A JSON object, or a text that holds one."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError as error:
            raise ValueError(f"is not valid JSON ({error})") from error
    if not isinstance(raw, dict):
        raise ValueError("must decode to an object")
    return raw
