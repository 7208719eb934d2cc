"""Hooks: lightningd asks, one plugin after the other, and acts on the answers. Nothing limits how long it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..jsontext import dumps
from .manifest import Hook
from .process import Plugin, State

if TYPE_CHECKING:
    from ..node import Node

_CONTINUE = {"result": "continue"}


class Hooks:
    """Calls the chain of plugins that registered a hook."""

    def __init__(self, node: Node) -> None:
        self.node = node

    def chain(self, name: str) -> list[tuple[Plugin, Hook]]:
        """Return the plugins of a hook in the order in which they are asked."""
        members = [
            (plugin, hook)
            for plugin in self.node.plugins.all
            if plugin.state is State.ACTIVE and plugin.manifest
            for hook in plugin.manifest.hooks
            if hook.name == name
        ]
        return _ordered(members)

    async def call(self, name: str, params: Any, client_id: str = "") -> dict[str, Any]:
        """Ask every plugin of a hook until one answers something else than "continue".

        A plugin that may change the parameters for the next ones (htlc_accepted's `payload`) answers "continue" with
        them; they come back in the last answer. A plugin that dies is passed over.

        Returns:
            the deciding answer, or {"result": "continue"}.
        """
        last: dict[str, Any] = _CONTINUE
        for plugin, _ in self.chain(name):
            reply = await self.node.plugins.ask(plugin, name, dumps(params), client_id)
            if plugin.gone.is_set():
                self.node.log.debug("lightningd", f"Plugin died from {name} hook call")
                continue
            answer = reply.value.get("result")
            if not isinstance(answer, dict):
                continue
            if answer.get("result", "continue") != "continue" or "return" in answer or "replace" in answer:
                return answer
            last = answer
        return last


def _ordered(members: list[tuple[Plugin, Hook]]) -> list[tuple[Plugin, Hook]]:
    """Return the members so that every wish of `before` and `after` holds, else in the order of registration."""
    ordered: list[tuple[Plugin, Hook]] = []
    waiting = list(members)
    while waiting:
        free = next(
            (
                member
                for member in waiting
                if not any(other is not member and _goes_first(other, member) for other in waiting)
            ),
            waiting[0],
        )
        ordered.append(free)
        waiting.remove(free)
    return ordered


def _goes_first(one: tuple[Plugin, Hook], other: tuple[Plugin, Hook]) -> bool:
    return other[0].name in one[1].before or one[0].name in other[1].after
