"""The datastore: a tree of keys in which plugins keep small things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    DATASTORE_DELETE_GENERATION,
    DATASTORE_EXISTS,
    DATASTORE_GENERATION,
    DATASTORE_HAS_CHILDREN,
    DATASTORE_MISSING,
    DATASTORE_NOTHING_TO_DELETE,
    DATASTORE_PARENT_EXISTS,
    INVALID_PARAMS,
    RpcError,
)

if TYPE_CHECKING:
    from .node import Node

Key = tuple[str, ...]
MODES = ("must-create", "must-replace", "create-or-replace", "must-append", "create-or-append")


class Datastore:
    """Keys with bytes and a generation, kept in the database. A key with a value has no keys below it."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def put(self, key: Key, data: bytes, mode: str, generation: int | None) -> dict[str, Any]:
        """Write a value and return its entry.

        Raises:
            RpcError: `mode`, `generation` or the keys above and below forbid it.
        """
        old = self._get(key)
        if generation is not None and mode not in ("must-replace", "must-append"):
            raise RpcError(INVALID_PARAMS, "generation only valid with must-replace or must-append")
        if old is None:
            for length in range(1, len(key)):
                if self._get(key[:length]) is not None:
                    raise RpcError(DATASTORE_PARENT_EXISTS, f"Parent key [{','.join(key[:length])}] exists")
            if self._below(key):
                raise RpcError(DATASTORE_HAS_CHILDREN, "Key has children already")
            if mode in ("must-replace", "must-append"):
                raise RpcError(DATASTORE_MISSING, "Key does not exist")
            self._write(key, data, 0)
            return entry(key, data, 0)
        old_data, old_generation = old
        if mode == "must-create":
            raise RpcError(DATASTORE_EXISTS, "Key already exists")
        if generation is not None and generation != old_generation:
            raise RpcError(DATASTORE_GENERATION, "generation is different")
        new = old_data + data if mode.endswith("append") else data
        self._write(key, new, old_generation + 1)
        return entry(key, new, old_generation + 1)

    def delete(self, key: Key, generation: int | None) -> dict[str, Any]:
        """Remove a value and return its last entry.

        Raises:
            RpcError: there is none, or it is of another generation.
        """
        old = self._get(key)
        if old is None:
            raise RpcError(DATASTORE_NOTHING_TO_DELETE, "Key does not exist")
        if generation is not None and generation != old[1]:
            raise RpcError(DATASTORE_DELETE_GENERATION, "generation is different")
        with self.node.database.transaction() as connection:
            connection.execute("DELETE FROM datastore WHERE key = ?", (_packed(key),))
        return entry(key, *old)

    def listed(self, key: Key) -> list[dict[str, Any]]:
        """Return the entry at `key`, or the next level below it."""
        here = self._get(key) if key else None
        if here is not None:
            return [entry(key, *here)]
        level = len(key) + 1
        entries: dict[Key, dict[str, Any]] = {}
        for below, data, generation in self._below(key):
            if len(below) == level:
                entries[below] = entry(below, data, generation)
            else:
                entries.setdefault(below[:level], {"key": list(below[:level])})
        return [entries[name] for name in sorted(entries)]

    def _get(self, key: Key) -> tuple[bytes, int] | None:
        rows = self.node.database.rows("SELECT data, generation FROM datastore WHERE key = ?", _packed(key))
        return (bytes(rows[0][0]), int(rows[0][1])) if rows else None

    def _below(self, key: Key) -> list[tuple[Key, bytes, int]]:
        rows = self.node.database.rows("SELECT key, data, generation FROM datastore")
        unpacked = [(_unpacked(packed), bytes(data), int(generation)) for packed, data, generation in rows]
        return [row for row in unpacked if row[0][: len(key)] == key and len(row[0]) > len(key)]

    def _write(self, key: Key, data: bytes, generation: int) -> None:
        with self.node.database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO datastore VALUES (?, ?, ?)", (_packed(key), data, generation))


def entry(key: Key, data: bytes, generation: int) -> dict[str, Any]:
    """Return a value as the datastore commands show it; `string` only when it is text."""
    result: dict[str, Any] = {"key": list(key), "generation": generation, "hex": data.hex()}
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return result
    if "\0" not in text:
        result["string"] = text
    return result


def _packed(key: Key) -> bytes:
    return b"\0".join(part.encode() for part in key)


def _unpacked(packed: bytes) -> Key:
    return tuple(part.decode() for part in packed.split(b"\0"))
