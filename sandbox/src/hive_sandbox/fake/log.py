"""The log: levels, line format, files, and what `getlog` remembers."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LEVELS = ("io", "trace", "debug", "info", "unusual", "broken")
_SHOWN = {"io": "IO", "trace": "TRACE", "debug": "DEBUG", "info": "INFO", "unusual": "UNUSUAL", "broken": "**BROKEN**"}
_PLUGIN_LEVELS = {"warn": "unusual", "warning": "unusual", "error": "broken", **{level: level for level in LEVELS}}
_REMEMBERED_LINES = 20_000


def level_of_plugin(name: str) -> str | None:
    """Return the level that a plugin means by `name`, None for a word that is no level."""
    return _PLUGIN_LEVELS.get(name)


@dataclass(frozen=True)
class Entry:
    """One line of the log. `at` is unix time in nanoseconds."""

    level: str
    at: int
    source: str
    text: str

    def line(self) -> str:
        """Return the line as it stands in a log file."""
        return f"{iso(self.at)} {_SHOWN[self.level]:<7} {self.source}: {self.text}"

    def size(self) -> int:
        """Return about how many bytes the entry takes."""
        return len(self.text) + len(self.source) + 32


def iso(nanoseconds: int) -> str:
    """Return a time as lightningd writes it: 2026-11-22T12:02:47.939Z."""
    moment = time.gmtime(nanoseconds // 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{nanoseconds // 1_000_000 % 1000:03d}Z"


def printable(text: str) -> str:
    """Return `text` with control characters as the question marks that lightningd writes."""
    return "".join("?" if ord(character) < 32 or ord(character) == 127 else character for character in text)


class LogBook:
    """Everything the node says about itself. Unusual and broken lines are also given to `on_warning`."""

    def __init__(self, bytes_max: int) -> None:
        self.created_at = time.time_ns()
        self.bytes_max = bytes_max
        self.entries: deque[Entry] = deque(maxlen=_REMEMBERED_LINES)
        self.on_warning: Callable[[Entry], None] | None = None
        self._level = LEVELS.index("info")
        self._level_of: list[tuple[str, int]] = []
        self._paths: list[str] = []
        self._files: list[IO[str]] = []
        self._unwritten: list[Entry] | None = []

    def set_level(self, value: str) -> str | None:
        """Set the level, or with `level:part` that of sources whose name contains `part`; return what is wrong."""
        name, _, part = value.partition(":")
        if name not in LEVELS:
            return f"unknown log level {name}"
        if part:
            self._level_of.append((part, LEVELS.index(name)))
        else:
            self._level = LEVELS.index(name)
        return None

    def open(self, paths: list[str]) -> None:
        """Begin to write to `paths`; "-" and no path at all mean stdout.

        Raises:
            OSError: a file cannot be opened.
        """
        self._paths = paths
        self._files = [_open(path) for path in paths or ["-"]]
        waiting, self._unwritten = self._unwritten or [], None
        for entry in waiting:
            self._write(entry)
        for path in paths:
            if path != "-":
                self.debug("lightningd", f"Opened log file {path}")

    def reopen(self) -> None:
        """Close the files and open them anew, for log rotation (SIGHUP)."""
        if not self._paths:
            return
        self.info("lightningd", "Ending log due to SIGHUP")
        for file in self._files:
            if file is not sys.stdout:
                file.close()
        self._files = [_open(path) for path in self._paths]
        self.info("lightningd", "Started log due to SIGHUP")

    def add(self, level: str, source: str, text: str) -> None:
        """Log one line."""
        entry = Entry(level, time.time_ns(), source, printable(text))
        self.entries.append(entry)
        if self._unwritten is not None:
            self._unwritten.append(entry)
        else:
            self._write(entry)
        if self.on_warning is not None and level in ("unusual", "broken"):
            self.on_warning(entry)

    def debug(self, source: str, text: str) -> None:
        """Log at level debug."""
        self.add("debug", source, text)

    def info(self, source: str, text: str) -> None:
        """Log at level info."""
        self.add("info", source, text)

    def unusual(self, source: str, text: str) -> None:
        """Log at level unusual."""
        self.add("unusual", source, text)

    def broken(self, source: str, text: str) -> None:
        """Log at level broken."""
        self.add("broken", source, text)

    def _write(self, entry: Entry) -> None:
        threshold = next((level for part, level in self._level_of if part in entry.source), self._level)
        if LEVELS.index(entry.level) < threshold:
            return
        for file in self._files:
            file.write(entry.line() + "\n")
            file.flush()


def _open(path: str) -> IO[str]:
    return sys.stdout if path == "-" else Path(path).open("a", encoding="utf-8")
