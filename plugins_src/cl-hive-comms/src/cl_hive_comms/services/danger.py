"""How dangerous each action of a schema is (1 to 10) and who may ask for it. Pure data and functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SCHEMA = re.compile(r"hive:([a-z][a-z0-9_-]{0,31})/v1")
_UNKNOWN = 9
_PERMISSIONS: Mapping[str, frozenset[str]] = {
    "monitor": frozenset(),
    "receipts": frozenset(),
    "authorize": frozenset({"admin"}),
    "policy": frozenset({"admin", "policy"}),
    "payments": frozenset({"admin", "payments", "payment"}),
    "alias": frozenset({"admin", "alias"}),
}


def name_of(schema_type: str) -> str:
    """The name inside "hive:<name>/v1"; empty for another form."""
    match = _SCHEMA.fullmatch(schema_type)
    return match.group(1) if match else ""


def may(permissions: tuple[str, ...], schema: str) -> bool:
    """Whether somebody with these permissions may use a schema; every active advisor may look."""
    needed = _PERMISSIONS.get(schema, frozenset({"admin"}))
    return not needed or not needed.isdisjoint(permissions)


def danger_of(schema: str, action: str, params: Mapping[str, Any]) -> int:
    """The danger score.

    Args:
        schema: its name, for example "policy".
        action: as it is carried out ("set-preset", never another spelling of it).
        params: what decides within an action: `amount_sats` of payments, `access` of authorize.
    """
    if schema in ("monitor", "receipts"):
        return 1
    if schema == "alias":
        return 5 if action == "remove" else 2
    if schema == "policy":
        return {"get": 2, "set-overrides": 6}.get(action, 7)
    if schema == "authorize":
        if action == "revoke":
            return 4
        return 8 if "admin" in params["access"] else 5
    if schema == "payments":
        return _danger_of_payment(action, int(params["amount_sats"]))
    return _UNKNOWN


def _danger_of_payment(action: str, sats: int) -> int:
    if action not in ("record", "pay"):
        return 2
    if sats > 100_000:
        return 7
    return 6 if sats > 10_000 else 5
