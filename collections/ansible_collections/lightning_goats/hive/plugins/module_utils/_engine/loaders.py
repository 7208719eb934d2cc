"""Lines by which somebody else loads plugins from our slots, `important-plugin` above all; all pure.

lightningd ends itself when a plugin marked as important ends, so such a plugin must not be replaced: its crash, or our
ending it when it hangs, would take the node with it. And a line that names a slot outlives the slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import _config
from .errors import HiveError

LOADERS = ("plugin", "important-plugin")


def foreign(lines: Iterable[_config.Line], argv: Iterable[str], include: Path, root: str) -> list[tuple[str, str, str]]:
    """Return (where, option, path) of everything outside the managed include that loads a plugin from our slots.

    Args:
        root: where the slots lie, as lightningd sees it.
    """
    prefix = root.rstrip("/") + "/"
    found = [
        (f"{line.file} line {line.number}", line.key, line.value)
        for line in lines
        if line.file != include and line.key in LOADERS and line.value.startswith(prefix)
    ]
    for word in argv:
        option, _, value = word.partition("=")
        if option[:2] == "--" and option[2:] in LOADERS and value.startswith(prefix):
            found.append(("the command line of lightningd", option[2:], value))
    return sorted(found, key=lambda item: item[1])


def sentence(where: str, option: str, path: str) -> str:
    """Return what is wrong with one of them and what to do."""
    name = Path(path).name
    if option == "important-plugin":
        return (
            f"{where} marks {name} as important, so lightningd would end with it; take that line out, the managed "
            "include loads it"
        )
    return f"{where} loads {name} from its slot, which the managed include does; take that line out"


def refuse(found: list[tuple[str, str, str]]) -> None:
    """Refuse to replace what somebody else loads.

    Raises:
        HiveError: there is such a line; code important-plugin or stray-plugin.
    """
    for where, option, path in found:
        code = option if option == "important-plugin" else "stray-plugin"
        raise HiveError(sentence(where, option, path), code, path=path)


def important(configs: dict[str, dict[str, object]]) -> set[str]:
    """Return the paths that the running lightningd was told to end with."""
    values = configs.get("important-plugin", {}).get("values_str", [])
    return {str(value) for value in values} if isinstance(values, list) else set()
