"""setconfig: changing an option while the node runs, and writing it down for the next start."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .configfile import ConfigLine
from .errors import INVALID_PARAMS, RpcError
from .jsontext import dumps
from .params import bad_param, string
from .plugins.process import Plugin

if TYPE_CHECKING:
    from .node import Node

_HEADER = "# Created and update by setconfig, but you can edit this manually when node is stopped."


async def set_config(node: Node, name: str, value: Any, transient: bool, client_id: str) -> dict[str, Any]:
    """Set a dynamic option and return its entry as setconfig shows it.

    Raises:
        RpcError: there is no such option, it is not dynamic, the value does not fit, the file cannot be written.
    """
    option = node.options.options.get(name)
    if option is None:
        raise bad_param("config", "Unknown config option")
    if not option.dynamic:
        node.log.debug("lightningd", f"setconfig: {name} is not dynamic")
        raise bad_param("config", "Not a dynamic config option")
    text = None if value is None or option.kind == "flag" else string(value)
    path = _config_path(node)
    if not transient and not _writable(path, node):
        raise RpcError(INVALID_PARAMS, f"Cannot write to config file {path}")
    owner = next((p for p in node.plugins.all if p.path == option.plugin and not p.built_in), None)
    if owner is not None:
        # The plugin sees the text first, and its word about a bad value is the answer.
        await _tell(node, owner, name, text, client_id)
    try:
        option.parse(text)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, f"Error setting {name}: {error}") from None
    node.crash_on_orphans()
    source = "setconfig transient"
    if not transient:
        source = _write(path, name, text)
        node.log.info("lightningd", f"setconfig: {name} {text} (updated {source})")
    node.options.set_line(ConfigLine(name, text, source, f"setconfig {name}={text}"))
    return {"config": name, **(node.options.describe(name) or {})}


async def _tell(node: Node, owner: Plugin, name: str, text: str | None, client_id: str) -> None:
    """Ask the plugin to take the value.

    Raises:
        RpcError: it refused.
    """
    params = {"config": name} if text is None else {"config": name, "val": text}
    reply = await node.plugins.ask(owner, "setconfig", dumps(params), client_id)
    error = reply.value.get("error")
    if isinstance(error, dict):
        raise RpcError(int(error.get("code", INVALID_PARAMS)), str(error.get("message")), error.get("data"))


def _config_path(node: Node) -> Path:
    """Return the config file to which setconfig adds its include."""
    conf = node.options.value("conf")
    return Path(conf).resolve() if conf else node.network_dir / "config"


def _writable(path: Path, node: Node) -> bool:
    if node.faults.has("setconfig-read-only"):
        return False
    return os.access(path if path.exists() else path.parent, os.W_OK)


def _write(path: Path, name: str, text: str | None) -> str:
    """Write the option into the file of setconfig and see that the config file includes it; return its source."""
    own = path.with_name(path.name + ".setconfig")
    included = f"include {own.name}"
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    if included not in content.splitlines():
        stamp = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime())
        if content and not content.endswith("\n"):
            content += "\n"
        path.write_text(f"{content}# Inserted by setconfig {stamp}\n{included}\n", encoding="utf-8")
    lines = own.read_text(encoding="utf-8").splitlines() if own.exists() else [_HEADER]
    line = name if text is None else f"{name}={text}"
    place = next((at for at, old in enumerate(lines) if old == name or old.startswith(f"{name}=")), len(lines))
    lines[place : place + 1] = [line]
    own.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"{own}:{place + 1}"
