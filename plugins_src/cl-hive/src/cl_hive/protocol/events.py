"""Event ids: the same event reported twice, or over two ways, is handled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cl_hive.protocol.canonical import digest

# What carries a message, not what it says.
TRANSPORT_KEYS = ("_event_id", "_envelope_version", "_relay")


def event_id(name: str, payload: Mapping[str, Any], identity: Sequence[str]) -> str:
    """First 32 hex characters of the hash over the message's name and identity fields.

    A message without identity fields is identified by all it says.
    """
    keys = identity or [key for key in payload if key not in TRANSPORT_KEYS]
    return digest({"_type": name, **{key: payload.get(key) for key in keys}})[:32]
