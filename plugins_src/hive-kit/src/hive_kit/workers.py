"""Work off the thread that talks to lightningd: a pool for calls, a line for events, periodic jobs with jitter.

Exceptions of a piece of work stay in its future: they are logged and counted, and never end a thread.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from hive_kit.errors import BusyError, NotReadyError

T = TypeVar("T")
_LOG = logging.getLogger("hive_kit.workers")


class Pool:
    """Threads with a bounded queue in front."""

    def __init__(self, name: str, threads: int, limit: int) -> None:
        self.name = name
        self._limit = limit
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._pending: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self.refused = 0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue `work`.

        Raises:
            BusyError: the queue is full.
            NotReadyError: the pool has stopped.
        """
        with self._lock:
            if self._stopped:
                raise NotReadyError(f"{self.name} is stopping")
            if len(self._pending) >= self._limit:
                self.refused += 1
                raise BusyError(f"{self.name} has {self._limit} calls waiting; try again")
            future = self._executor.submit(work)
            self._pending.add(future)
        future.add_done_callback(self._done)
        return future

    def stop(self, timeout: float) -> bool:
        """Drop what waits, give what runs `timeout` seconds. Returns whether all of it ended."""
        with self._lock:
            self._stopped = True
            pending = set(self._pending)
        self._executor.shutdown(wait=False, cancel_futures=True)
        # Nobody tells `wait` about work that was dropped from the queue: it would wait for it until the end.
        return not wait({future for future in pending if not future.cancelled()}, timeout).not_done

    @property
    def waiting(self) -> int:
        """Pieces of work that wait or run."""
        with self._lock:
            return len(self._pending)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._pending.discard(future)


@dataclass
class Job:
    """A periodic job and what became of its runs. Times are seconds; `last_run` is unix time, 0 before the first."""

    name: str
    seconds: float
    work: Callable[[], None]
    jitter: float = 0.1
    runs: int = 0
    failures: int = 0
    last_run: float = 0.0
    last_error: str = ""
    running: bool = False
    due: float = field(default=0.0, repr=False)
    cancelled: bool = field(default=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """For the health answer."""
        return {
            "name": self.name,
            "runs": self.runs,
            "failures": self.failures,
            "last_run": int(self.last_run),
            "last_error": self.last_error,
        }


class Workers:
    """All background threads of one plugin. Nothing periodic runs before `start()`."""

    def __init__(self, name: str, threads: int = 4, queue: int = 256, events: int = 2_000) -> None:
        """Args: name: prefix of the thread names. threads: for calls and jobs. queue, events: bounds."""
        self.calls = Pool(f"{name}-rpc", threads, queue)
        self.events = Pool(f"{name}-events", 1, events)
        self.stopping = threading.Event()
        self._jobs_pool = Pool(f"{name}-jobs", 2, 64)
        self._wake = threading.Condition()
        self._heap: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        self._jobs: list[Job] = []
        self._scheduler = threading.Thread(target=self._schedule, name=f"{name}-scheduler", daemon=True)

    def every(
        self, seconds: float, name: str, work: Callable[[], None], *, first: float = 0.0, jitter: float = 0.1
    ) -> Job:
        """Run `work` every `seconds` ± `jitter` (a share), for the first time `first` seconds after the start.

        Two runs of one job never overlap: the time counts from the end of the run before.
        """
        job = Job(name, seconds, work, jitter)
        with self._wake:
            self._jobs.append(job)
            self._push(job, first)
        return job

    def soon(self, job: Job) -> None:
        """Run a job now instead of at its time; a job that runs just now is run again when it ends."""
        with self._wake:
            if not job.cancelled:
                self._push(job, 0.0)

    def start(self) -> None:
        """Begin with the periodic jobs."""
        self._scheduler.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop everything; `stopping` is set for work that can end early. Returns whether all ended in time."""
        self.stopping.set()
        with self._wake:
            self._wake.notify_all()
        deadline = time.monotonic() + timeout
        if self._scheduler.is_alive():
            self._scheduler.join(timeout)
        pools = (self._jobs_pool, self.events, self.calls)
        ended = [pool.stop(max(0.0, deadline - time.monotonic())) for pool in pools]  # every one, also after a False
        return all(ended)

    @property
    def alive(self) -> bool:
        """Whether the scheduler runs, as it must between start and stop."""
        return self._scheduler.is_alive()

    def jobs(self) -> list[dict[str, Any]]:
        """State of the periodic jobs."""
        with self._wake:
            return [job.as_dict() for job in self._jobs]

    def _push(self, job: Job, delay: float) -> None:
        job.due = time.monotonic() + delay
        heapq.heappush(self._heap, (job.due, next(self._numbers), job))
        self._wake.notify_all()

    def _schedule(self) -> None:
        while not self.stopping.is_set():
            with self._wake:
                if not self._heap:
                    self._wake.wait()
                    continue
                due, _, job = self._heap[0]
                delay = due - time.monotonic()
                if delay > 0:
                    self._wake.wait(delay)
                    continue
                heapq.heappop(self._heap)
                if due != job.due or job.cancelled:
                    continue  # superseded by a later soon()
                if job.running:
                    self._push(job, 0.05)
                    continue
                job.running = True
            try:
                self._jobs_pool.submit(job.work).add_done_callback(partial(self._finished, job))
            except (BusyError, NotReadyError):
                with self._wake:
                    job.running = False
                    self._push(job, 1.0)

    def _finished(self, job: Job, future: Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not self.stopping.is_set():
            _LOG.error("job %s failed: %s", job.name, error, exc_info=error)
        with self._wake:
            asked_again = job.due > 0 and any(entry[2] is job and entry[0] == job.due for entry in self._heap)
            job.running = False
            job.runs += 1
            job.last_run = time.time()
            job.last_error = "" if error is None else str(error)
            job.failures += error is not None
            if not asked_again:
                self._push(job, job.seconds * (1 + job.jitter * (2 * random.random() - 1)))
