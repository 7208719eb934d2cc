"""From what is written about a plugin's options to what the plugin is told in init."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..configfile import ConfigLine
from ..errors import PluginFailedError
from ..options import Option, OptionTable


def init_options(options: Iterable[Option], table: OptionTable) -> dict[str, Any]:
    """Return the `options` member of init: no entry for an unset flag or for a string without value and default."""
    values: dict[str, Any] = {}
    for option in options:
        value = table.value(option.name)
        if option.kind == "flag":
            if value:
                values[option.name] = True
        elif option.multi:
            if value:
                values[option.name] = value
        elif value is not None:
            values[option.name] = value
    return values


def pluginstart_lines(path: str, table: OptionTable, given: dict[str, Any]) -> list[ConfigLine]:
    """Return the lines for options given with `plugin start`.

    Raises:
        PluginFailedError: the plugin has no such option, or the value does not fit.
    """
    lines: list[ConfigLine] = []
    for name, value in given.items():
        option = table.options.get(name)
        if option is None or option.plugin != path:
            raise PluginFailedError(f"unknown parameter {name}")
        text = None if option.kind == "flag" else _as_text(value)
        try:
            option.parse(text)
        except ValueError as error:
            raise PluginFailedError(str(error)) from None
        lines.append(ConfigLine(name, text, "pluginstart", f"plugin start: {name}={value}"))
    return lines


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
