"""Limits on what peers may ask of us. Bounded memory, whoever knocks."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final

from cl_hive.protocol.registry import Rate

MAX_KEYS: Final = 5_000


class RateLimiter:
    """A sliding window for each key; the keys that were quiet longest are forgotten first."""

    def __init__(self, clock: Callable[[], float], max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._times: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def allow(self, key: Hashable, rate: Rate) -> bool:
        """Count one more for the key, unless its limit is used up."""
        now = self._clock()
        times = self._times.setdefault(key, deque())
        self._times.move_to_end(key)
        while times and (times[0] <= now - rate.seconds or times[0] > now):
            times.popleft()
        if len(times) >= rate.count:
            return False
        times.append(now)
        while len(self._times) > self._max_keys:
            self._times.popitem(last=False)
        return True


class Counters:
    """Named counts of what was accepted and refused, for hive-status. The names are words of ours, never a peer's."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str) -> None:
        """One more."""
        self._counts[name] = self._counts.get(name, 0) + 1

    def get(self, name: str) -> int:
        """How many."""
        return self._counts.get(name, 0)

    def as_dict(self) -> dict[str, int]:
        """All of them, sorted."""
        return dict(sorted(self._counts.copy().items()))
