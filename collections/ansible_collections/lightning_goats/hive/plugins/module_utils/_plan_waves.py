# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""In which order nodes are changed: the one with the least to lose first, then growing waves. Pure, controller only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.lightning_goats.hive.plugins.module_utils._plan_stack import Json

DEFAULT_WAVES: tuple[int | str, ...] = (1, "25%", "100%")


class WavesError(ValueError):
    """``hive_waves`` is not a list of sizes."""


def sizes(waves: Sequence[Any], total: int) -> list[int]:
    """How many nodes each wave takes of ``total``; whatever is left after the last entry repeats it.

    An entry is a number of nodes or a share of all nodes to change ("25%", rounded down, at least one).

    Raises:
        WavesError: an entry is neither.
    """
    parsed = [_size(wave, total) for wave in waves]
    if not parsed:
        raise WavesError('hive_waves is empty: write for example [1, "25%", "100%"].')
    result: list[int] = []
    left = total
    while left > 0:
        size = min(parsed[min(len(result), len(parsed) - 1)], left)
        result.append(size)
        left -= size
    return result


def _size(wave: Any, total: int) -> int:
    text = str(wave).strip()
    share = text.endswith("%")
    digits = text.rstrip("%").strip()
    if isinstance(wave, bool) or not digits.isascii() or not digits.isdigit() or int(digits) == 0:
        raise WavesError(f'hive_waves has {wave!r}: an entry is a number of nodes or a share like "25%".')
    return max(1, total * int(digits) // 100) if share else int(digits)


def order(nodes: Sequence[str], observed: Mapping[str, Json | None]) -> list[str]:
    """``nodes`` by value at risk, smallest first; the name decides between equals."""
    return sorted(nodes, key=lambda node: (int((observed[node] or {}).get("value_at_risk_msat") or 0), node))


def neighbours(observed: Mapping[str, Json | None]) -> dict[str, set[str]]:
    """For each node the other nodes of the fleet that share a channel with it."""
    names = {seen["lightningd"].get("node_id"): node for node, seen in observed.items() if seen}
    result: dict[str, set[str]] = {node: set() for node in observed}
    for node, seen in observed.items():
        for channel in (seen or {}).get("channels", []):
            other = names.get(channel.get("peer_id"))
            if other is not None and other != node:
                result[node].add(other)
                result[other].add(node)
    return result


def conflicts(observed: Mapping[str, Json | None]) -> dict[str, set[str]]:
    """For each node those that must not change at the same time: the other end of a channel, and whoever shares one.

    Two nodes share one when both have a channel with the same node of the fleet: while both are away, that one, which
    does not change, would have lost two ways at once.
    """
    direct = neighbours(observed)
    return {node: (peers | {far for peer in peers for far in direct[peer]}) - {node} for node, peers in direct.items()}


def waves(
    changing: Sequence[str],
    unfinished: Sequence[str],
    observed: Mapping[str, Json | None],
    entries: Sequence[Any] = DEFAULT_WAVES,
    separate_peers: bool = True,
) -> list[Json]:
    """The waves in order: ``[{"name": "canary", "nodes": ["alpha"]}, {"name": "wave 1", ...}]``.

    ``unfinished`` nodes have an open switch of an earlier run; they come first and together, because they are neither
    on the old nor surely on the new stack. With ``separate_peers`` no two nodes of one wave share a channel or a peer
    of the fleet (see ``conflicts``); what does not fit goes into the next wave.
    """
    result: list[Json] = []
    if unfinished:
        result.append({"name": "resume", "nodes": order(unfinished, observed)})
    queue = order([node for node in changing if node not in set(unfinished)], observed)
    adjacent = conflicts(observed) if separate_peers else {}
    planned = sizes(entries, len(queue)) if queue else []
    number = 0
    while queue:
        size = planned[min(number, len(planned) - 1)]
        batch: list[str] = []
        for node in queue:
            if len(batch) < size and not adjacent.get(node, set()) & set(batch):
                batch.append(node)
        queue = [node for node in queue if node not in batch]
        result.append({"name": "canary" if number == 0 and not unfinished else f"wave {len(result)}", "nodes": batch})
        number += 1
    return result
