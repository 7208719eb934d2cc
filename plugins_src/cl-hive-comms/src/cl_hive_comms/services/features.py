"""The six feature flags: what is on, and which Nostr topics that means."""

from __future__ import annotations

from typing import Any

from hive_kit.options import Options

from cl_hive_comms import options as names

_AREAS = {
    "marketplace": (
        names.MARKETPLACE_ENABLED,
        names.MARKETPLACE_PUBLISH,
        names.MARKETPLACE_SUBSCRIBE,
        "hive-advisor",
    ),
    "liquidity": (names.LIQUIDITY_ENABLED, names.LIQUIDITY_PUBLISH, names.LIQUIDITY_SUBSCRIBE, "hive-liquidity"),
}


class Features:
    """Reads the flags anew each time: all six may change while the plugin runs."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def as_dict(self) -> dict[str, dict[str, bool]]:
        """{area: {enabled, publish, subscribe}}; an area that is off neither publishes nor subscribes."""
        areas = {}
        for area, (enabled, publish, subscribe, _) in _AREAS.items():
            on = self._options.flag(enabled)
            areas[area] = {
                "enabled": on,
                "publish": on and self._options.flag(publish),
                "subscribe": on and self._options.flag(subscribe),
            }
        return areas

    def topics(self) -> dict[str, list[Any]]:
        """{publish, subscribe}: the Nostr topics that the flags allow."""
        areas = self.as_dict()
        return {
            direction: [topic for area, (*_, topic) in _AREAS.items() if areas[area][direction]]
            for direction in ("publish", "subscribe")
        }
