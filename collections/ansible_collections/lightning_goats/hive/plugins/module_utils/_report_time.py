# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Times and lengths of time as people say them. Pure, controller only."""

from __future__ import annotations

import time
from itertools import pairwise

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """A length of time in its two largest units, for example ``2 d 3 h``; below ten seconds with a decimal."""
    if seconds <= 0:
        return "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for (unit, size), (smaller, small) in pairwise(UNITS):
        # Rounded first: what is a second short of a day is a day.
        rounded = round(seconds / small) * small
        if rounded >= size:
            rest = rounded % size // small
            return f"{rounded // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s"


def clock(moment: float | None) -> str:
    """A time for people, in UTC; ``-`` for none."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment))


def local(moment: float) -> str:
    """A time for people, as the clock on the wall of this machine shows it."""
    return time.strftime("%a %Y-%m-%d %H:%M %Z", time.localtime(moment)).rstrip()


def minutes(seconds: float) -> str:
    """Elapsed time as a clock counts it: ``0:07``, ``12:00``, ``1:02:03``."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
