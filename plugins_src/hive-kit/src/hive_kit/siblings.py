"""The other hive plugins on this node: found by asking, found again when they return, left alone while they fail.

A sibling may start later, die and come back. Each is probed by an RPC of its own with growing pauses; listeners hear of
every change, so a plugin rebinds at run time. Calls go through a breaker: a dying sibling does not hold our
threads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hive_kit.errors import UnavailableError
from hive_kit.node import UNKNOWN_METHOD, Node, RpcError
from hive_kit.workers import Job, Workers

_LOG = logging.getLogger("hive_kit.siblings")
State = Literal["unknown", "absent", "present"]
Listener = Callable[[bool], None]


@dataclass(frozen=True)
class Probe:
    """How to ask whether a plugin is there: an RPC of it that is cheap and changes nothing."""

    plugin: str
    method: str
    params: tuple[tuple[str, Any], ...] = ()
    timeout: float = 5.0


class Breaker:
    """Stops calls after repeated failures, and lets single ones through after a while until they succeed again."""

    def __init__(
        self, failures: int = 3, pause: float = 60.0, successes: int = 3, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: failures: in a row that open it. pause: seconds it stays open. successes: in a row that close it."""
        self._limit, self._pause, self._needed, self._clock = failures, pause, successes, clock
        self._failures = 0
        self._successes = 0
        self._opened: float | None = None
        self._lock = threading.Lock()

    @property
    def state(self) -> str:
        """closed: calls pass. open: they do not. half-open: they pass, and one failure opens it again."""
        with self._lock:
            if self._opened is None:
                return "closed"
            return "half-open" if self._clock() - self._opened >= self._pause else "open"

    def passed(self) -> None:
        """A call succeeded."""
        with self._lock:
            self._failures = 0
            if self._opened is not None:
                self._successes += 1
                if self._successes >= self._needed:
                    self._opened, self._successes = None, 0

    def failed(self) -> None:
        """A call failed."""
        with self._lock:
            self._failures += 1
            self._successes = 0
            if self._opened is not None or self._failures >= self._limit:
                self._opened = self._clock()

    def reset(self) -> None:
        """Forget the past: the sibling was just found again."""
        with self._lock:
            self._failures, self._successes, self._opened = 0, 0, None


class Sibling:
    """One other plugin. `call` it; ask `present` before offering what needs it."""

    def __init__(self, probe: Probe, node: Node, breaker: Breaker | None = None) -> None:
        self.probe = probe
        self.state: State = "unknown"
        self.breaker = breaker or Breaker()
        self.answer: dict[str, Any] = {}
        self._node = node
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    @property
    def present(self) -> bool:
        """Whether it answered when last asked."""
        return self.state == "present"

    def on_change(self, listener: Listener) -> None:
        """Call `listener(present)` whenever it appears or goes, on a worker thread."""
        self._listeners.append(listener)

    def call(self, method: str, params: Mapping[str, Any] | None = None, timeout: float = 10.0) -> dict[str, Any]:
        """Call one of its methods.

        Raises:
            UnavailableError: it is absent, does not answer, or failed so often that it is left alone for a while.
            RpcError: it refused; that is an answer, so the breaker does not count it.
        """
        if self.state == "absent":
            raise self._absent()
        if self.breaker.state == "open":
            raise UnavailableError(
                f"{self.probe.plugin} failed repeatedly and is left alone for a while; see its health"
            )
        try:
            result = self._node.call(method, params, timeout)
        except UnavailableError:
            self.breaker.failed()
            raise
        except RpcError as error:
            if error.code in (UNKNOWN_METHOD, -4):  # unloaded, or died while answering
                self.breaker.failed()
                self._become("absent")
                raise self._absent() from error
            raise
        self.breaker.passed()
        return result

    def look(self) -> bool:
        """Ask now whether it is there; tells the listeners of a change. Returns `present`.

        A sibling that refuses (its own error code) is there. One that does not answer in time is not.
        """
        try:
            self.answer = self._node.call(self.probe.method, dict(self.probe.params), self.probe.timeout)
        except RpcError as error:
            self._become("absent" if error.code in (UNKNOWN_METHOD, -4) else "present")
        except UnavailableError:
            self._become("absent")
        else:
            self._become("present")
        return self.present

    def _absent(self) -> UnavailableError:
        return UnavailableError(f"{self.probe.plugin} does not run on this node; start it and try again")

    def _become(self, state: State) -> None:
        with self._lock:
            before, self.state = self.state, state
        if before == state:
            return
        _LOG.info("%s is %s", self.probe.plugin, state)
        if state == "present":
            self.breaker.reset()
        for listener in self._listeners:
            listener(state == "present")


class Siblings:
    """All siblings a plugin cares for, probed in the background: every 1 to 30 s while absent, else every 30 s."""

    def __init__(self, node: Node, probes: Sequence[Probe]) -> None:
        self._siblings = {probe.plugin: Sibling(probe, node) for probe in probes}
        self._jobs: dict[str, Job] = {}
        self._workers: Workers | None = None

    def __getitem__(self, plugin: str) -> Sibling:
        return self._siblings[plugin]

    def watch(self, workers: Workers, *, first: float = 0.0, slowest: float = 30.0) -> None:
        """Probe from now on. Args: first: seconds until the first probe. slowest: longest pause in seconds."""
        self._workers = workers
        for plugin, sibling in self._siblings.items():
            self._jobs[plugin] = workers.every(
                1.0, f"probe {plugin}", self._prober(plugin, sibling, slowest), first=first
            )

    def wake(self) -> None:
        """Probe all of them now: lightningd said that a plugin started or stopped."""
        if self._workers is not None:
            for job in self._jobs.values():
                self._workers.soon(job)

    def as_dict(self) -> dict[str, Any]:
        """For status and health answers: {plugin: {state, breaker}}."""
        return {name: {"state": s.state, "breaker": s.breaker.state} for name, s in self._siblings.items()}

    def _prober(self, plugin: str, sibling: Sibling, slowest: float) -> Callable[[], None]:
        def probe() -> None:
            present = sibling.look()
            job = self._jobs[plugin]
            job.seconds = slowest if present else min(slowest, job.seconds * 2)

        return probe
