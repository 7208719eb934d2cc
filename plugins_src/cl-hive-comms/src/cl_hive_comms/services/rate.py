"""How often somebody may ask: so many times per sliding window, for a bounded number of names."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from hive_kit.errors import LimitError


class Rate:
    """Counts per name. In memory: a restart forgives."""

    def __init__(
        self, limit: int, seconds: float, names: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: limit: calls per window. seconds: its length. names: how many are tracked at most."""
        self._limit, self._seconds, self._names, self._clock = limit, seconds, names, clock
        self._calls: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str) -> None:
        """Count one call.

        Raises:
            LimitError: there were too many, or too many names call at once. It is not counted then.
        """
        with self._lock:
            now = self._clock()
            self._forget(now)
            calls = self._calls.get(name)
            if calls is None:
                if len(self._calls) >= self._names:
                    raise LimitError("rate limit exceeded: too many senders at once; try again in a minute")
                calls = self._calls[name] = deque()
            while calls and now - calls[0] >= self._seconds:
                calls.popleft()
            if len(calls) >= self._limit:
                raise LimitError(
                    f"rate limit exceeded: at most {self._limit} in {self._seconds:g} s; wait and try again",
                    retry_after_seconds=round(self._seconds - (now - calls[0]), 1),
                )
            calls.append(now)
            self._calls.move_to_end(name)  # ordered by the last call, so that the idle ones stand in front

    def _forget(self, now: float) -> None:
        while self._calls:
            name, calls = next(iter(self._calls.items()))
            if calls and now - calls[-1] < self._seconds:
                return
            del self._calls[name]
