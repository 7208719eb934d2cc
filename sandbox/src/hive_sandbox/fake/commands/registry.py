"""Which commands there are: those done here, those only a real lightningd does, and those of plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..params import Param, read_params

if TYPE_CHECKING:
    from ..node import Node
    from ..rpc import Request

Result = dict[str, Any]
Handler = Callable[["Node", "Request"], Awaitable[Result]]

_DATA = Path(__file__).parent.parent / "data" / "commands.tsv"
_DONE: dict[str, Command] = {}


@dataclass(frozen=True)
class Command:
    """A command done here."""

    name: str
    params: tuple[Param, ...]
    run: Handler
    # Commands with parameters of their own kind (`plugin start` with options) get them as they came.
    free_form: bool = False
    renamed: dict[str, dict[str, str]] = field(default_factory=dict)

    def of_version(self, version: str) -> Command:
        """Return the command with the parameter names of one version."""
        names = self.renamed.get(version, {})
        return replace(self, params=tuple(replace(p, name=names.get(p.name, p.name)) for p in self.params))


@dataclass(frozen=True)
class Known:
    """A command as `help` shows it. `owner` is the built-in plugin that has it, "" for lightningd itself."""

    name: str
    owner: str
    usage: str


def command(
    name: str, *params: Param, free_form: bool = False, renamed: dict[str, dict[str, str]] | None = None
) -> Callable[[Handler], Handler]:
    """Make a coroutine the handler of a command.

    Args:
        name: of the command.
        params: that it takes, in order.
        free_form: it looks at its parameters itself.
        renamed: by version, parameters that are called otherwise there.
    """

    def register(handler: Handler) -> Handler:
        _DONE[name] = Command(name, params, handler, free_form, renamed or {})
        return handler

    return register


class CommandTable:
    """All built-in commands of one version."""

    def __init__(self, node: Node, version: str) -> None:
        self.node = node
        self.known = _known(version)
        # What is not ours and not in this version's list belongs to another version.
        here = {name: own for name, own in _DONE.items() if name in self.known or name.startswith("sandbox-")}
        self.done = {name: own.of_version(version) for name, own in here.items()}
        for name, own in here.items():
            if name not in self.known:
                usage = " ".join(p.name if p.required else f"[{p.name}]" for p in own.params)
                self.known[name] = Known(name, "", usage)

    def is_core(self, name: str) -> bool:
        """Whether lightningd itself has the command: the real one crashes when a plugin registers it again."""
        known = self.known.get(name)
        return known is not None and not known.owner

    def owner_path(self, name: str) -> str | None:
        """Return the path of the plugin, built-in or not, that has the command now."""
        known = self.known.get(name)
        if known is not None and known.owner:
            return next((p.path for p in self.node.plugins.all if p.built_in and p.name == known.owner), None)
        plugin = self.node.plugins.method_owner(name)
        return plugin.path if plugin else None

    def available(self, name: str) -> Known | None:
        """Return a built-in command unless its plugin has been stopped."""
        known = self.known.get(name)
        if known is None or (known.owner and self.owner_path(name) is None):
            return None
        return known

    def names(self) -> list[tuple[str, str]]:
        """Return name and usage of every command, sorted, for `help`."""
        rows = [(known.name, known.usage) for known in self.known.values() if self.available(known.name)]
        for plugin in self.node.plugins.all:
            if plugin.manifest is not None:
                rows += [(method.name, method.usage) for method in plugin.manifest.methods]
        return sorted(rows)

    def read(self, name: str, params: Any) -> dict[str, Any]:
        """Return the checked parameters of a command that is done here."""
        return read_params(self.done[name].params, params)


def _known(version: str) -> dict[str, Known]:
    known: dict[str, Known] = {}
    for line in _DATA.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        name, owner, only, usage = line.split("\t")
        if only in ("-", version):
            known[name] = Known(name, "" if owner == "-" else owner, usage)
    return known
