"""Config files and command lines: which option is set where, in the order in which lightningd reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import StartError

_MAX_INCLUDES = 10


@dataclass(frozen=True)
class ConfigLine:
    """One option as somebody wrote it.

    `source` is what listconfigs shows (`cmdline`, `/path/config:4`, `pluginstart`, `setconfig transient`);
    `where` is how an error message names the place.
    """

    name: str
    value: str | None
    source: str
    where: str

    def error(self, reason: str) -> StartError:
        """Return the refusal to start because of this line."""
        return StartError(f"lightningd: {self.where}: {reason}")


def from_text(text: str, source: str, where: str) -> ConfigLine:
    """Return the option in `name` or `name=value`; blanks belong to whatever they touch."""
    name, equals, value = text.partition("=")
    return ConfigLine(name, value if equals else None, source, where)


def read(path: Path, shown: str | None = None, *, must_exist: bool) -> list[ConfigLine]:
    """Return the options of a config file and of what it includes.

    Args:
        path: the file.
        shown: how messages and `source` name it; default the path itself.
        must_exist: False: a missing file is an empty one.

    Raises:
        StartError: the file, or one it includes, cannot be read.
    """
    return _read(path, shown or str(path), must_exist, 0)


def _read(path: Path, shown: str, must_exist: bool, depth: int) -> list[ConfigLine]:
    if depth > _MAX_INCLUDES:
        raise StartError(f"lightningd: {shown}: includes go deeper than {_MAX_INCLUDES} files")
    try:
        content = path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError as missing:
        if must_exist:
            raise StartError(f"lightningd: Opening and reading {shown}: {missing.strerror}") from None
        return []
    except OSError as error:
        raise StartError(f"lightningd: Opening and reading {shown}: {error.strerror}") from None
    lines: list[ConfigLine] = []
    # A CR ends a line too, so that a file from Windows has twice as many.
    for number, line in enumerate(re.split("[\r\n]", content), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("include "):
            included = path.parent / line.removeprefix("include ")
            lines += _read(included, str(included), True, depth + 1)
            continue
        lines.append(from_text(line, f"{shown}:{number}", f"Config file {shown} line {number}: {line}"))
    return lines


def from_arguments(arguments: list[str], takes_value: frozenset[str]) -> list[ConfigLine]:
    """Return the options of a command line.

    Args:
        arguments: without the program's name.
        takes_value: names whose value may stand in the next argument.

    Raises:
        StartError: an argument is no option.
    """
    lines: list[ConfigLine] = []
    waiting = list(arguments)
    short = {"-h": "--help", "-V": "--version"}
    while waiting:
        argument = short.get(waiting[0], waiting[0])
        waiting.pop(0)
        if not argument.startswith("--"):
            raise StartError(f"lightningd: {argument}: no arguments accepted, only options")
        line = from_text(argument[2:], "cmdline", argument)
        if line.value is None and line.name in takes_value and waiting:
            line = ConfigLine(line.name, waiting.pop(0), "cmdline", argument)
        lines.append(line)
    return lines
