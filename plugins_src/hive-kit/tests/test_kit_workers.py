"""Workers: bounded queues, jobs that fail and go on, order of events, an end in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
from hive_kit.errors import BusyError, NotReadyError
from hive_kit.workers import Pool, Workers
from waiting import wait_until


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers("test", threads=2, queue=3, events=3)
    yield made
    made.stop(1.0)


def test_a_full_queue_refuses_and_counts(workers: Workers) -> None:
    gate = threading.Event()
    futures = [workers.calls.submit(lambda: gate.wait(10)) for _ in range(3)]
    with pytest.raises(BusyError, match="test-rpc has 3 calls waiting; try again"):
        workers.calls.submit(lambda: True)
    assert (workers.calls.refused, workers.calls.waiting) == (1, 3)
    gate.set()
    assert all(future.result(10) for future in futures)
    wait_until(lambda: workers.calls.waiting == 0, 5, "the queue is empty")
    assert workers.calls.submit(lambda: 7).result(10) == 7


def test_events_keep_their_order() -> None:
    workers = Workers("order", events=200)
    seen: list[int] = []
    futures = [workers.events.submit(partial(seen.append, number)) for number in range(100)]
    for future in futures:
        future.result(10)
    assert seen == list(range(100))
    workers.stop(1.0)


def test_jobs_run_again_and_again_after_start_only(workers: Workers) -> None:
    runs = threading.Semaphore(0)
    job = workers.every(0.01, "tick", lambda: runs.release(), jitter=0.5)
    assert not runs.acquire(timeout=0.05)
    assert not workers.alive
    workers.start()
    assert all(runs.acquire(timeout=5) for _ in range(3))
    assert workers.alive
    wait_until(lambda: workers.jobs()[0]["runs"] >= 3, 5, "three runs are counted")
    assert job.last_run > 0
    assert job.last_error == ""


def test_a_failing_job_is_shown_and_runs_again(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ZeroDivisionError("boom")

    workers.every(0.01, "flaky", work)
    workers.start()
    wait_until(lambda: workers.jobs()[0]["failures"] == 2, 5, "two failures")
    wait_until(lambda: workers.jobs()[0]["last_error"] == "", 5, "it recovered")
    assert "job flaky failed: boom" in caplog.text


def test_one_job_never_overlaps_itself_and_soon_runs_it_once_more(workers: Workers) -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)
    running: list[int] = []
    most: list[int] = []

    def work() -> None:
        running.append(1)
        most.append(len(running))
        entered.release()
        gate.wait(10)
        running.pop()

    job = workers.every(1_000, "slow", work)
    workers.start()
    assert entered.acquire(timeout=5)
    workers.soon(job)
    workers.soon(job)
    assert not entered.acquire(timeout=0.1), "it still runs"
    gate.set()
    assert entered.acquire(timeout=5), "soon() was not forgotten"
    wait_until(lambda: job.runs == 2, 5, "two runs")
    assert not entered.acquire(timeout=0.1), "two calls of soon() are one run"
    assert max(most) == 1


def test_stop_ends_work_that_listens_and_reports_work_that_does_not() -> None:
    workers = Workers("stop")
    listening = workers.calls.submit(lambda: workers.stopping.wait(10))
    assert workers.stop(5.0)
    assert listening.result(1)
    with pytest.raises(NotReadyError, match="stop-rpc is stopping"):
        workers.calls.submit(lambda: None)

    pool, gate = Pool("deaf", 1, 5), threading.Event()
    deaf, queued = pool.submit(lambda: gate.wait(10)), pool.submit(lambda: True)
    assert not pool.stop(0.05)
    assert queued.cancelled()
    gate.set()
    assert deaf.result(5)


def test_work_that_was_dropped_from_the_queue_delays_nobody() -> None:
    pool, stopping = Pool("full", 1, 5), threading.Event()
    pool.submit(lambda: stopping.wait(10))
    dropped = [pool.submit(lambda: True) for _ in range(3)]
    threading.Timer(0.1, stopping.set).start()
    begin = time.monotonic()
    assert pool.stop(8.0)
    assert time.monotonic() - begin < 6
    assert all(future.cancelled() for future in dropped)
