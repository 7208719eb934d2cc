"""Wait for a condition instead of sleeping: shared by every test that looks at another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float, what: str, interval: float = 0.02) -> T:
    """Return the first truthy value of `predicate`.

    Args:
        predicate: asked again and again; an exception it raises is the test's failure.
        timeout: seconds to wait.
        what: the sentence of the failure, for example "alpha answers getinfo".
        interval: seconds between two questions.

    Raises:
        AssertionError: the condition did not hold in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(interval)
