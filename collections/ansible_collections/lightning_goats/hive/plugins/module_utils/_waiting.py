"""Waiting for what announces itself to nobody: another process, a lock, an answer of lightningd."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

Answer = TypeVar("Answer")


def wait_for(ask: Callable[[], Answer | None], seconds: float, every: float = 0.01) -> Answer | None:
    """Ask again and again until there is an answer, at least once and a last time when the time has passed.

    Args:
        ask: returns None while it is not decided yet; what it raises ends the wait.
        seconds: how long at the most.
        every: seconds between two questions.

    Returns:
        The first answer that is not None; None when the time has passed without one.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        left = deadline - time.monotonic()
        if answer is not None or left <= 0:
            return answer
        # flock has no time-out, other people's processes have no wait, and a file that appears wakes nobody up.
        time.sleep(min(every, left))
