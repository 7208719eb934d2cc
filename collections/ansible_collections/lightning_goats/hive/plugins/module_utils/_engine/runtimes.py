"""How a node runs: the same verbs for an ordinary process, a systemd unit and a container."""

from __future__ import annotations

from .commands import Done, execute
from .node import Node
from .runtimes_common import Runtime
from .runtimes_docker import DockerRuntime
from .runtimes_process import ProcessRuntime
from .runtimes_systemd import SystemdRuntime

__all__ = ["DockerRuntime", "Done", "ProcessRuntime", "Runtime", "SystemdRuntime", "execute", "runtime_of"]

KINDS: dict[str, type[Runtime]] = {
    "process": ProcessRuntime,
    "systemd": SystemdRuntime,
    "docker": DockerRuntime,
}


def runtime_of(node: Node) -> Runtime:
    """Return the runtime a node names."""
    return KINDS[node.runtime](node)
