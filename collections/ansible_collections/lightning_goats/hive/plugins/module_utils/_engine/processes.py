"""What /proc says about lightningd and its plugins; nothing here is ever told to stop by name."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from dataclasses import dataclass
from pathlib import Path

from .._waiting import wait_for

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# struct flock: type, whence, start, length, pid.
FLOCK = "hhqqi4x"


@dataclass(frozen=True)
class Identity:
    """One life of one process: a pid that is used again has another start.

    Attributes:
        started: clock ticks since boot.
    """

    pid: int
    started: int

    @property
    def started_at(self) -> float:
        """Unix time of its start, to a hundredth of a second."""
        return round(boot_time() + self.started / TICKS, 2)


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the command name, which may itself hold blanks and brackets."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return text.rpartition(")")[2].split()


def boot_time() -> float:
    """Return the unix time the machine started."""
    for line in (PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def identity(pid: int) -> Identity | None:
    """Return who `pid` is now; None when it is gone or a zombie."""
    fields = _stat(pid) if pid > 0 else []
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return Identity(pid, int(fields[19]))


def parent(pid: int) -> int:
    """Return the process that a process belongs to; 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[1]) if len(fields) > 1 else 0


def alive(who: Identity | None) -> bool:
    """Whether that very process still runs."""
    return who is not None and identity(who.pid) == who


def lock_holder(path: Path) -> int:
    """Return the process that holds a lock on a file (as lightningd on its pid file); 0 when nobody does."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        asked = struct.pack(FLOCK, fcntl.F_RDLCK, 0, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    finally:
        os.close(handle)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def arguments(pid: int) -> list[str]:
    """Return argv of a process; empty when it is gone or a kernel thread."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    found: list[int] = []
    try:
        for task in (PROC / str(pid) / "task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return _children_by_scan(pid)
    return found


def _children_by_scan(pid: int) -> list[int]:
    """The slow way, for kernels without /proc/<pid>/task/<tid>/children."""
    found = []
    for directory in PROC.iterdir():
        if directory.name.isdigit():
            fields = _stat(int(directory.name))
            if len(fields) > 1 and int(fields[1]) == pid:
                found.append(int(directory.name))
    return found


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it is gone."""
    try:
        return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError):
        return 0


def plugin_processes(lightningd_pid: int, directory: str) -> list[int]:
    """Return the children of lightningd that run something inside `directory` (a slot, as they see it)."""
    prefix = directory.rstrip("/") + "/"
    return [pid for pid in children(lightningd_pid) if any(word.startswith(prefix) for word in arguments(pid)[:4])]


def in_use(directory: str, here: Path | None = None) -> bool:
    """Whether any process of this machine runs something inside `directory`, as that process sees it.

    Args:
        here: the same directory as this machine sees it; containers may have different ones at one path.
    """
    prefix = directory.rstrip("/") + "/"
    numbers = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
    users = (pid for pid in numbers if any(word.startswith(prefix) for word in arguments(pid)[:4]))
    return any(here is None or _sees(pid, directory, here) for pid in users)


def _sees(pid: int, directory: str, here: Path) -> bool:
    try:
        return (PROC / str(pid) / "root" / directory.lstrip("/")).samefile(here)
    except OSError:
        # One that is gone uses nothing; what cannot be looked at counts as in use while there is something to use.
        return identity(pid) is not None and here.exists()


def end_process(pid: int, lightningd_pid: int, directory: str) -> bool:
    """Kill one plugin process after making sure that it still is that child of lightningd; False when it is not."""
    handle = -1
    try:
        if hasattr(os, "pidfd_open"):
            # Holding the process keeps its number from being given to another between the look and the signal.
            handle = os.pidfd_open(pid)
        if pid not in plugin_processes(lightningd_pid, directory):
            return False
        if handle >= 0 and hasattr(signal, "pidfd_send_signal"):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        if handle >= 0:
            os.close(handle)
    return True


def wait_gone(who: Identity, seconds: float) -> bool:
    """Wait until that process has ended; whether it did."""
    return wait_for(lambda: None if alive(who) else True, seconds) is not None
