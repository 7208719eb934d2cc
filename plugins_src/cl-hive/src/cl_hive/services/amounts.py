"""Amounts as the releases of lightningd write them."""

from __future__ import annotations

import contextlib
from typing import Any


def msat(value: Any) -> int:
    """Millisatoshi, from a number or a text such as `1000msat`; 0 for anything else."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            return int(value.removesuffix("msat"))
        return 0
    return int(value or 0)
