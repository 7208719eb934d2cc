"""Ask a plugin something every 10 ms and see for how long nobody answered."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ansible_collections.lightning_goats.hive.plugins.module_utils._engine.errors import HiveError
from ansible_collections.lightning_goats.hive.plugins.module_utils._rpc import Rpc

PERIOD_SECONDS = 0.010
# A plugin that has been away for so long after the upgrade has ended does not come back by itself.
QUIET_SECONDS = 3.0


class Poller:
    """Polls `method` on the socket of a node inside a `with` block.

    Attributes:
        answers: (when, version) of every good answer, in seconds of `time.perf_counter`.
    """

    def __init__(self, socket: Path, method: str) -> None:
        self._socket, self._method = socket, method
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self.answers: list[tuple[float, str]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join(10)

    def _poll(self) -> None:
        rpc = Rpc(self._socket, timeout=5.0)
        while not self._end.wait(PERIOD_SECONDS):
            try:
                answer: dict[str, Any] = rpc.call(self._method)
            except HiveError:
                continue
            self.answers.append((time.perf_counter(), str(answer.get("version", ""))))
        rpc.close()

    @property
    def down_seconds(self) -> float:
        """For how long it was away at a stretch; infinite when it was away at the end."""
        quiet = time.perf_counter() - self.answers[-1][0] if self.answers else float("inf")
        return float("inf") if quiet > QUIET_SECONDS else self.longest_gap_ms / 1000

    def linger(self) -> None:
        """Go on polling until somebody answers again, or it is clear that nobody will."""
        deadline = time.perf_counter() + 2 * QUIET_SECONDS
        while time.perf_counter() < deadline:
            if self.answers and time.perf_counter() - self.answers[-1][0] < 5 * PERIOD_SECONDS:
                return
            self._end.wait(PERIOD_SECONDS)

    @property
    def longest_gap_ms(self) -> float:
        """The longest time between two good answers, in milliseconds, less the period of polling."""
        times = [when for when, _ in self.answers]
        gap = max((after - before for before, after in pairwise(times)), default=float("inf"))
        return max(0.0, (gap - PERIOD_SECONDS) * 1000)
