"""A setting with two sources, the option and an RPC: the one that changed last wins, and everybody can see which."""

from __future__ import annotations

from typing import Any

from cl_hive_comms.storage.state_store import StateStore


class Setting:
    """One value in `nostr_state`, beside the option's value at the time it was written.

    Without the second one, a changed config file would be overruled for ever by an RPC call of long ago.
    """

    def __init__(self, state: StateStore, key: str, option: Any) -> None:
        """Args: key: of the value. option: the option's value now, as JSON."""
        self._state = state
        self._key = key
        self._seen = f"{key}:option"
        self._option = option

    def option_changed(self) -> bool:
        """Whether the option is another than when the stored value was written."""
        seen = self._state.get_json(self._seen)
        return self._state.get(self._key) is not None and seen is not None and seen != self._option

    def read(self) -> Any:
        """The stored value, or None when the option rules."""
        return self._state.get_json(self._key)

    def write(self, value: Any) -> None:
        """Store a value and what the option was."""
        self._state.set_json(self._key, value)
        self._state.set_json(self._seen, self._option)

    def clear(self) -> None:
        """Let the option rule."""
        self._state.delete(self._key)
        self._state.delete(self._seen)
