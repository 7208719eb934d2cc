# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The controller's note that a run is under way: two runs of one fleet exclude each other, a dead one is resumed.

Losing the note loses nothing that a node needs: without it a rerun gets a new rollout id, and the nodes' own locks and
journals decide.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def path_for(reports: Path, fleet: str) -> Path:
    """Where the note of ``fleet`` lies."""
    safe = "".join(char if char.isalnum() or char in "-_" else "_" for char in fleet)
    return reports / f".running-{safe or 'fleet'}.json"


def read(path: Path) -> Json | None:
    """The note, None when there is none or it cannot be read or understood (a kill while it was first written)."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) and isinstance(note.get("rollout"), str) else None


def write(path: Path, rollout: str, pid: int) -> None:
    """Note that process ``pid`` of this machine runs ``rollout``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    note = {"rollout": rollout, "pid": pid, "born": born(pid), "host": socket.gethostname()}
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(note, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(path)


def remove(path: Path) -> None:
    """The run has ended."""
    path.unlink(missing_ok=True)


def born(pid: int) -> str:
    """When process ``pid`` started, as its kernel counts; "" when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[19]


def alive(note: Json, own_pid: int) -> bool:
    """Whether the noted run still goes on, in another process than ``own_pid``.

    Of another machine nothing can be said; its nodes' locks protect it, so it does not count.
    """
    if note.get("host") != socket.gethostname() or note.get("pid") == own_pid:
        return False
    birth = born(int(note.get("pid") or 0))
    return birth != "" and birth == note.get("born")
