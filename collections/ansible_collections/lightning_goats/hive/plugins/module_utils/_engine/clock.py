"""Time that no one can set: seconds since this machine started, and which start that was."""

from __future__ import annotations

import functools
import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.lru_cache(maxsize=1)
def boot() -> str:
    """Return the name of this start of the machine; "" where the kernel does not tell."""
    try:
        return BOOT_ID.read_text().strip()[:13]
    except OSError:
        return ""


def uptime() -> float:
    """Return the seconds since the machine started, those it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
