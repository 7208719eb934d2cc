"""Keeps a scratch lightningd while its caller lives, and leaves nothing of it.

A program of its own, `python -IS -c <this source> <request>`, that runs with lightningd's rights. It starts one command
cut off from the network where the kernel lets it, says so in one line of JSON, and waits for the end of its stdin: that
comes when the caller has finished, and just as well when the caller was killed. Then it ends everything that was
started, also what has left for a session of its own, and empties the scratch directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

NEW_USER, NEW_NETWORK = 0x10000000, 0x40000000
BE_REAPER = 36
LOOK_SECONDS = 0.2
END_SECONDS = 10.0


def unshared() -> bool:
    """Leave the network: directly when that is allowed, else as the only user of a world of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NETWORK) == 0:
        return True
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(NEW_USER | NEW_NETWORK) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    except OSError:
        return False
    return os.getuid() == uid


def isolated() -> bool:
    """Leave the network if that works; tried by a child first, because half of it would leave us nobody."""
    child = os.fork()
    if child == 0:
        os._exit(0 if unshared() else 1)
    return os.waitpid(child, 0)[1] == 0 and unshared()


def children(pid: int) -> list[int]:
    """The processes below one, the nearest first, as all of /proc tells."""
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = parents.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def end_all() -> None:
    """Kill everything below this process; orphans come to us, so in the end there is nothing."""
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        for pid in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            # Whoever is dead is taken away; when there is nobody left, that is said by an error.
            while os.waitpid(-1, 0)[0]:
                pass
        except ChildProcessError:
            return


def wait(child: subprocess.Popen[bytes]) -> None:
    """Wait until the caller is gone or has had enough, or until the command has ended by itself."""
    while child.poll() is None:
        ready, _, _ = select.select([0], [], [], LOOK_SECONDS)
        if ready and not os.read(0, 1024):
            return


def main(request: dict[str, Any]) -> None:
    """Run `argv` of the request in `directory`, writing what it says to `output`."""
    os.umask(0o077)
    ctypes.CDLL(None, use_errno=True).prctl(BE_REAPER, 1, 0, 0, 0)
    directory = Path(request["directory"])
    network = request["network"] or ("namespace" if isolated() else "options")
    try:
        with Path(request["output"]).open("ab") as output:
            child = subprocess.Popen(
                request["argv"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory
            )
        sys.stdout.write(json.dumps({"network": network}) + "\n")
        sys.stdout.flush()
        wait(child)
    finally:
        end_all()
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)  # noqa: PTH108


if __name__ == "__main__":
    # Whoever ends a terminal or a session means the caller; its end is noticed by itself.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    main(json.loads(sys.argv[1]))
