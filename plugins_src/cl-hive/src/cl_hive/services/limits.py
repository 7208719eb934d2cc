"""Limits on what peers may ask of us. Bounded memory, whoever knocks."""

from __future__ import annotations

import threading
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


class Waiting:
    """How many messages of each peer wait to be handled, so that one peer cannot fill the line. Thread-safe."""

    def __init__(self, limit: int, clock: Callable[[], float], seconds: float = 60.0) -> None:
        """Args: limit: of waiting messages of one peer. seconds: after which a message is taken for lost on the way."""
        self._limit = limit
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[float]] = {}
        self.refused = 0

    def enter(self, peer_id: str) -> bool:
        """Count one more for the peer, unless too many of it wait already."""
        now = self._clock()
        with self._lock:
            times = self._waiting.setdefault(peer_id, deque())
            while times and not times[0] <= now < times[0] + self._seconds:
                times.popleft()
            if len(times) >= self._limit:
                self.refused += 1
                return False
            times.append(now)
            return True

    def leave(self, peer_id: str) -> None:
        """One of the peer's messages is being handled."""
        with self._lock:
            times = self._waiting.get(peer_id, deque())
            if times:
                times.popleft()
            if not times:
                self._waiting.pop(peer_id, None)


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
