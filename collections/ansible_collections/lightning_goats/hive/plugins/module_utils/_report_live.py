# Copyright (c) 2026 Lightning Hive Rollout contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The last line of a terminal, which says what goes on and for how long, and is replaced. Controller only."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TextIO

from ansible_collections.lightning_goats.hive.plugins.module_utils._report_soak import bar
from ansible_collections.lightning_goats.hive.plugins.module_utils._report_time import minutes

CLEAR = "\r\x1b[2K"
EVERY_SECONDS = 1.0
FALLBACK_COLUMNS = 80
# Below this a clock that counts says nothing.
TELLING_SECONDS = 3.0
LEAST_WORDS = 10


def columns(stream: TextIO) -> int:
    """How wide the terminal is now; it may be resized while a run goes on."""
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or FALLBACK_COLUMNS
    return FALLBACK_COLUMNS


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor or colour it: log lines come from nodes."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def fitting(text: str, width: int) -> str:
    """``text`` in one line of at most ``width`` characters."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= width else f"{flat[: max(width - 3, 0)]}..."


@dataclass
class Activity:
    """What goes on.

    Attributes:
        words: the task, with its stage.
        window: for how many seconds the nodes are watched, 0 when they are not.
        samples: how many a node has taken that are known here: a window is looked at in parts.
        begun: since when, on a clock that only goes forward.
    """

    words: str
    window: float = 0.0
    samples: int = 0
    begun: float = field(default_factory=time.monotonic)

    def line(self, width: int) -> str:
        """The activity in one line of at most ``width`` characters; words give way to the clock."""
        passed = time.monotonic() - self.begun
        clock = ""
        if self.window > 0:
            share = round(100 * min(passed / self.window, 1.0))
            taken = f" {self.samples} samples so far" if self.samples else ""
            clock = f"  {minutes(passed)} of {minutes(self.window)} [{bar(share, 12)}]{taken}"
        elif passed >= TELLING_SECONDS:
            clock = f"  {minutes(passed)}"
        return f"{fitting(self.words, max(width - len(clock), LEAST_WORDS))}{clock}"[:width]


class LiveLine:
    """One line at the bottom of a terminal; nothing at all where the stream is none.

    Args:
        stream: where lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._activity: Activity | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker: threading.Thread | None = None
        self._drawn = False

    @property
    def shown(self) -> bool:
        """Whether there is a terminal to show it on."""
        return bool(self._stream.isatty())

    def tell(self, activity: Activity) -> None:
        """Show what goes on from now on, in place of what was shown."""
        if not self.shown:
            return
        with self._lock:
            self._activity = activity
            self._draw()
        if self._ticker is None:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def above(self, write: Callable[[], Any]) -> None:
        """Let ``write`` print lines that stay, and show what goes on below them again."""
        with self._lock:
            self._wipe()
            write()
            if self._activity is not None:
                self._draw()

    def end(self) -> None:
        """Take the line away for good."""
        self._over.set()
        if self._ticker is not None:
            self._ticker.join()
        with self._lock:
            self._activity = None
            self._wipe()

    def _tick(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            with self._lock:
                if self._activity is not None:
                    self._draw()

    def _draw(self) -> None:
        assert self._activity is not None, "there is something to draw"
        # The last column stays free: some terminals would break the line there.
        text = f"  ... {self._activity.line(columns(self._stream) - 7)}"
        self._put(CLEAR + text)
        self._drawn = True

    def _wipe(self) -> None:
        if self._drawn:
            self._put(CLEAR)
            self._drawn = False

    def _put(self, text: str) -> None:
        # Past Python's own buffer: Ansible forks its workers, and one of them must not inherit a lock that this thread
        # holds, nor half a line.
        self._stream.flush()
        with contextlib.suppress(OSError):
            os.write(self._stream.fileno(), text.encode(self._stream.encoding or "utf-8", "replace"))
