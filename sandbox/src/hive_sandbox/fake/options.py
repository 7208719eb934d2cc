"""The options that exist, their types and their values, as listconfigs and setconfig see them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .configfile import ConfigLine

_DATA = Path(__file__).parent / "data" / "options.json"
_TRUE = ("true", "True", "1", "yes")
_FALSE = ("false", "False", "0", "no")
_MSAT_MAX = 2**64 - 1


@dataclass
class Option:
    """One option. `kind` is flag, str, int, bool, msat, multi-str or multi-int; `plugin` owns it ("" = lightningd)."""

    name: str
    kind: str
    default: Any = None
    plugin: str = ""
    dynamic: bool = False
    description: str = ""
    deprecated: bool = False

    @property
    def multi(self) -> bool:
        """Whether every line counts, not only the last one."""
        return self.kind.startswith("multi-")

    @property
    def takes_value(self) -> bool:
        """Whether it is written with a value."""
        return self.kind != "flag"

    def parse(self, text: str | None) -> Any:
        """Return the value that `text` means.

        Raises:
            ValueError: it means none; the message is lightningd's reason.
        """
        if self.kind == "flag":
            if text is not None:
                raise ValueError("doesn't allow an argument")
            return True
        if text is None:
            raise ValueError("requires an argument")
        kind = self.kind.removeprefix("multi-")
        if kind == "int":
            return _integer(text)
        if kind == "msat":
            return _integer(text.removesuffix("msat"))
        if kind == "bool":
            if text in _TRUE:
                return True
            if text in _FALSE:
                return False
            raise ValueError(f"Invalid argument '{text}'")
        return text


def _integer(text: str) -> int:
    try:
        return int(text, 10)
    except ValueError:
        raise ValueError(f"'{text}' is not a number") from None


def core_options(version: str) -> list[Option]:
    """Return lightningd's own options and those of its built-in plugins, for one version."""
    rows: list[dict[str, Any]] = json.loads(_DATA.read_text(encoding="utf-8"))
    return [
        Option(
            row["name"],
            row["kind"],
            row.get(f"default-{version}", row.get("default")),
            row.get("plugin", ""),
            row.get("dynamic", False),
        )
        for row in rows
        if row.get("only", version) == version
    ]


@dataclass
class OptionTable:
    """All options that are registered now, and every line ever written about any option.

    Lines outlive the plugin they belong to: lightningd gives them back to it when it starts again.
    """

    options: dict[str, Option] = field(default_factory=dict)
    lines: list[ConfigLine] = field(default_factory=list)
    # Given with `plugin start`: they win, and go when the plugin goes.
    started: list[ConfigLine] = field(default_factory=list)

    def register(self, options: Iterable[Option]) -> None:
        """Add options; the caller has checked that their names are free."""
        for option in options:
            self.options[option.name] = option

    def unregister(self, plugin: str) -> None:
        """Remove the options of one plugin, not what was written about them in files and by setconfig."""
        for name in [name for name, option in self.options.items() if option.plugin == plugin and plugin]:
            del self.options[name]
            self.started = [line for line in self.started if line.name != name]

    def orphans(self) -> list[ConfigLine]:
        """Return the lines whose option is not registered: written for a plugin that is not there now."""
        return [line for line in self.lines if line.name not in self.options]

    def lines_for(self, name: str) -> list[ConfigLine]:
        """Return the lines about one option, in order of their weight: the last one wins."""
        return [line for line in self.lines + self.started if line.name == name]

    def set_line(self, line: ConfigLine) -> None:
        """Let `line` replace all lines about its option."""
        self.lines = [other for other in self.lines if other.name != line.name] + [line]

    def value(self, name: str) -> Any:
        """Return the value in force: a list for multi options, False for a flag that is not set."""
        option = self.options[name]
        lines = self.lines_for(name)
        if option.multi:
            return [option.parse(line.value) for line in lines] or list(option.default or [])
        if not lines:
            return False if option.kind == "flag" else option.default
        return option.parse(lines[-1].value)

    def describe(self, name: str) -> dict[str, Any] | None:
        """Return the listconfigs entry of an option, None when it has neither a value nor a default."""
        option = self.options[name]
        lines = self.lines_for(name)
        entry: dict[str, Any] = {}
        if option.multi:
            key = "values_int" if option.kind == "multi-int" else "values_str"
            if lines or option.default is None:
                entry = {key: [option.parse(line.value) for line in lines], "sources": [line.source for line in lines]}
            else:
                entry = {key: list(option.default), "sources": ["default"] * len(option.default)}
        else:
            value = self.value(name)
            if value is None:
                return None
            key = "set" if option.kind == "flag" else f"value_{option.kind}"
            entry = {key: value, "source": lines[-1].source if lines else "default"}
        if option.plugin:
            entry["plugin"] = option.plugin
        if option.dynamic:
            entry["dynamic"] = True
        return entry
