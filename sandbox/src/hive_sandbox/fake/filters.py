"""The `filter` of a request: which members of the result the client wants."""

from __future__ import annotations

from typing import Any

from .params import bad_param


def check_filter(wanted: Any) -> None:
    """Refuse a filter that is no tree of objects, arrays of one, and true.

    Raises:
        RpcError: -32602.
    """
    if wanted is None or wanted is True:
        return
    if isinstance(wanted, list):
        if len(wanted) != 1:
            raise bad_param("filter", "expected a single element in array")
        check_filter(wanted[0])
    elif isinstance(wanted, dict):
        for entry in wanted.values():
            check_filter(entry)
    else:
        raise bad_param("filter", "value must be true")


def apply_filter(value: Any, wanted: Any) -> Any:
    """Return the parts of `value` that the checked filter `wanted` names."""
    if wanted is None or wanted is True:
        return value
    if isinstance(wanted, list) and isinstance(value, list):
        return [apply_filter(entry, wanted[0]) for entry in value]
    if isinstance(wanted, dict) and isinstance(value, dict):
        return {name: apply_filter(entry, wanted[name]) for name, entry in value.items() if name in wanted}
    return value
