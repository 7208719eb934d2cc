"""Compares a reply with an expectation.

An expectation is JSON. Plain values must be equal. A text that begins with `~` is a regular expression for the whole
text; `<int>`, `<number>`, `<str>`, `<bool>`, `<hex>`, `<pubkey>`, `<list>`, `<object>` and `<any>` stand for a value of
that kind. An object must have exactly the named members, unless it has the member `"..."`; a member `"name?"` may be
absent. A list `["<each>", X]` has only elements that match X; a list `["<has>", X, Y]` has at least one element for
each of X and Y. `{name}` is replaced by the value of that name before comparing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

KINDS: dict[str, Callable[[Any], bool]] = {
    "<int>": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "<number>": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "<str>": lambda value: isinstance(value, str),
    "<bool>": lambda value: isinstance(value, bool),
    "<hex>": lambda value: isinstance(value, str) and re.fullmatch(r"([0-9a-f]{2})*", value) is not None,
    "<pubkey>": lambda value: isinstance(value, str) and re.fullmatch(r"0[23][0-9a-f]{64}", value) is not None,
    "<list>": lambda value: isinstance(value, list),
    "<object>": lambda value: isinstance(value, dict),
    "<any>": lambda value: True,
}
OPEN = "..."


def fill(template: Any, names: Mapping[str, str]) -> Any:
    """`template` with every `{name}` replaced, escaped where the text is a regular expression."""
    if isinstance(template, dict):
        return {fill(key, names): fill(value, names) for key, value in template.items()}
    if isinstance(template, list):
        return [fill(value, names) for value in template]
    if isinstance(template, str):
        pattern = template.startswith("~")
        for name, value in names.items():
            template = template.replace("{" + name + "}", re.escape(value) if pattern else value)
    return template


def difference(expected: Any, actual: Any, where: str = "$") -> str | None:
    """None when `actual` matches, else one sentence that names the place."""
    if isinstance(expected, str):
        return _text(expected, actual, where)
    if isinstance(expected, dict):
        return _object(expected, actual, where)
    if isinstance(expected, list):
        return _list(expected, actual, where)
    if type(expected) is not type(actual) or expected != actual:
        return f"{where}: expected {expected!r}, got {actual!r}"
    return None


def _text(expected: str, actual: Any, where: str) -> str | None:
    if expected in KINDS:
        return None if KINDS[expected](actual) else f"{where}: expected {expected}, got {actual!r}"
    if expected.startswith("~"):
        if isinstance(actual, str) and re.fullmatch(expected[1:], actual, re.S):
            return None
        return f"{where}: expected a text like {expected[1:]!r}, got {actual!r}"
    return None if expected == actual else f"{where}: expected {expected!r}, got {actual!r}"


def _object(expected: dict[str, Any], actual: Any, where: str) -> str | None:
    if not isinstance(actual, dict):
        return f"{where}: expected an object, got {actual!r}"
    members = {name.removesuffix("?"): value for name, value in expected.items() if name != OPEN}
    absent = [name for name in expected if not name.endswith("?") and name != OPEN and name not in actual]
    if absent:
        return f"{where}: no member {absent[0]!r} in {actual!r}"
    extra = sorted(set(actual) - set(members))
    if extra and OPEN not in expected:
        return f"{where}: unexpected member {extra[0]!r} = {actual[extra[0]]!r}"
    found = (difference(value, actual[name], f"{where}.{name}") for name, value in members.items() if name in actual)
    return next((sentence for sentence in found if sentence), None)


def _list(expected: list[Any], actual: Any, where: str) -> str | None:
    if not isinstance(actual, list):
        return f"{where}: expected a list, got {actual!r}"
    if expected[:1] == ["<each>"]:
        found = (difference(expected[1], value, f"{where}[{i}]") for i, value in enumerate(actual))
        return next((sentence for sentence in found if sentence), None)
    if expected[:1] == ["<has>"]:
        for wanted in expected[1:]:
            if all(difference(wanted, value, where) for value in actual):
                return f"{where}: nothing like {wanted!r} in {actual!r}"
        return None
    if len(expected) != len(actual):
        return f"{where}: expected {len(expected)} elements, got {actual!r}"
    found = (
        difference(wanted, value, f"{where}[{i}]")
        for i, (wanted, value) in enumerate(zip(expected, actual, strict=True))
    )
    return next((sentence for sentence in found if sentence), None)
