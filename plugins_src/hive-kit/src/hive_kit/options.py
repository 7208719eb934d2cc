"""Typed options. lightningd hands over text, numbers, booleans or nothing; a plugin sees one type, or a refusal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from hive_kit.errors import OptionError
from hive_kit.values import parse_boolean, parse_integer, split_csv

Kind = Literal["str", "int", "bool", "csv", "path"]
T = TypeVar("T")
Listener = Callable[[Any], None]


@dataclass(frozen=True)
class Option:
    """One option of a plugin.

    Args:
        name: as in the config file, for example "hive-comms-policy-preset".
        default: the value when the operator sets none: str, int, bool, or a tuple of str for csv.
        description: one sentence; `help` and the reference show it.
        kind: str, int, bool, csv (comma-separated list), path (relative ones start at the network directory).
        dynamic: may change while the plugin runs (`setconfig`).
        choices: the only values of a str, or of each csv entry.
        minimum, maximum: inclusive range of an int, or of the number of csv entries.
    """

    name: str
    default: str | int | bool | tuple[str, ...]
    description: str
    kind: Kind = "str"
    dynamic: bool = False
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None

    def parse(self, raw: Any) -> Any:
        """The typed value of what lightningd or `setconfig` hands over; None gives the default.

        Raises:
            OptionError: with a sentence that names the option and what it takes.
        """
        if raw is None:
            return self.default
        try:
            return self._parse(raw)
        except ValueError as error:
            raise OptionError(f"{self.name}: {error}") from error

    def _parse(self, raw: Any) -> Any:
        if self.kind == "bool":
            return parse_boolean(raw)
        if self.kind == "int":
            number = parse_integer(raw)
            self._check_range(number, str(number))
            return number
        if self.kind == "csv":
            entries = split_csv(raw)
            self._check_range(len(entries), f"{len(entries)} entries")
            for entry in entries:
                self._check_choice(entry)
            return entries
        if not isinstance(raw, str):
            raise ValueError(f"{raw!r} is not text")
        self._check_choice(raw)
        return raw

    def _check_choice(self, value: str) -> None:
        if self.choices and value not in self.choices:
            raise ValueError(f"{value!r} is not one of {', '.join(self.choices)}")

    def _check_range(self, number: int, shown: str) -> None:
        if self.minimum is not None and number < self.minimum:
            raise ValueError(f"{shown} is less than the minimum {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"{shown} is more than the maximum {self.maximum}")

    @property
    def wire_type(self) -> str:
        """The type that lightningd is told: "string", "int" or "bool"."""
        return self.kind if self.kind in ("int", "bool") else "string"

    @property
    def wire_default(self) -> str | int | bool:
        """The default that lightningd is told."""
        return ",".join(self.default) if isinstance(self.default, tuple) else self.default


class Options:
    """The values of a plugin's options. Thread-safe; dynamic ones may change under a reader."""

    def __init__(self, declared: Sequence[Option], raw: Mapping[str, Any], base: Path) -> None:
        """Read all options.

        Args:
            declared: what the plugin knows.
            raw: name to value, as lightningd's `init` gives it; missing names take the default.
            base: the network directory, start of relative paths.

        Raises:
            OptionError: a value is bad, or a name is not declared.
        """
        self._declared = {option.name: option for option in declared}
        self._base = base
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}
        for name in raw:
            self._known(name)
        self._values = {name: option.parse(raw.get(name)) for name, option in self._declared.items()}

    def text(self, name: str) -> str:
        """Value of a str option."""
        return self._typed(name, str)

    def number(self, name: str) -> int:
        """Value of an int option."""
        return self._typed(name, int)

    def flag(self, name: str) -> bool:
        """Value of a bool option."""
        return self._typed(name, bool)

    def entries(self, name: str) -> tuple[str, ...]:
        """Entries of a csv option."""
        return self._typed(name, tuple)

    def path(self, name: str) -> Path:
        """Value of a path option; "~" is the home directory, a relative path starts at the network directory."""
        return self._base / Path(self._typed(name, str)).expanduser()

    def set(self, name: str, raw: Any) -> None:
        """Change a dynamic option: parse, tell the listeners, then keep it. A listener that raises stops the change.

        Raises:
            OptionError: unknown, not dynamic, or a bad value.
        """
        option = self._known(name)
        if not option.dynamic:
            raise OptionError(f"{name}: changes only when the plugin starts")
        value = option.parse(raw)
        for listener in self._listeners.get(name, ()):
            listener(value)
        with self._lock:
            self._values[name] = value

    def on_change(self, name: str, listener: Listener) -> None:
        """Call `listener` with each new value of a dynamic option, before readers see it."""
        if not self._known(name).dynamic:
            raise ValueError(f"{name} is not dynamic")
        self._listeners.setdefault(name, []).append(listener)

    def as_dict(self) -> dict[str, Any]:
        """All values, as JSON."""
        with self._lock:
            return {name: list(value) if isinstance(value, tuple) else value for name, value in self._values.items()}

    def _known(self, name: str) -> Option:
        option = self._declared.get(name)
        if option is None:
            raise OptionError(f"{name}: this plugin has no such option")
        return option

    def _typed(self, name: str, kind: type[T]) -> T:
        with self._lock:
            value = self._values[name]
        if not isinstance(value, kind):
            raise TypeError(f"{name} is {type(value).__name__}, not {kind.__name__}")
        return value
