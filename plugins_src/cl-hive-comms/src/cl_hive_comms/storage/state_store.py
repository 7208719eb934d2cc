"""`nostr_state`: small settings and sealed secrets, by key."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hive_kit.errors import StorageError
from hive_kit.store import Store


class StateStore:
    """Key and value, both text."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        self._store = store
        self.now = now

    def get(self, key: str) -> str | None:
        """The value, or None."""
        value = self._store.value("SELECT value FROM nostr_state WHERE key = ?", (key,))
        return None if value is None else str(value)

    def set(self, key: str, value: str) -> None:
        """Write or replace."""
        self._store.execute(
            "INSERT INTO nostr_state (key, value, updated_at) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
            (key, value, self.now()),
        )

    def delete(self, key: str) -> None:
        """Remove; a missing key is fine."""
        self._store.execute("DELETE FROM nostr_state WHERE key = ?", (key,))

    def get_json(self, key: str) -> Any:
        """The value parsed as JSON, or None.

        Raises:
            StorageError: it is not JSON.
        """
        text = self.get(key)
        if text is None:
            return None
        try:
            return json.loads(text)
        except ValueError as error:
            raise StorageError(f"nostr_state {key} is not valid JSON; restore the newest backup set") from error

    def set_json(self, key: str, value: Any) -> None:
        """Write a JSON value."""
        self.set(key, json.dumps(value, sort_keys=True))
