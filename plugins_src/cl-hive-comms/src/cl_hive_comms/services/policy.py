"""Policy rules: what the three presets say and how overrides change them. Pure data and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hive_kit.errors import InvalidParamsError
from hive_kit.values import parse_integer, split_csv

Rules = dict[str, Any]

_CLOSE_EVERYTHING = ("channel/close_all", "emergency/emergency_close_all")
PRESET_RULES: Mapping[str, Mapping[str, Any]] = {
    "conservative": {
        "max_danger": 10,
        "confirm_from_danger": 5,
        "max_fee_change_per_24h_pct": 15,
        "max_rebalance_sats": 100_000,
        "blocked_schemas": (),
        "forbidden_actions": (
            "channel/close_cooperative",
            "channel/close_force",
            *_CLOSE_EVERYTHING,
            "wallet/withdraw",
            "plugin/start_plugin",
        ),
    },
    "moderate": {
        "max_danger": 10,
        "confirm_from_danger": 7,
        "max_fee_change_per_24h_pct": 30,
        "max_rebalance_sats": 500_000,
        "blocked_schemas": (),
        "forbidden_actions": ("channel/close_force", *_CLOSE_EVERYTHING, "wallet/sweep"),
    },
    "aggressive": {
        "max_danger": 10,
        "confirm_from_danger": 9,
        "max_fee_change_per_24h_pct": 50,
        "max_rebalance_sats": 2_000_000,
        "blocked_schemas": (),
        "forbidden_actions": (*_CLOSE_EVERYTHING, "wallet/sweep"),
    },
}


def _within(minimum: int, maximum: int) -> Callable[[Any], int]:
    def check(raw: Any) -> int:
        value = parse_integer(raw)
        if not minimum <= value <= maximum:
            raise ValueError(f"{value} is not between {minimum} and {maximum}")
        return value

    return check


def _names(raw: Any) -> list[str]:
    return list(split_csv(raw))


_OVERRIDES: Mapping[str, Callable[[Any], Any]] = {
    "max_danger": _within(0, 10),
    "confirm_from_danger": _within(1, 11),
    "max_fee_change_per_24h_pct": _within(0, 100),
    "max_rebalance_sats": _within(0, 21_000_000 * 100_000_000),
    "blocked_schemas": _names,
    "forbidden_actions": _names,
}
_FIELD_SPELLING = "require_confirmation_above"  # n here means confirm_from_danger n + 1


def check_overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Typed overrides; null stays null and means "no longer override this".

    Raises:
        InvalidParamsError: an unknown rule, or a value it cannot have.
    """
    checked: dict[str, Any] = {}
    for name, raw in given.items():
        rule = "confirm_from_danger" if name == _FIELD_SPELLING else name
        check = _OVERRIDES.get(rule)
        if check is None:
            raise InvalidParamsError(f"overrides_json: there is no rule {name} (rules: {', '.join(_OVERRIDES)})")
        try:
            value = None if raw is None else check(parse_integer(raw) + 1 if name == _FIELD_SPELLING else raw)
        except ValueError as error:
            raise InvalidParamsError(f"overrides_json: {name}: {error}") from error
        checked[rule] = value
    return checked


def merge_overrides(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`before` with `change` on top; a null removes an override."""
    merged = {**before, **change}
    return {name: value for name, value in sorted(merged.items()) if value is not None}


def rules_of(preset: str, overrides: Mapping[str, Any]) -> Rules:
    """The rules that hold, as JSON; `require_confirmation_above` is `confirm_from_danger` in the field's spelling."""
    rules: Rules = {
        name: list(rule) if isinstance(rule, tuple) else rule for name, rule in PRESET_RULES[preset].items()
    }
    rules.update(overrides)
    rules[_FIELD_SPELLING] = rules["confirm_from_danger"] - 1
    return rules
