"""The policy in force: a preset of the option or an RPC, and the operator's overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hive_kit.store import Store

from cl_hive_comms.services.policy import check_overrides, merge_overrides, rules_of
from cl_hive_comms.services.receipt_service import ReceiptService
from cl_hive_comms.services.setting import Setting
from cl_hive_comms.storage.state_store import StateStore

SCHEMA = "hive:policy/v1"
_KEY = "policy:config"


class PolicyService:
    """Reads and changes the policy; each change leaves a receipt."""

    def __init__(
        self, store: Store, state: StateStore, receipts: ReceiptService, preset: str, now: Callable[[], int]
    ) -> None:
        """Args: preset: value of the option. When it changed since the policy was stored, the option wins."""
        self._store = store
        self._receipts = receipts
        self._preset = preset
        self._now = now
        self._setting = Setting(state, _KEY, preset)
        if self._setting.read() is None:
            self._setting.write(self._fresh(preset))
        elif self._setting.option_changed():
            self._save("set-preset", {"preset": preset, "source": "option"}, self._fresh(preset))

    def get(self) -> dict[str, Any]:
        """{preset, rules, overrides, updated_at}."""
        stored: dict[str, Any] = self._setting.read()
        return {**stored, "rules": rules_of(stored["preset"], stored["overrides"])}

    def set_preset(self, preset: str) -> dict[str, Any]:
        """Take a preset as it is: overrides made for another one are dropped. Gives the new policy."""
        return self._save("set-preset", {"preset": preset, "source": "rpc"}, self._fresh(preset))

    def set_overrides(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Change single rules of the preset; null takes an override back. Gives the new policy.

        Raises:
            InvalidParamsError: an unknown rule or a bad value; nothing changes.
        """
        change = check_overrides(overrides)
        with self._store.atomic():
            stored = self._setting.read()
            merged = merge_overrides(stored["overrides"], change)
            policy = {"preset": stored["preset"], "overrides": merged, "updated_at": self._now()}
            return self._save("set-overrides", {"overrides": change}, policy)

    def reset(self) -> dict[str, Any]:
        """Back to the preset of the option, without overrides. Gives the new policy."""
        return self._save("reset", {}, self._fresh(self._preset))

    def _fresh(self, preset: str) -> dict[str, Any]:
        return {"preset": preset, "overrides": {}, "updated_at": self._now()}

    def _save(self, action: str, params: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
        with self._store.atomic():
            self._setting.write(policy)
            self._receipts.write(SCHEMA, action, params, {"preset": policy["preset"], "overrides": policy["overrides"]})
            return self.get()
